"""Who goes by the table of a gateway and hears of each new one."""

from penstock.gateway.cache import ResponseCache
from penstock.gateway.limits import Limiter
from penstock.gateway.recorder import CallRecorder
from penstock.gateway.table import Table


class Followers:
    """Tells the parts that go by the table of each new one."""

    def __init__(self, recorder: CallRecorder, limiter: Limiter | None, cache: ResponseCache | None) -> None:
        self._recorder = recorder
        self._limiter = limiter
        self._cache = cache

    def take(self, table: Table) -> None:
        self._recorder.take_table(table)
        if self._limiter is not None:
            self._limiter.follow(table.limit_rules, redis_url=table.redis_url)
        if self._cache is not None:
            self._cache.follow(table.redis_url)
