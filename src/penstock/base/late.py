"""Modules that are loaded when they are first used, so that a command does not wait for what it does not need.

    with late_imports():
        from penstock.main import trace_access

`trace_access` is then a stand-in: the first attribute that is asked of it loads the module. Only modules of ours can
be named in such a block, never names out of them, and the block stands last of a file's imports, at its top, where
readers, type checkers and import-linter see it. The surprise: the stand-in stays what the importing file holds and
passes everything on, so that a module is executed once, by the import system and under its locks, whichever thread
asks first.
"""

import importlib
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, cast

_ROOT = "penstock."
_TAKING_OVER = threading.Lock()
_finding = threading.local()


class LateModule(ModuleType):
    """Stands in for a module until something of it is used, and passes everything on ever after."""

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]  # what is patched is looked up here and put back
        return load(self).__dict__

    def __getattr__(self, name: str) -> Any:
        if _is_of_imports(name):
            raise AttributeError(f"what stands in for module {self.__name__!r} has no {name!r}")
        return getattr(load(self), name)

    def __setattr__(self, name: str, value: object) -> None:
        if _is_of_imports(name):
            super().__setattr__(name, value)
        else:
            setattr(load(self), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(load(self), name)

    def __dir__(self) -> list[str]:
        return dir(load(self))


@contextmanager
def late_imports() -> Iterator[None]:
    """Let the imports of modules of ours inside the block load them when they are first used.

    A module that is loaded already is given as it is, packages always. A module that does not exist is an
    `ImportError` at once. Other threads are not concerned.
    """
    # Put there to stay: were it taken out, a thread that walks along the list would skip the finder after it.
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    was_late = getattr(_finding, "is_late", False)
    _finding.is_late = True
    try:
        yield
    finally:
        _finding.is_late = was_late


def load(late: ModuleType) -> ModuleType:
    """Return the module that `late` stands in for, executed; raise what its execution raises."""
    name = late.__name__
    found = sys.modules.get(name)
    if found is not None and not isinstance(found, LateModule):
        return importlib.import_module(name)  # waits where another thread is executing it
    was_late = getattr(_finding, "is_late", False)
    _finding.is_late = False
    try:
        with _TAKING_OVER:
            if sys.modules.get(name) is late:
                del sys.modules[name]
        return importlib.import_module(name)
    finally:
        _finding.is_late = was_late


class _LateFinder:
    """Gives modules of ours a loader that waits; asked before the finders of the interpreter."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where `name` is, with a loader that makes a stand-in; None leaves it to the usual finders."""
        if not name.startswith(_ROOT) or not getattr(_finding, "is_late", False):
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is None or spec.submodule_search_locations is not None:
            return None
        spec.loader = cast("Any", _LateLoader())  # `importlib.abc` would cost more than it gives
        return spec


class _LateLoader:
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return LateModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Execute nothing: the module is executed by `load`."""


_FINDER = _LateFinder()


def _is_of_imports(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")
