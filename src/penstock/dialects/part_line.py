"""Keeps the parts of one streamed choice in line: numbered from 0, one open at a time."""

from typing import Any

from penstock.spec.hub import Event, Part, PartDelta, PartEnd, PartStart


class PartLine:
    """The parts of one choice. Every method returns the events that it causes."""

    def __init__(self, choice: int = 0) -> None:
        self.choice = choice
        self.open: Part | None = None
        """The part that is open, as it began."""
        self.index = -1
        """Number of the newest part."""

    def start(self, part: Part) -> list[Event]:
        """Begin a part; the one before it ends."""
        events = self.end()
        self.index += 1
        self.open = part
        return [*events, PartStart(index=self.index, part=part, choice=self.choice)]

    def delta(
        self,
        text: str = "",
        *,
        signature: str | None = None,
        sealed: str | None = None,
        logprobs: Any = None,
        extra: Any = None,
    ) -> list[Event]:
        """Add to the open part."""
        assert self.open is not None, "a part is open"
        delta = PartDelta(index=self.index, text=text, choice=self.choice)
        delta.signature, delta.sealed, delta.logprobs, delta.extra = signature, sealed, logprobs, extra
        return [delta]

    def end(self) -> list[Event]:
        """End the open part, if there is one."""
        if self.open is None:
            return []
        self.open = None
        return [PartEnd(index=self.index, choice=self.choice)]
