"""Keys that never change while the process runs: one header line, made once."""

# ruff: noqa: ARG002 - the port's arguments, which this kind does not need

from penstock.providers.auth.port import Header


class StaticSigner:
    """Sends the same header with every request, or none."""

    waits = False

    def __init__(self, name: bytes | None = None, value: bytes = b"") -> None:
        self._pairs: list[Header] = [] if name is None else [(name, value)]
        self._lines = b"".join(key + b": " + text + b"\r\n" for key, text in self._pairs)

    def static_headers(self) -> bytes | None:
        """Return the header line, or b"" for a provider that wants no key."""
        return self._lines

    async def headers(
        self, method: bytes, host: bytes, path_query: bytes, body: bytes, now_s: float
    ) -> list[Header]:
        """Return the same, as a pair."""
        return list(self._pairs)


def bearer(token: bytes) -> StaticSigner:
    """Return the signer that sends `Authorization: Bearer`."""
    return StaticSigner(b"authorization", b"Bearer " + token)
