"""Who may call what, written on the endpoint itself: the one mechanism for REST routes and console pages.

Knows no web framework. An endpoint without a declaration is a defect: whoever serves it refuses to start.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from penstock.access.permissions import Permission, check_permission
from penstock.base.errors import Unauthenticated
from penstock.spec.routes import KeyRow

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
_MARK = "__penstock_permissions__"


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who is asking, as far as they have shown. Carried on a request while it is served."""

    key: KeyRow | None = None
    """None on routes that are open to everybody and were called without a key."""
    csrf_token: str | None = None
    """Set when the caller came with a console session: what its forms must send back."""
    form: Mapping[str, str] = field(default_factory=dict)
    """Fields of the posted form, decoded."""


def needs(*permissions: Permission) -> Callable[[Endpoint], Endpoint]:
    """Declare that a caller must hold all of `permissions`."""
    if not permissions:
        raise TypeError("needs() takes at least one permission; say open_to_all(reason) if it needs none")

    def mark(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, _MARK, frozenset(permissions))
        return endpoint

    return mark


def open_to_all(reason: str) -> Callable[[Endpoint], Endpoint]:
    """Declare that nobody has to show a key, and why."""
    if not reason:
        raise TypeError("an endpoint open to everybody gives its reason")

    def mark(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, _MARK, frozenset())
        return endpoint

    return mark


def declared_permissions(endpoint: object) -> frozenset[Permission] | None:
    """Return what the endpoint declares; empty when it is open to all, None when it says nothing."""
    found: frozenset[Permission] | None = getattr(endpoint, _MARK, None)
    return found


def check_caller(caller: Caller, permissions: frozenset[Permission]) -> None:
    """Raise `Unauthenticated` or `Forbidden` unless the caller holds all of `permissions`."""
    if not permissions:
        return
    if caller.key is None:
        raise Unauthenticated(
            "This needs a key.",
            hint="Send `Authorization: Bearer KEY`, or sign in; the owner's key is the one line of HOME/admin.key.",
        )
    for permission in sorted(permissions):
        check_permission(caller.key, permission)


def actor_of(caller: Caller) -> str:
    """Return what histories say of who asked: the key's name, and its id since names need not be unique."""
    return "nobody" if caller.key is None else f"{caller.key.name} ({caller.key.id})"[:200]
