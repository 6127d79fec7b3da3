"""Console sessions without a table: a signed cookie that names a key, and the form token derived from it.

The cookie holds no secret: whoever reads it learns a key's id. It ends when its time is over, when its key is
revoked (the reader looks the key up on every request), or when the signing secret is replaced.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from penstock.base.clock import now_ns as wall_clock
from penstock.base.errors import BugError
from penstock.base.files import write_atomic

LIFETIME_S = 7 * 24 * 3600
_VERSION = "1"


@dataclass(frozen=True, kw_only=True)
class Session:
    """A session whose signature holds and whose time is not over."""

    key_id: str
    expires_s: int
    nonce: str


class SessionSigner:
    """Issues and reads session cookies with one secret of at least 32 bytes."""

    def __init__(
        self, secret: bytes, *, lifetime_s: int = LIFETIME_S, clock: Callable[[], int] = wall_clock
    ) -> None:
        if len(secret) < 32:
            raise BugError("The session secret is shorter than 32 bytes.")
        self._secret = secret
        self.lifetime_s = lifetime_s
        self._clock = clock

    def issue(self, key_id: str) -> str:
        """Return the cookie value of a new session of this key."""
        expires_s = self._clock() // 1_000_000_000 + self.lifetime_s
        body = f"{_VERSION}.{key_id}.{expires_s}.{secrets.token_hex(16)}"
        return f"{body}.{self._sign('session', body)}"

    def read(self, cookie: str) -> Session | None:
        """Return the session, or None when it is damaged, forged or over."""
        body, _, signature = cookie.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._sign("session", body).encode()):
            return None
        parts = body.split(".")
        if len(parts) != 4 or parts[0] != _VERSION or not parts[2].isdigit():
            return None
        session = Session(key_id=parts[1], expires_s=int(parts[2]), nonce=parts[3])
        return session if session.expires_s > self._clock() // 1_000_000_000 else None

    def csrf_token(self, session: Session) -> str:
        """Return what every form of this session must send back."""
        return self._sign("form", f"{session.key_id}.{session.expires_s}.{session.nonce}")

    def is_csrf_token(self, session: Session, token: str) -> bool:
        """Return whether `token` belongs to this session; constant time."""
        return hmac.compare_digest(token.encode(), self.csrf_token(session).encode())

    def _sign(self, purpose: str, text: str) -> str:
        return hmac.new(self._secret, f"{purpose}:{text}".encode(), hashlib.sha256).hexdigest()


def load_session_secret(path: Path) -> bytes:
    """Return the secret kept in `path` (mode 0600), making one on the first call."""
    try:
        found = bytes.fromhex(path.read_text().strip())
    except (FileNotFoundError, ValueError):
        found = b""
    if len(found) >= 32:
        return found
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = secrets.token_bytes(32)
    write_atomic(path, fresh.hex().encode() + b"\n", mode=0o600)
    return fresh
