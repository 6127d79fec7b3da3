"""Kept batches that were tried and not taken: whether the collector is away, or stumbles over this very batch.

A batch that fails again while others pass is at fault itself. It must not hold up the others, nor be tried for ever.
"""

from typing import NamedTuple

MAX_TRIES = 10
"""So often a batch may fail while others pass, over a quarter of an hour; then it is halved, and a single record given up."""
LONGEST_WAIT_S = 300.0


class _Trouble(NamedTuple):
    n_tries: int
    due_s: float
    n_passed: int


class Troubles:
    """What is known of batches that failed, by name."""

    def __init__(self) -> None:
        self.n_passed = 0
        """Requests that were answered, so far."""
        self._known: dict[str, _Trouble] = {}

    def is_alone(self, name: str) -> bool:
        """Return whether others have passed since this one failed, so that its failure says nothing of the collector."""
        trouble = self._known.get(name)
        return trouble is not None and self.n_passed > trouble.n_passed

    def note(self, name: str, now_s: float, *, is_at_fault: bool) -> bool:
        """Note that a batch failed; return whether it has done so for too long. `is_at_fault`: its body may be why."""
        n_tries, due_s, _ = self._known.get(name, _Trouble(0, now_s, 0))
        if self.is_alone(name) and is_at_fault and now_s >= due_s:
            n_tries += 1
            due_s = now_s + min(2.0**n_tries, LONGEST_WAIT_S)
        self._known[name] = _Trouble(n_tries, due_s, self.n_passed)
        return n_tries >= MAX_TRIES

    def forget(self, name: str) -> None:
        """Forget a batch that is settled."""
        self._known.pop(name, None)

    @property
    def names(self) -> set[str]:
        """All batches that failed."""
        return set(self._known)

    def early(self, now_s: float) -> set[str]:
        """Return those whose time has not come yet."""
        return {name for name, trouble in self._known.items() if trouble.due_s > now_s}

    def first_due_s(self) -> float:
        """Return when the first of them may be tried again."""
        return min((trouble.due_s for trouble in self._known.values()), default=float("inf"))
