"""The nouns of access: a key when it is made, and a key as lists show it."""

from dataclasses import dataclass


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
