"""Versions behind routes: pins, what knowledge bases hold, and deprecation: what clients are told, when a call is refused.

Dates are days in UTC. `Deprecation` is written as RFC 9745 has it (a structured date), `Sunset` as RFC 8594 (an HTTP
date).
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime
from email.utils import format_datetime
from hashlib import sha256

from penstock.gateway.routing.errors import RetiredVersion
from penstock.spec.routes import Deprecation, Route

Header = tuple[bytes, bytes]


def split_pin(model: str) -> tuple[str, str] | None:
    """Return (route, pin) of `ROUTE@PIN`, or None if the name pins nothing."""
    route, at, pin = model.rpartition("@")
    return (route, pin) if at and route and pin else None


def sum_holdings(routes: Iterable[Route]) -> str:
    """Return one short text that changes with what any knowledge base holds; empty without bases."""
    held = sorted(f"{route.name} {route.holds}" for route in routes if route.holds)
    return sha256("\n".join(held).encode()).hexdigest()[:32] if held else ""


def is_retired(deprecation: Deprecation, today: date) -> bool:
    """Return whether the sunset has come."""
    return deprecation.sunset is not None and today >= date.fromisoformat(deprecation.sunset)


def refuse_retired(name: str, deprecation: Deprecation, today: date) -> None:
    """Raise `RetiredVersion` (410) with the replacement if the sunset has come."""
    if not is_retired(deprecation, today):
        return
    replacement = deprecation.replacement
    raise RetiredVersion(
        f"The model {name!r} was retired on {deprecation.sunset}.",
        hint=f"Use {replacement!r} instead."
        if replacement
        else "`GET /v1/models` lists those that are served.",
        param="model",
        openai_code="model_retired",
        replacement=replacement,
    )


def deprecation_headers(deprecation: Deprecation, today: date) -> list[Header]:
    """Return `deprecation` from its day on, and `sunset` as soon as one is set and the deprecation has begun."""
    has_begun = deprecation.since is None or today >= date.fromisoformat(deprecation.since)
    headers: list[Header] = []
    if deprecation.since is not None and has_begun:
        headers.append((b"deprecation", b"@%d" % int(_midnight(deprecation.since).timestamp())))
    if deprecation.sunset is not None and has_begun:
        sunset = format_datetime(_midnight(deprecation.sunset), usegmt=True)
        headers.append((b"sunset", sunset.encode("ascii")))
    return headers


def deprecation_warning(name: str, deprecation: Deprecation, today: date) -> str | None:
    """Return the sentence for `x-penstock-warning`, or None if there is nothing to warn of yet."""
    if not deprecation_headers(deprecation, today):
        return None
    text = f"{name} is deprecated"
    if deprecation.sunset is not None:
        text += f" and will be retired on {deprecation.sunset}"
    if deprecation.replacement is not None:
        text += f"; use {deprecation.replacement}"
    return text


def _midnight(day: str) -> datetime:
    return datetime.combine(date.fromisoformat(day), datetime.min.time(), tzinfo=UTC)
