"""What opens the way to an OTLP target: its TLS files, and what third parties' credential providers make."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from .._config.otlp import OtlpTarget
from .._config.otlp_variables import CREDENTIAL_PROVIDERS
from .._config.secrets import redact
from .._runtime.guard import from_signal_handler
from .._runtime.imports import import_module, load_entry_point

T = TypeVar("T")


class CredentialError(Exception):
    """A third party's credentials could not be had; the text is the warning."""


def provided_credentials(target: OtlpTarget, kind: type[T]) -> T | None:
    """Return what the credential provider makes, which must be a ``kind``; None if there is no provider."""
    if not target.credential_provider:
        return None
    where = f"{target.credential_variable}={target.credential_provider!r} cannot be used"
    try:
        make = load_entry_point(CREDENTIAL_PROVIDERS, target.credential_provider)
        made: object = make and make()
    except Exception as error:
        if from_signal_handler(error):
            raise
        reason = redact(f"{type(error).__name__}: {error}")
        raise CredentialError(f"{where} ({reason}); what would need it is not sent.") from error
    if not isinstance(made, kind):
        raise CredentialError(f"{where} (it makes no {kind.__name__}); what would need it is not sent.")
    return made


def channel_credentials(target: OtlpTarget) -> object | None:
    """Return the ``grpc.ChannelCredentials`` of a channel to ``target``; None if it goes without TLS."""
    grpc = import_module("grpc")
    provided: object | None = provided_credentials(target, grpc.ChannelCredentials)
    if provided is not None or target.insecure:
        return provided
    files = (target.ca_file, target.key_file, target.certificate_file)
    contents = (Path(name).read_bytes() if name else None for name in files)
    made: object = grpc.ssl_channel_credentials(*contents)
    return made
