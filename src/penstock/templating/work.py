"""How much one rendering may do. Templates are bounded in text, steps and time, however they are written.

A deadline is looked at with each step of a loop and each filter, and no single operation between two looks can make more
than `MAX_CHARS` characters or `MAX_ITEMS` items: so a template ends soon, whatever it says. Everything that it makes on the
way counts as memory, as if all of it were kept.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice
from typing import Any

from penstock.templating.errors import TooMuchWork

MAX_CHARS = 8_000_000
"""Of all text that one rendering puts out, and of any value within it."""
MAX_STEPS = 200_000
"""Of all loops together."""
MAX_ITEMS = MAX_STEPS
"""Of any list that a template makes: more could not be gone through anyway."""
MAX_MADE_BYTES = 256 * 2**20
"""Of all values that one rendering makes, taken together."""
MAX_BITS = 4096
"""Of any whole number."""
DEADLINE_S = 5.0
_ITEM_CHARS = 64
"""What an item of a list or object counts for, beside its text."""
_ITEM_BYTES = 80
"""What an item takes in memory: its place, and a text of one letter."""


class Work:
    """What is left to one rendering."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until = clock() + DEADLINE_S
        self._steps = 0
        self._chars = 0
        self._made_bytes = 0

    def look(self) -> None:
        """Raise `TooMuchWork` after the deadline."""
        if self._clock() > self._until:
            raise TooMuchWork(f"The template takes longer than {DEADLINE_S:g} s to fill in.")

    def step(self) -> None:
        """Count a step of a loop."""
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise TooMuchWork(f"The template's loops take more than {MAX_STEPS:,} steps.")
        self.look()

    def put_out(self, n_chars: int) -> None:
        """Count text that stands in the prompt."""
        self._chars += n_chars
        if self._chars > MAX_CHARS:
            raise TooMuchWork(f"The prompt has more than {MAX_CHARS:,} characters.")

    def make(self, n_bytes: int) -> None:
        """Count the memory of a value."""
        self._made_bytes += n_bytes
        if self._made_bytes > MAX_MADE_BYTES:
            raise TooMuchWork(f"The template makes values of more than {MAX_MADE_BYTES >> 20} MB.")


_current: ContextVar[Work | None] = ContextVar("penstock_template_work", default=None)


@contextmanager
def limited(work: Work) -> Iterator[Work]:
    """Let templates that are filled in inside spend `work`."""
    token = _current.set(work)
    try:
        yield work
    finally:
        _current.reset(token)


def look() -> None:
    """Raise `TooMuchWork` after the deadline of the rendering that this is part of."""
    if (work := _current.get()) is not None:
        work.look()


def counted(values: Iterable[Any]) -> Iterator[Any]:
    """Yield what a loop goes over, one step each."""
    work = _current.get()
    for value in values:
        if work is not None:
            work.step()
        yield value


def made(value: Any) -> Any:
    """Return a value that an operation has made, once it is counted."""
    if isinstance(value, str):
        n_bytes = sys.getsizeof(value)
        bounded_size(len(value))
    elif isinstance(value, list | tuple | dict):
        bounded_items(len(value))
        n_bytes = len(value) * _ITEM_BYTES
    else:
        return value
    if (work := _current.get()) is not None:
        work.make(n_bytes)
    return value


def bounded_items(n_items: int) -> None:
    """Raise `TooMuchWork` for a list that would have more than `MAX_ITEMS` items."""
    if n_items > MAX_ITEMS:
        raise TooMuchWork(f"The template makes a list of more than {MAX_ITEMS:,} items.")


def bounded_list(values: Iterable[Any]) -> list[Any]:
    """Return a list of values that are made one by one; raise `TooMuchWork` before there are too many."""
    listed = list(islice(values, MAX_ITEMS + 1))
    bounded_items(len(listed))
    return listed


def bounded_size(n_chars: int) -> None:
    """Raise `TooMuchWork` for a value that would have more than `MAX_CHARS` characters or items."""
    if n_chars > MAX_CHARS:
        raise TooMuchWork(f"The template makes a value of more than {MAX_CHARS:,} characters.")


def weigh(value: Any) -> int:
    """Return characters and items within a value, counted as often as they stand there; raise when there are too many.

    A list that holds itself twice over and over is small in memory and endless once it is written.
    """
    total = 0
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, str):
            total += len(each)
        elif isinstance(each, list | tuple | dict):
            look()
            total += len(each) * _ITEM_CHARS
            left.extend(each)
            if isinstance(each, dict):
                left.extend(each.values())
        bounded_size(total)
    return total
