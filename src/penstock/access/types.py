"""The nouns of access: a key when it is made, and a key as lists show it."""

from dataclasses import dataclass
from typing import Literal

KeyState = Literal["active", "expired", "revoked"]


@dataclass(frozen=True, kw_only=True)
class NewKey:
    """A key at the only moment its text is known."""

    id: str
    key: str

    def __repr__(self) -> str:
        return f"NewKey(id={self.id!r}, key='ps-…')"


@dataclass(frozen=True, kw_only=True)
class KeyInfo:
    """A key as lists show it: everything but the secret."""

    id: str
    name: str
    hint: str
    """`ps-…` and the last four characters, to recognise it by."""
    project: str
    scopes: tuple[str, ...]
    requests_per_minute: int | None
    tokens_per_minute: int | None
    routes: tuple[str, ...] | None
    created_ns: int
    last_used_ns: int | None
    """None: not known to have been used."""
    revoked_ns: int | None
    user: str | None = None
    """Whose key it is; its calls count under this user, whomever they name."""
    expires_ns: int | None = None
    """From then on it is refused."""
    rotated_ns: int | None = None
    """When its text was last replaced."""
    previous_until_ns: int | None = None
    """Until when the text before the last rotation works."""

    def state_at(self, now_ns: int) -> KeyState:
        """Return whether the key works then."""
        if self.revoked_ns is not None:
            return "revoked"
        return "expired" if self.expires_ns is not None and self.expires_ns <= now_ns else "active"
