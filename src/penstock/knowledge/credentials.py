"""Secrets of the vault in settings: written `{{secret:NAME}}`, put in only when a place is opened, never shown."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus

from penstock.base.errors import InvalidInput

OpenSecret = Callable[[str, str], str]
"""Called with the secret's name and the address that it is to be sent to; returns what it says."""
_SECRET = re.compile(r"\{\{\s*secret:([a-z0-9][a-z0-9._-]{0,79})\s*\}\}")
_HIDDEN = "•••"
_MARK = "secret"
"""Stands where a secret stood, in texts that are only looked at."""
_ADDRESS = re.compile(
    r"(?P<scheme>[a-z][a-z0-9]*)(?:\+[a-z0-9_]+)?://"
    r"(?:[^:@/?#\s]*(?::[^:@/?#\s]*)?@)?"
    r"(?P<host>[A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(?P<port>:[0-9]{1,5})?"
    r"(?P<path>/[^?#@=;{}\s]*)?(?:\?(?P<query>[^#@\s]*))?"
)
"""An address that every reader of addresses takes apart in the same way."""
_PLACELESS = frozenset(
    {
        "application_name",
        "charset",
        "client_encoding",
        "connect_timeout",
        "driver",
        "encrypt",
        "keepalives",
        "role",
        "schema",
        "service_name",
        "sslmode",
        "target_session_attrs",
        "timeout",
        "trustservercertificate",
        "warehouse",
    }
)
"""Parameters of an address that do not say where it leads, nor which files are read or written for it."""
_PLAIN_VALUE = re.compile(r"[\w .-]*")
_CONFIDENTIAL = re.compile(
    r"(^|[_-])(secrets?|password|passwd|passphrase|pwd|pass|tokens?|private[_-]?key|account[_-]?key|credentials?|"
    r"connection_?string|api[_-]?key|odbc_connect|sslpassword|authorization|cookie|sas)([_-]|$)|^(secret|auth)[_-]?key$|"
    r"[_-](secret|token)[_-]?key$|secret_?access_?key|^x-(api|auth)",
    re.IGNORECASE,
)


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


def is_secret(text: str) -> bool:
    """Return whether a text is one secret of the vault, and nothing else."""
    return _SECRET.fullmatch(text.strip()) is not None


def is_confidential(name: str) -> bool:
    """Return whether a setting or header of this name holds what nobody is to read."""
    return _CONFIDENTIAL.search(name) is not None


def find_plain(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of settings, also within settings, that should be a secret of the vault and are plain text."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from find_plain(value)
        elif isinstance(value, str) and value and is_confidential(name) and not is_secret(value):
            yield name


def without_secrets(text: str) -> str:
    """Return an address as the vault knows it: where a secret stood in it, a word stands."""
    return _SECRET.sub(_MARK, text)


def replace_secrets(text: str, word: str) -> str:
    """Return a text in which `word` stands for each secret."""
    return _SECRET.sub(word, text)


def bound_address(address: str) -> str:
    """Return where the secrets in the address of a server go, as the vault knows it: scheme, host and port.

    Raises `InvalidInput` for a secret outside of user and password, and for an address that could lead anywhere but
    to its own host: by its parameters, or because not every reader takes it apart in the same way.
    """
    if not named_secrets([address]):
        return address
    parts = _ADDRESS.fullmatch(without_secrets(address))
    behind = "" if parts is None else address[address.rindex("@") :] if "@" in address else address
    if parts is None or named_secrets([behind]):
        raise InvalidInput(
            "An address with a secret is written as scheme://user:{{secret:NAME}}@host:port/name.",
            hint="Percent-encode odd characters; a secret stands before the @ alone.",
        )
    for name, value in parse_qsl(parts["query"] or "", keep_blank_values=True):
        if name.lower() not in _PLACELESS or not _PLAIN_VALUE.fullmatch(value):
            raise InvalidInput(
                f"An address with a secret cannot have the parameter {name!r}.",
                hint=f"A secret goes to the host of the address alone. It may have: {', '.join(sorted(_PLACELESS))}.",
            )
    scheme = "postgresql" if parts["scheme"] == "postgres" else parts["scheme"]
    return f"{scheme}://{parts['host']}{parts['port'] or ''}"
