"""What one run of an app gathers on its way: time that is left, tokens that were used, steps that had to be left out."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from penstock.apps.errors import StepTimeout
from penstock.apps.tracing import OpenSpan, Tracer
from penstock.apps.types import AppDeclaration, ChatRequest, OnText
from penstock.spec.usage import TOKEN_CLASSES, Usage

NO_TOKENS = Usage(input_uncached=0, output_text=0)
"""What an answer without a model call used: known, and nothing."""


@dataclass(kw_only=True)
class Run:
    """One run. Times are seconds of a monotonic clock."""

    app: AppDeclaration
    request: ChatRequest
    span: OpenSpan
    shown: "Shown"
    monotonic: Callable[[], float] = time.monotonic
    begun_s: float = 0.0
    question: str = ""
    """As it is searched for and answered; the request's own until it is rewritten."""
    notes: list[str] = field(default_factory=list)
    usages: list[Usage | None] = field(default_factory=list)

    def bound(self, timeout_s: float, step: str) -> float:
        """Return how long a step may take; raise `StepTimeout` where the run's own time is over."""
        deadline_s = self.app.deadline_s
        if deadline_s is None:
            return timeout_s
        left = self.begun_s + deadline_s - self.monotonic()
        if left <= 0:
            raise StepTimeout(
                f"step {step!r}: the {deadline_s:g} s of this app were over before it began.", step=step
            )
        return min(timeout_s, left)

    def note(self, text: str) -> None:
        """Keep what a reader of the reply and of the trace should know."""
        self.notes.append(text)
        self.span.attributes["app.notes"] = list(self.notes)

    def usage(self) -> Usage | None:
        """Return the tokens of all model calls so far; None where one of them told none."""
        return add_usages(self.usages)


def add_usages(usages: Sequence[Usage | None]) -> Usage | None:
    """Return the sum by class; None if one is unknown, nothing at all for no calls."""
    if not usages:
        return NO_TOKENS
    known = [usage for usage in usages if usage is not None]
    if len(known) < len(usages):
        return None
    sums = {
        name: sum(counts)
        for name in TOKEN_CLASSES
        if (counts := [count for usage in known if (count := getattr(usage, name)) is not None])
    }
    return Usage(**sums, estimated=any(usage.estimated for usage in known))


class Shown:
    """Passes text on to the caller and notes when the first of it went out; held back, it goes out at the end."""

    def __init__(self, on_text: OnText | None, span: OpenSpan, tracer: Tracer, *, is_held: bool) -> None:
        self._on_text = on_text
        self._span = span
        self._tracer = tracer
        self._is_held = is_held

    @property
    def is_streaming(self) -> bool:
        """Whether pieces go out as they come."""
        return self._on_text is not None and not self._is_held

    @property
    def has_begun(self) -> bool:
        """Whether the caller has seen anything."""
        return self._span.ttft_ms is not None

    async def piece(self, text: str) -> None:
        """Show a piece of the answer, unless it is held back."""
        if self.is_streaming:
            await self._send(text)

    async def whole(self, text: str) -> None:
        """Show the whole answer, where it was held back or made without a model."""
        if self._on_text is not None and not self.has_begun:
            await self._send(text)

    async def _send(self, text: str) -> None:
        assert self._on_text is not None
        if not text:
            return
        if self._span.ttft_ms is None:
            self._span.ttft_ms = (self._tracer.now_ns() - self._span.start_ns) / 1e6
        await self._on_text(text)
