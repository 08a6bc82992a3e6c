"""OpenTelemetry destination for the events of PyTorch Elastic (torchrun).

With the package installed, ``torchrun --event-log-handler otel …`` exports the job's events; no import is
needed. In a program that launches by itself, or in a worker that records events of its own, importing this
package is enough to make the destination known to torch.
"""

from ._api import (
    attach_worker_context,
    checkpoint,
    flush,
    instrument,
    step,
    uninstrument,
    worker_tracer_provider,
)
from ._torch.hooks import hooks as _hooks
from ._version import __version__

__all__ = [
    "__version__",
    "attach_worker_context",
    "checkpoint",
    "flush",
    "instrument",
    "step",
    "uninstrument",
    "worker_tracer_provider",
]

_hooks.install()
