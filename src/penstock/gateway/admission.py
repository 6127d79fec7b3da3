"""Who may call what, and how often: keys, scopes, per-minute limits shared by all gateway workers."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from penstock.dialects.openai.envelope import Envelope
from penstock.dialects.openai.usage import UsageObject
from penstock.gateway.errors import KeyLacksScope, LimitReached, MissingKey, UnknownModel, WrongKey, WrongKind
from penstock.gateway.table import ReadyRoute, Table
from penstock.spec.routes import KeyRow

BYTES_PER_TOKEN = 4
"""An estimate for text. A token of a stream comes in a JSON event of its own, of about 200 bytes."""
STREAM_BYTES_PER_TOKEN = 200
_CALLING = frozenset({"call", "owner", "internal"})


class CounterResult(Protocol):
    """The outcome of one addition."""

    @property
    def value(self) -> int:
        """The counter's value now."""
        ...

    @property
    def allowed(self) -> bool:
        """Whether the amount was added; False means that it would have passed the limit."""
        ...


class Counters(Protocol):
    """Counters that several processes share."""

    def add(self, key: str, amount: int, *, window_end_s: int, limit: int | None) -> CounterResult:
        """Add atomically unless the sum would pass `limit`."""
        ...


@dataclass(frozen=True, slots=True)
class Reservation:
    """Tokens taken from a key's minute before the call; settled when the true number is known."""

    counter: str
    window_end_s: int
    prompt: int
    completion: int | None
    """The most that the caller lets the model write; None if nothing bounds it."""

    @property
    def amount(self) -> int:
        """The tokens taken."""
        return self.prompt + (self.completion or 0)

    def used_tokens(self, usage: UsageObject | None, *, written: int) -> int:
        """Return the tokens that a call counts which a provider did not refuse.

        What the provider does not report counts as reserved, and a reply that nothing bounds as `written` tokens,
        an estimate: unknown is not 0, or the limit could be passed by leaving before the report comes.
        """
        prompt = usage.prompt_tokens if usage is not None else None
        completion = usage.completion_tokens if usage is not None else None
        if usage is not None and usage.total_tokens is not None and (prompt is None or completion is None):
            return max(0, usage.total_tokens)
        if prompt is None:
            prompt = self.prompt
        if completion is None:
            completion = written if self.completion is None else self.completion
        return max(0, prompt) + max(0, completion)


def authenticate(table: Table, authorization: bytes | None) -> KeyRow:
    """Return the row of the key in an `Authorization` header; raise `MissingKey`, `WrongKey`, `KeyLacksScope`."""
    if authorization is None:
        raise MissingKey
    scheme, _, secret = authorization.partition(b" ")
    if scheme.lower() != b"bearer" or not secret.strip():
        raise MissingKey
    row = table.find_key(secret.strip())
    if row is None:
        raise WrongKey
    if _CALLING.isdisjoint(row.scopes):
        raise KeyLacksScope(
            f"The key {row.name!r} may not make calls.",
            hint="It needs the scope `call`.",
            openai_code="forbidden",
        )
    return row


def may_call(row: KeyRow, route: str) -> bool:
    """Return whether the key may call `route`."""
    return row.routes is None or route in row.routes


def resolve_route(table: Table, row: KeyRow, model: str, kind: str) -> ReadyRoute:
    """Return the route called `model`; raise `UnknownModel`, `WrongKind`."""
    found = table.find_route(model)
    if found is None or not (may_call(row, model) or may_call(row, found[0])):
        opened = [ready.route.name for ready in table.open_routes.values()]
        raise UnknownModel(model, [name for name in (*table.routes, *opened) if may_call(row, name)])
    ready = found[1]
    served = ready.route.kind
    if served not in ("any", kind):
        endpoint = "/v1/embeddings" if served == "embedding" else "/v1/chat/completions"
        raise WrongKind(
            f"The model {model!r} does not serve this kind of call.", hint=f"Use {endpoint}.", param="model"
        )
    return ready


class Limiter:
    """Checks the per-minute limits of keys. Windows are clock minutes; counters are exact across workers."""

    def __init__(self, counters: Counters, *, now_s: Callable[[], float] = time.time) -> None:
        self._counters = counters
        self._now_s = now_s

    def admit(self, row: KeyRow, envelope: Envelope, body_bytes: int) -> Reservation | None:
        """Count one call, and reserve its estimated tokens; raise `LimitReached` that says limit, use and reset.

        The estimate is a quarter of the body's bytes plus the most the caller lets the model write.
        """
        if row.requests_per_minute is None and row.tokens_per_minute is None:
            return None
        now_s = self._now_s()
        if row.requests_per_minute is not None:
            self._take(row, "requests", 1, row.requests_per_minute, now_s)
        if row.tokens_per_minute is None:
            return None
        most = max(0, envelope.max_completion_tokens or envelope.max_tokens or 0) * max(1, envelope.n or 1)
        reservation = Reservation(
            f"{row.id}:tokens", _minute_end(now_s), max(1, body_bytes // BYTES_PER_TOKEN), most or None
        )
        self._take(row, "tokens", reservation.amount, row.tokens_per_minute, now_s)
        return reservation

    def settle(self, reservation: Reservation, tokens: int) -> None:
        """Replace the estimate by what was used. Nothing is left to settle once the minute is over."""
        difference = tokens - reservation.amount
        if difference and self._now_s() < reservation.window_end_s:
            self._counters.add(
                reservation.counter, difference, window_end_s=reservation.window_end_s, limit=None
            )

    def _take(self, row: KeyRow, unit: str, amount: int, limit: int, now_s: float) -> None:
        end_s = _minute_end(now_s)
        result = self._counters.add(f"{row.id}:{unit}", amount, window_end_s=end_s, limit=limit)
        if result.allowed:
            return
        reset_s = max(1, round(end_s - now_s))
        needed = f" and this call needs about {amount}" if amount > 1 else ""
        raise LimitReached(
            f"Rate limit reached for key {row.name!r}: {limit} {unit} per minute, {result.value} used{needed}.",
            hint=f"Try again in {reset_s} s, or raise {unit}_per_minute of the key.",
            reset_s=reset_s,
            limit=limit,
            unit=unit,
        )


def _minute_end(now_s: float) -> int:
    return (int(now_s // 60) + 1) * 60


def limit_headers(fields: Mapping[str, object]) -> list[tuple[bytes, bytes]]:
    """Return the headers that official clients read after a 429."""
    reset_s, unit = fields.get("reset_s"), fields.get("unit")
    if reset_s is None:
        return []
    return [
        (b"retry-after", str(reset_s).encode()),
        (f"x-ratelimit-limit-{unit}".encode(), str(fields.get("limit")).encode()),
        (f"x-ratelimit-remaining-{unit}".encode(), b"0"),
        (f"x-ratelimit-reset-{unit}".encode(), f"{reset_s}s".encode()),
    ]
