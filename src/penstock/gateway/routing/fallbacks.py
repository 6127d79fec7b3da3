"""Checks chains of fallbacks when a snapshot is taken, so that a call can follow them without looking."""

from collections.abc import Mapping, Sequence

from penstock.gateway.routing.errors import WrongFallbacks
from penstock.gateway.routing.versions import split_pin
from penstock.spec.routes import Route

MAX_DEPTH = 3
"""Routes that may take over one after another."""


def order_by_fallbacks(fallbacks: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the names so that each stands behind all it falls back to.

    Names that are not in `fallbacks` have none. Raises `WrongFallbacks` for cycles and for chains over `MAX_DEPTH`.
    """
    depth: dict[str, int] = {}
    for name in fallbacks:
        _visit(name, fallbacks, depth, [])
    return [name for name in depth if name in fallbacks]


def _visit(name: str, fallbacks: Mapping[str, Sequence[str]], depth: dict[str, int], path: list[str]) -> int:
    if name in path:
        raise WrongFallbacks(
            f"The fallbacks of route {name!r} lead back to it: {' → '.join([*path[path.index(name) :], name])}.",
            hint="Remove one of them.",
        )
    if name not in depth:
        below = [_visit(other, fallbacks, depth, [*path, name]) for other in fallbacks.get(name, ())]
        found = 1 + max(below) if below else 0
        if found > MAX_DEPTH:
            raise WrongFallbacks(
                f"The fallbacks of route {name!r} go on for {found} routes.",
                hint=f"At most {MAX_DEPTH} may follow one another.",
            )
        depth[name] = found
    return depth[name]


def rows_behind(route: Route, rows: Mapping[str, Route]) -> list[str]:
    """Return the rows that a route's fallbacks come from, where they are pins or models of open routes."""
    return [_row_of(fallback.route, rows) for fallback in route.fallbacks]


def _row_of(name: str, rows: Mapping[str, Route]) -> str:
    if name in rows:
        return name
    pin = split_pin(name)
    if pin is not None and pin[0] in rows:
        return pin[0]
    opened = name.partition("/")[0] + "/*"
    return opened if opened in rows else name
