"""Pairs items of two lists so that as many as possible are paired: what "in any order" means where items fit several others."""

from collections import deque
from collections.abc import Callable

from penstock.evals.scorers.reading import NoScore

MAX_LOOKS = 500_000
"""At pairs of items, for one answer."""


class Effort:
    """How often pairs may still be looked at."""

    def __init__(self) -> None:
        self._left = MAX_LOOKS

    def look(self, times: int = 1) -> None:
        """Count looks; raise `NoScore` after too many."""
        self._left -= times
        if self._left < 0:
            raise NoScore("the lists have too many items to be compared in any order")


def pair_items(
    n_wanted: int, n_found: int, fits: Callable[[int, int], bool], effort: Effort
) -> list[int | None]:
    """Return for each wanted item the found one it is paired with: as many pairs as there can be, each item in one.

    Goes along chains of pairs that can be exchanged (augmenting paths). What a vain search went through is left out from
    then on: no later search can end there either.
    """
    known: dict[tuple[int, int], bool] = {}
    wanted_of: dict[int, int] = {}
    found_of: list[int | None] = [None] * n_wanted
    dead: set[int] = set()

    def can_pair(wanted: int, found: int) -> bool:
        effort.look()
        if (wanted, found) not in known:
            known[wanted, found] = fits(wanted, found)
        return known[wanted, found]

    def search(root: int) -> None:
        reached: dict[int, int] = {}
        queue = deque([root])
        while queue:
            wanted = queue.popleft()
            for found in range(n_found):
                if found in reached or found in dead or not can_pair(wanted, found):
                    continue
                reached[found] = wanted
                if found not in wanted_of:
                    exchange(found, reached)
                    return
                queue.append(wanted_of[found])
        dead.update(reached)

    def exchange(found: int, reached: dict[int, int]) -> None:
        at: int | None = found
        while at is not None:
            wanted = reached[at]
            wanted_of[at] = wanted
            found_of[wanted], at = at, found_of[wanted]

    for root in range(n_wanted):
        search(root)
    return found_of
