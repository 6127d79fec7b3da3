"""Secrets of the vault in settings: written `{{secret:NAME}}`, put in only when a place is opened, never shown."""

import re
from collections.abc import Callable, Sequence
from urllib.parse import quote, quote_plus

from penstock.base.errors import InvalidInput

OpenSecret = Callable[[str, str], str]
"""Called with the secret's name and the address that it is to be sent to; returns what it says."""
_SECRET = re.compile(r"\{\{\s*secret:([a-z0-9][a-z0-9._-]{0,79})\s*\}\}")
_HIDDEN = "•••"


class Credentials:
    """Fills in the secrets of one place, and takes them out again of every text that is shown."""

    def __init__(self, open_secret: OpenSecret | None, address: str) -> None:
        """`address` is where the secrets go: each opens only for the host that it was entered for."""
        self._open = open_secret
        self._address = address
        self._opened: list[str] = []

    def fill(self, text: str) -> str:
        """Return `text` with every secret in its place; raise `InvalidInput` where there is no vault."""
        return _SECRET.sub(lambda match: self._value(match[1]), text)

    def fill_address(self, text: str) -> str:
        """Return an address with every secret in its place, written as addresses write odd characters."""
        return _SECRET.sub(lambda match: quote(self._value(match[1]), safe=""), text)

    def hide(self, text: str) -> str:
        """Return `text` without what was filled in."""
        for value in self._opened:
            for form in (value, quote(value, safe=""), quote_plus(value)):
                text = text.replace(form, _HIDDEN)
        return text

    def _value(self, name: str) -> str:
        if self._open is None:
            raise InvalidInput(
                f"The secret {name!r} cannot be opened here.",
                hint="Run it in an installation that has a vault.",
            )
        value = self._open(name, self._address)
        if value:
            self._opened.append(value)
        return value


def named_secrets(texts: Sequence[str]) -> list[str]:
    """Return the names of the secrets that `texts` mention, each once."""
    return list(dict.fromkeys(match[1] for text in texts for match in _SECRET.finditer(text)))


def without_secrets(text: str) -> str:
    """Return an address as the vault knows it: where a secret stood in it, a word stands."""
    return _SECRET.sub("secret", text)
