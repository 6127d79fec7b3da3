"""The rules of a stream's events (spec/hub.py) as one check that every reader's tests can call."""

from collections.abc import Sequence

from penstock.spec.hub import (
    End,
    Event,
    Failed,
    FinishSeen,
    PartDelta,
    PartEnd,
    PartStart,
    Start,
    Text,
    Thinking,
    ToolCall,
    UsageSeen,
)


def assert_valid_events(events: Sequence[Event], *, is_whole: bool = True) -> None:  # noqa: C901 - a decision table
    """Check the order of `events`: one Start first, each part opened and closed once before the next of its choice,
    no part after its choice's finish, nothing but End after Failed, and (with `is_whole`) exactly one End, last.

    A stream that fails or breaks off before it has begun needs no Start; parts that are open at a failure or at an
    incomplete end need not be closed.
    """
    if not events:
        assert not is_whole, "a whole stream has at least its End"
        return
    begins = [number for number, event in enumerate(events) if isinstance(event, Start)]
    ends = [number for number, event in enumerate(events) if isinstance(event, End)]
    assert len(begins) <= 1, "Start comes once"
    if not isinstance(events[0], Failed | End):
        assert begins == [0], f"Start comes first, not {events[0]}"
    if is_whole:
        assert ends == [len(events) - 1], f"End comes once and last: {ends} of {len(events)}"
    open_part: dict[int, int] = {}
    n_parts: dict[int, int] = {}
    kinds: dict[tuple[int, int], object] = {}
    finished: set[int] = set()
    has_failed = False
    for event in events:
        if has_failed:
            assert isinstance(event, End), f"only End follows Failed, not {event}"
        match event:
            case PartStart(index=index, part=part, choice=choice):
                assert choice not in finished, f"choice {choice} has finished: {event}"
                assert choice not in open_part, f"part {open_part.get(choice)} is still open: {event}"
                assert index == n_parts.get(choice, 0), f"parts are numbered from 0 on: {event}"
                n_parts[choice] = index + 1
                open_part[choice] = index
                kinds[choice, index] = part
            case PartDelta(index=index, choice=choice):
                assert open_part.get(choice) == index, f"part {index} is not open: {event}"
                if event.signature is not None:
                    assert isinstance(kinds[choice, index], Thinking | ToolCall | Text), event
            case PartEnd(index=index, choice=choice):
                assert open_part.pop(choice, None) == index, f"part {index} is not open: {event}"
            case FinishSeen(choice=choice):
                assert choice not in finished, f"choice {choice} finishes twice"
                assert choice not in open_part, f"part {open_part.get(choice)} is still open at the finish"
                finished.add(choice)
            case UsageSeen():
                assert event.usage is not None
            case Failed():
                has_failed = True
            case End(complete=complete):
                if complete and not has_failed:
                    assert not open_part, f"parts are open at a complete end: {open_part}"
            case Start():
                pass
