"""Starts the recorder in a worker, and steps aside for the ``sitecustomize`` that there would be without it.

Python imports this before the worker's program, since the launcher has put this directory first on the
worker's ``PYTHONPATH``. It takes that back before anything else, so that neither the program nor its children
see it.
"""

import os
import sys

_NAME = "sitecustomize"
_PACKAGE = "_torchelastic_otel_worker"
_VARIABLE = "_TORCHELASTIC_OTEL_RECORDER"


def _take_back() -> str:
    """Undo what the launcher did to the environment and the path; return what it says to the recorder."""
    directory = os.path.dirname(os.path.abspath(__file__))
    told = os.environ.pop(_VARIABLE, "")
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if directory in entries:
        entries.remove(directory)
        if entries or told.endswith(" set"):
            os.environ["PYTHONPATH"] = os.pathsep.join(entries)
        else:
            del os.environ["PYTHONPATH"]  # an empty entry would be the working directory
    sys.path[:] = [entry for entry in sys.path if entry != directory]
    sys.path_importer_cache.pop(directory, None)
    return told


def _record(told: str) -> None:
    """Start the recorder, if this is the worker that it is meant for, and no child of it."""
    launcher, descriptor = (int(number) for number in told.split()[:2])
    if os.getppid() != launcher:
        return
    package = type(sys)(_PACKAGE)
    package.__path__ = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
    sys.modules[_PACKAGE] = package
    recorder = __import__(_PACKAGE + ".recorder", fromlist=["start"])
    recorder.start(launcher, descriptor)


def _run_next() -> None:
    """Run the next one as Python would; without one, say as Python does that there is none."""
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        spec = find(_NAME, None, None) if find is not None else None
        if spec is not None and spec.loader is not None:
            module = type(sys)(_NAME)
            module.__spec__, module.__loader__ = spec, spec.loader
            module.__file__ = spec.origin
            module.__package__ = spec.parent
            sys.modules[_NAME] = module
            spec.loader.exec_module(module)
            return
    raise ImportError("No module named " + repr(_NAME), name=_NAME)


try:
    _told = _take_back()
    if _told:
        _record(_told)
except Exception:  # noqa: S110  # without a recorder, then: the worker comes first
    pass
_run_next()
