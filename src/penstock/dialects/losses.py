"""What a request said and the target's dialect cannot: gathered in order, each path once."""

from collections.abc import Iterable
from typing import Any

from penstock.spec.hub import HubRequest
from penstock.spec.routes import DialectName

HARMLESS: dict[str, tuple[Any, ...]] = {
    "store": (False,),
    "background": (False,),
    "truncation": ("disabled",),
    "service_tier": ("auto", "default"),
    "include": (["reasoning.encrypted_content"], []),
    "stream_options": ({"include_obfuscation": False}, {}),
    "prompt_cache_key": (),
    "prompt_cache_retention": (),
    "safety_identifier": (),
}
"""Members whose loss changes no answer: with these values, or with any where none is listed."""


class Losses:
    """An ordered set of paths."""

    def __init__(self) -> None:
        self._paths: dict[str, None] = {}

    def add(self, path: str) -> None:
        """Note that what stands at `path` was left out."""
        self._paths[path] = None

    def add_all(self, paths: Iterable[str]) -> None:
        """Note several."""
        self._paths.update(dict.fromkeys(paths))

    def if_said(self, path: str, value: object) -> None:
        """Note `path` unless its value is one that says nothing: None, False, or empty."""
        if value is not None and value is not False and value not in ("", [], {}):
            self._paths[path] = None

    def unless_from(
        self, dialect: DialectName, request: HubRequest, kept: Iterable[str] = ()
    ) -> dict[str, Any]:
        """Return the top-level `extra` that may be written to `dialect`, noting what stays behind.

        All of it when `dialect` wrote it, else the members in `kept`. Members that change no answer are not noted.
        """
        if request.source == dialect:
            return dict(request.extra)
        passed: dict[str, Any] = {}
        for name, value in request.extra.items():
            if name in kept:
                passed[name] = value
            elif name not in HARMLESS or (HARMLESS[name] and value not in HARMLESS[name]):
                self._paths[name] = None
        return passed

    def inner_extra(
        self, dialect: DialectName, request: HubRequest, extra: dict[str, Any], path: str
    ) -> dict[str, Any]:
        """Return the `extra` of a message, part or tool if `dialect` wrote it; else note each member below `path`."""
        if not extra or request.source == dialect:
            return extra
        self.add_all(f"{path}.{name}" for name in extra)
        return {}

    def listed(self) -> tuple[str, ...]:
        """Return the paths in the order they were noted."""
        return tuple(self._paths)
