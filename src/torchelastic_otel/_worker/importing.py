"""Does something to a module of the program's once it is imported, and not before."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
"""Type checkers know it as true; `typing` takes long to import."""
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class _Waiting:
    """Sees modules imported. It finds nothing itself, and is gone when it waits for none any more."""

    def __init__(self) -> None:
        self.wanted: dict[str, Callable[[], None]] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return what the others find, with a loader that says when it is done."""
        wanted = self.wanted.pop(name, None)
        if wanted is None:
            return None
        if not self.wanted and self in sys.meta_path:
            sys.meta_path.remove(self)
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(name, path, target) if find is not None else None
            if spec is not None:
                _call_after(spec, wanted)
                return spec
        return None


_waiting = _Waiting()


def when_imported(name: str, then: Callable[[], None]) -> None:
    """Call ``then`` when the module is imported; at once if it is."""
    if name in sys.modules:
        then()
        return
    _waiting.wanted[name] = then
    if _waiting not in sys.meta_path:
        sys.meta_path.insert(0, _waiting)


def _call_after(spec: ModuleSpec, then: Callable[[], None]) -> None:
    loader = spec.loader
    if loader is None or isinstance(loader, type):
        return  # built in: it is nobody's own, and cannot be told apart
    original = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        del loader.exec_module  # ours, which hid the class's
        original(module)
        try:
            then()
        except Exception:
            return  # without it, then: the program's import is what counts

    loader.exec_module = exec_module  # type: ignore[method-assign]  # each spec has a loader of its own
