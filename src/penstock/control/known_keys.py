"""Keys that were shown a moment ago, so that a sender of many small requests does not cost a query each.

A key that was revoked, or lost a permission, is known for two seconds more: as long as a gateway may take to hear of it.
"""

import threading
import time
from collections.abc import Callable

from penstock.access.declarations import Caller, check_caller
from penstock.access.keys import KeyService, hash_secret
from penstock.access.permissions import Permission
from penstock.base.errors import Unauthenticated
from penstock.spec.routes import KeyRow

KEEP_S = 2.0
MAX_KEPT = 1000
_NEEDED = frozenset({Permission.TRACES_WRITE})


class KnownKeys:
    """Finds out who sends spans. May be called from any thread."""

    def __init__(self, keys: KeyService, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys = keys
        self._clock = clock
        self._guard = threading.Lock()
        self._known: dict[str, tuple[float, KeyRow]] = {}

    def recall(self, authorization: str) -> KeyRow | None:
        """Return the key that was shown a moment ago in the same header, without asking anybody."""
        found = self._known.get(hash_secret(authorization))
        return found[1] if found is not None and found[0] > self._clock() else None

    def find(self, authorization: str) -> KeyRow:
        """Return the key that a header shows; raise `Unauthenticated`, or `Forbidden` where it may not send spans."""
        found = self.recall(authorization)
        if found is not None:
            return found
        kind, _, secret = authorization.partition(" ")
        key = self._keys.verify(secret.strip()) if kind.lower() == "bearer" and secret.strip() else None
        if key is None:
            raise Unauthenticated(
                "This key is not known here, or it was revoked or has expired.",
                hint="Send the header authorization: Bearer ps-…",
            )
        check_caller(Caller(key=key), _NEEDED)
        with self._guard:
            if len(self._known) >= MAX_KEPT:
                self._known.clear()
            self._known[hash_secret(authorization)] = (self._clock() + KEEP_S, key)
        return key
