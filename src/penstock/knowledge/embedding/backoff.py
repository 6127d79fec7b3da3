"""How often and for how long a model that has no room is asked again."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from penstock.knowledge.embedding.calls import EmbedAnswer, NoRoomNow
from penstock.knowledge.embedding.errors import EmbeddingBusy


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """Waits grow twofold from `base_s` to `max_s`, each drawn between half and all of that; `Retry-After` is the least.

    The draw keeps several builds that were refused together from coming back together.
    """

    deadline_s: float
    max_attempts: int | None = None
    base_s: float = 0.5
    max_s: float = 30.0
    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic
    draw: Callable[[], float] = field(default_factory=lambda: random.Random().random)

    def run(self, ask: Callable[[float], EmbedAnswer], *, name: str) -> EmbedAnswer:
        """Return what `ask(seconds left)` returns at last; raise `EmbeddingBusy` when the time is over."""
        began = self.monotonic()
        wait_s = self.base_s
        attempt = 1
        while True:
            left_s = self.deadline_s - (self.monotonic() - began)
            try:
                return ask(max(left_s, 1.0))
            except NoRoomNow as refusal:
                pause_s = max(wait_s * (0.5 + 0.5 * self.draw()), 0.0)
                if refusal.retry_after_s is not None:
                    pause_s = refusal.retry_after_s + pause_s / 2
                left_s = self.deadline_s - (self.monotonic() - began)
                if pause_s >= left_s or attempt == self.max_attempts:
                    raise EmbeddingBusy(
                        f"{name!r} could not embed: {refusal.reason}. Asked {attempt} times, "
                        f"{self.deadline_s:.0f} s are what it may take"
                        + (
                            f"; it asks for {refusal.retry_after_s:.0f} s more."
                            if refusal.retry_after_s
                            else "."
                        ),
                        hint="What is embedded is kept: run it again later and it goes on from there.",
                        retry_after_s=refusal.retry_after_s,
                    ) from refusal
                self.sleep(pause_s)
                wait_s = min(2 * wait_s, self.max_s)
                attempt += 1
