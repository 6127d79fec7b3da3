"""What a run may spend: dollars, tokens, minutes. A call is reserved before it goes out and settled when its cost is known.

A reservation is the dearest call seen so far of its kind, or what the price list expects; so what was spent exceeds the
budget by no more than one call that turns out dearer than all before it. What nobody can price is counted, not guessed.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal

from penstock.spec.evaluations import EvaluationBudget

MINUTE_S = 60.0


@dataclass(kw_only=True)
class Hold:
    """One call under way, as it is reserved."""

    kind: str
    usd: Decimal
    tokens: int
    is_settled: bool = field(default=False)


class Budget:
    """Bounds of one run, or of all runs of an experiment. For one event loop."""

    def __init__(
        self,
        bounds: EvaluationBudget,
        *,
        clock: Callable[[], float],
        spent_usd: Decimal = Decimal(0),
        spent_tokens: int = 0,
    ) -> None:
        """`spent_*` is what was spent before, by the part that is resumed."""
        self._bounds = bounds
        self._clock = clock
        self._began = clock()
        self._dearest_usd: dict[str, Decimal] = {}
        self._most_tokens: dict[str, int] = {}
        self._holds: list[Hold] = []
        self._changed = asyncio.Condition()
        self.spent_usd = spent_usd
        self.spent_tokens = spent_tokens
        self.n_unknown = 0
        self.reason: str | None = None
        """Why nothing more is asked; None while there is room."""

    @property
    def has_money(self) -> bool:
        """Whether dollars are bounded, so that costs are worth waiting for."""
        return self._bounds.usd is not None

    def check_time(self) -> bool:
        """Return whether there is time left."""
        minutes = self._bounds.minutes
        if minutes is not None and self._clock() - self._began >= minutes * MINUTE_S:
            self._end(f"the time of {minutes:g} minutes is used up")
        return self.reason is None

    async def reserve(self, kind: str) -> Hold | None:
        """Return a hold for one call of this kind, waiting while calls under way may still leave room; None: no room."""
        async with self._changed:
            while True:
                if not self.check_time():
                    return None
                hold = Hold(
                    kind=kind,
                    usd=self._dearest_usd.get(kind, Decimal(0)),
                    tokens=self._most_tokens.get(kind, 0),
                )
                lacking = self._lacking(hold)
                if lacking is None:
                    self._holds.append(hold)
                    return hold
                if not self._holds:
                    self._end(lacking)
                    return None
                await self._changed.wait()

    def _lacking(self, hold: Hold) -> str | None:
        bounds = self._bounds
        if bounds.usd is not None:
            is_first_unknown = bool(self._holds) and hold.usd == 0 and hold.kind not in self._dearest_usd
            held = sum((each.usd for each in self._holds), Decimal(0))
            if (
                is_first_unknown
                or self.spent_usd >= bounds.usd
                or self.spent_usd + held + hold.usd > bounds.usd
            ):
                return f"the budget of ${bounds.usd:f} is used up (${self.spent_usd:.6f} spent)"
        if bounds.tokens is not None:
            held_tokens = sum(each.tokens for each in self._holds)
            is_first_unknown = bool(self._holds) and hold.kind not in self._most_tokens
            is_over = self.spent_tokens + held_tokens + hold.tokens > bounds.tokens
            if is_first_unknown or is_over or self.spent_tokens >= bounds.tokens:
                return f"the budget of {bounds.tokens:,} tokens is used up ({self.spent_tokens:,} spent)"
        return None

    async def settle(
        self, hold: Hold, *, usd: Decimal | None, tokens: int | None, is_asked: bool = True
    ) -> None:
        """Say what the call cost; `is_asked` False: it never went out, nothing is owed."""
        if hold.is_settled:
            return
        hold.is_settled = True
        if is_asked:
            if usd is None:
                self.n_unknown += 1
                self._dearest_usd.setdefault(hold.kind, Decimal(0))
            else:
                self.spent_usd += usd
                self._dearest_usd[hold.kind] = max(self._dearest_usd.get(hold.kind, Decimal(0)), usd)
            self.spent_tokens += tokens or 0
            self._most_tokens[hold.kind] = max(self._most_tokens.get(hold.kind, 0), tokens or 0)
        async with self._changed:
            self._holds.remove(hold)
            self._changed.notify_all()

    def add(self, usd: Decimal) -> None:
        """Count what an earlier run spent and nobody knew."""
        self.spent_usd += usd

    def _end(self, reason: str) -> None:
        if self.reason is None:
            self.reason = reason
