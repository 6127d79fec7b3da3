"""Counters that the gateways of several machines share: the same semantics as `store.counters`, as scripts in Redis.

Each counter is a hash of `v` (value) and `e` (end of its window, Unix seconds) that expires a day after its window.
All keys carry the tag `{penstock}`, so that they lie in one slot of a cluster and one script may touch them. A script
that begins later than its caller waits counts nothing: a server that was stopped for a while must not, when it goes
on, count calls that have long been counted elsewhere.
"""

import itertools
import uuid
from collections.abc import Sequence
from hashlib import sha1

from penstock.store.counters import MAX_VALUE, Adjustment, Ask, Taken
from penstock.store.errors import RedisGone, RedisRefused
from penstock.store.redis_client import RedisClient, Reply

PREFIX = "{penstock}:limit:"
_LINGER_S = 86_400

_BEGIN = f"""
local most, linger = {MAX_VALUE}, {_LINGER_S}
local now = redis.call('TIME')
if tonumber(now[1]) * 1000000 + tonumber(now[2]) > tonumber(ARGV[1]) then return 'late' end
"""

_RESERVE = (
    _BEGIN
    + """
local reply, fits = {}, true
for i, key in ipairs(KEYS) do
  local at = (i - 1) * 5 + 2
  local amount, least = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  local stop, length = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  local stored = redis.call('HMGET', key, 'v', 'e')
  local value, till = tonumber(stored[1] or 0), tonumber(stored[2] or 0)
  if till < stop or till > stop + length then value, till = 0, stop end
  local taken, allowed = amount, 1
  if ARGV[at + 2] ~= '' then taken = math.min(amount, tonumber(ARGV[at + 2]) - value) end
  if taken < least then taken, allowed, fits = 0, 0, false end
  reply[#reply + 1] = value
  reply[#reply + 1] = till
  reply[#reply + 1] = taken
  reply[#reply + 1] = allowed
end
if fits then
  for i, key in ipairs(KEYS) do
    local at = (i - 1) * 4 + 1
    local value = math.min(reply[at] + reply[at + 2], most)
    redis.call('HSET', key, 'v', string.format('%.0f', value), 'e', string.format('%.0f', reply[at + 1]))
    redis.call('EXPIREAT', key, reply[at + 1] + linger)
    reply[at], reply[at + 2] = value, value - reply[at]
  end
else
  for i = 3, #reply, 4 do reply[i] = 0 end
end
return reply
"""
).encode()

_ADJUST = (
    _BEGIN
    + """
local writer = KEYS[#KEYS]
if redis.call('GET', writer) == ARGV[2] then return 'done' end
redis.call('SET', writer, ARGV[2], 'EX', linger)
for i = 1, #KEYS - 1 do
  local key, amount, stop = KEYS[i], tonumber(ARGV[i * 2 + 1]), tonumber(ARGV[i * 2 + 2])
  local stored = redis.call('HMGET', key, 'v', 'e')
  local value, till = tonumber(stored[1] or 0), tonumber(stored[2] or 0)
  if till <= stop then
    if till < stop then value = 0 end
    value = math.min(math.max(0, value + amount), most)
    redis.call('HSET', key, 'v', string.format('%.0f', value), 'e', string.format('%.0f', stop))
    redis.call('EXPIREAT', key, stop + linger)
  end
end
return 'done'
"""
).encode()
"""Done once: a writer that repeats its last number, since it does not know whether it came through, changes nothing."""


class RedisCounters:
    """Counters on the server that `client` is connected to."""

    def __init__(self, client: RedisClient, *, prefix: str = PREFIX) -> None:
        self._client = client
        self._prefix = prefix
        self._writer = f"\x1fwriter\x1f{uuid.uuid4().hex}"
        self._numbers = itertools.count(1)

    async def reserve(self, asks: Sequence[Ask]) -> list[Taken]:
        """Count all asks (of distinct keys) in one atomic step, or none of them if one does not fit its limit.

        Raises `RedisGone` within the client's time bound; then nothing was counted, unless only the reply was lost.
        """
        arguments: list[bytes] = []
        for ask in asks:
            limit = b"" if ask.limit is None else b"%d" % ask.limit
            arguments += [b"%d" % ask.amount, b"%d" % ask.least, limit]
            arguments += [b"%d" % ask.window_end_s, b"%d" % ask.window_s]
        told = await self._run(_RESERVE, [ask.key for ask in asks], arguments)
        if not isinstance(told, list) or len(told) != 4 * len(asks):
            raise RedisRefused("Redis answered the counting script with something else than counters.")
        numbers = [number for number in told if isinstance(number, int)]
        return [
            Taken(value, end_s, taken, bool(allowed))
            for value, end_s, taken, allowed in zip(*(iter(numbers),) * 4, strict=True)
        ]

    def next_number(self) -> int:
        """Return a number for one `adjust`, to be used again when that has to be repeated."""
        return next(self._numbers)

    async def adjust(self, adjustments: Sequence[Adjustment], *, number: int | None = None) -> None:
        """Add each amount to its window, which begins if there is none; no value falls below zero.

        Raises `RedisGone` as `reserve` does. Repeated at once with the same `number`, it still counts only once.
        """
        arguments = [b"%d" % (self.next_number() if number is None else number)]
        for one in adjustments:
            arguments += [b"%d" % one.amount, b"%d" % one.window_end_s]
        await self._run(_ADJUST, [*(one.key for one in adjustments), self._writer], arguments)

    async def get(self, key: str) -> int:
        """Return the counter's value, 0 when it is unknown."""
        told = await self._client.call(b"HGET", (self._prefix + key).encode(), b"v")
        return int(told) if isinstance(told, bytes) else 0

    async def _run(self, script: bytes, keys: Sequence[str], arguments: Sequence[bytes]) -> Reply:
        names = [(self._prefix + key).encode() for key in keys]
        rest = [b"%d" % len(names), *names, b"%d" % self._client.deadline_us(), *arguments]
        try:
            told = await self._client.call(b"EVALSHA", _digest(script), *rest)
        except RedisRefused as error:
            if "NOSCRIPT" not in error.message:
                raise
            told = await self._client.call(b"EVAL", script, *rest)
        if told == b"late":
            self._client.close()
            raise RedisGone("Redis ran the counting script too late; nothing was counted there.")
        return told


_DIGESTS = {
    script: sha1(script, usedforsecurity=False).hexdigest().encode() for script in (_RESERVE, _ADJUST)
}


def _digest(script: bytes) -> bytes:
    return _DIGESTS[script]
