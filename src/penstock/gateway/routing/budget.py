"""Shares of a route's recent calls: how many of them may be sent again or hedged, so that an outage is not multiplied."""

N_BUCKETS = 10
BUCKET_S = 1.0


class Budget:
    """Counts calls and what was spent on them over the last ten seconds."""

    __slots__ = ("_calls", "_numbers", "_ratio", "_spent")

    def __init__(self, ratio: float) -> None:
        self._ratio = ratio
        self._calls = [0] * N_BUCKETS
        self._spent = [0] * N_BUCKETS
        self._numbers = [-1] * N_BUCKETS

    def note_call(self, now: float) -> None:
        """Count one call."""
        self._calls[self._bucket(now)] += 1

    def take(self, now: float, *, floor: int = 0) -> bool:
        """Spend one if the budget allows; return whether it did.

        `floor` may be spent in ten seconds however few calls there are.
        """
        at = self._bucket(now)
        oldest = self._numbers[at] - N_BUCKETS
        calls = spent = 0
        for index, number in enumerate(self._numbers):
            if number > oldest:
                calls += self._calls[index]
                spent += self._spent[index]
        if spent + 1 > max(floor, self._ratio * calls):
            return False
        self._spent[at] += 1
        return True

    def _bucket(self, now: float) -> int:
        number = int(now / BUCKET_S)
        at = number % N_BUCKETS
        if self._numbers[at] != number:
            self._numbers[at] = number
            self._calls[at] = self._spent[at] = 0
        return at
