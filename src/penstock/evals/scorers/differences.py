"""How two JSON values differ. True is not 1, but 1 is 1.0, as in JSON schema; the order of keys never counts."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock.evals.scorers.pairing import Effort, pair_items


def list_differences(
    expected: Any,
    found: Any,
    *,
    is_subset: bool = False,
    any_order: bool = False,
    ignored: frozenset[str] = frozenset(),
    tolerance: float = 0.0,
) -> list[str]:
    """Return how `found` differs from `expected`, each with its JSON pointer; empty when they are equal.

    Lists in any order are paired so that as few items as possible remain; raises `NoScore` where that takes too long.
    """
    comparison = _Comparison(is_subset=is_subset, any_order=any_order, ignored=ignored, tolerance=tolerance)
    return list(comparison.compare(expected, found, ""))


@dataclass(frozen=True, kw_only=True)
class _Comparison:
    is_subset: bool
    any_order: bool
    ignored: frozenset[str]
    tolerance: float
    effort: Effort = field(default_factory=Effort)

    def compare(self, expected: Any, found: Any, at: str, *, is_trial: bool = False) -> Iterator[str]:
        """Yield the differences; the first one is found as soon as there is one. Trials count as effort."""
        if is_trial:
            self.effort.look()
        if at and at in self.ignored:
            return
        if isinstance(expected, Mapping) and isinstance(found, Mapping):
            yield from self._compare_objects(expected, found, at, is_trial=is_trial)
        elif isinstance(expected, list) and isinstance(found, list):
            if self.any_order:
                yield from self._compare_unordered(expected, found, at, is_trial=is_trial)
            else:
                yield from self._compare_ordered(expected, found, at, is_trial=is_trial)
        elif not _is_same(expected, found, self.tolerance):
            yield f"{at or '/'} is {_short(found)}, not {_short(expected)}"

    def _compare_objects(
        self, expected: Mapping[str, Any], found: Mapping[str, Any], at: str, *, is_trial: bool
    ) -> Iterator[str]:
        for name in expected:
            place = f"{at}/{_escape(name)}"
            if name in found:
                yield from self.compare(expected[name], found[name], place, is_trial=is_trial)
            elif place not in self.ignored:
                yield f"{place} is missing"
        if not self.is_subset:
            for name in found:
                place = f"{at}/{_escape(name)}"
                if name not in expected and place not in self.ignored:
                    yield f"{place} is not expected"

    def _compare_ordered(
        self, expected: Sequence[Any], found: Sequence[Any], at: str, *, is_trial: bool
    ) -> Iterator[str]:
        for place, (left, right) in enumerate(zip(expected, found, strict=False)):
            yield from self.compare(left, right, f"{at}/{place}", is_trial=is_trial)
        if len(found) < len(expected) or (len(found) > len(expected) and not self.is_subset):
            yield f"{at or '/'} has {len(found)} items, not {len(expected)}"

    def _compare_unordered(
        self, expected: Sequence[Any], found: Sequence[Any], at: str, *, is_trial: bool
    ) -> Iterator[str]:
        wanted, others = list(range(len(expected))), list(range(len(found)))
        if not self.tolerance and not any(each.startswith(f"{at}/") for each in self.ignored):
            # items that are the same can be paired at once: being the same, or a part, is handed on from item to item
            left, right = list(map(_form, expected)), list(map(_form, found))
            if is_trial:
                self.effort.look(sum(map(len, left)) // 8 + sum(map(len, right)) // 8)
            wanted, others = _leave_out_same(left, right)
            if not self.is_subset:
                yield from (f"{at}/{place} ({_short(expected[place])}) is missing" for place in wanted)
                if others:
                    yield f"{at or '/'} has {len(others)} more items than expected"
                return

        def fits(left: int, right: int) -> bool:
            place = wanted[left]
            told = self.compare(expected[place], found[others[right]], f"{at}/{place}", is_trial=True)
            return next(told, None) is None

        pairs = pair_items(len(wanted), len(others), fits, self.effort)
        for place, pair in zip(wanted, pairs, strict=True):
            if pair is None and f"{at}/{place}" not in self.ignored:
                yield f"{at}/{place} ({_short(expected[place])}) is missing"
        n_more = len(others) - sum(pair is not None for pair in pairs)
        if n_more and not self.is_subset:
            yield f"{at or '/'} has {n_more} more items than expected"


def _leave_out_same(expected: Sequence[str], found: Sequence[str]) -> tuple[list[int], list[int]]:
    """Return the places on both sides that remain once equal items are paired."""

    def list_unpaired(items: Sequence[str], partners: Sequence[str]) -> list[int]:
        counts = Counter(partners)
        places = []
        for place, form in enumerate(items):
            counts[form] -= 1
            if counts[form] < 0:
                places.append(place)
        return places

    return list_unpaired(expected, found), list_unpaired(found, expected)


def _form(value: Any) -> str:
    """Return a text that is equal for values which are the same in any order."""
    if isinstance(value, Mapping):
        members = sorted((str(name), _form(each)) for name, each in value.items())
        return "{" + ",".join(f"{json.dumps(name)}:{form}" for name, form in members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(sorted(map(_form, value))) + "]"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, default=repr)


def _is_same(expected: Any, found: Any, tolerance: float) -> bool:
    if isinstance(expected, bool) or isinstance(found, bool):
        return expected is found
    if isinstance(expected, int | float) and isinstance(found, int | float):
        return expected == found or math.isclose(expected, found, rel_tol=tolerance, abs_tol=0.0)
    return type(expected) is type(found) and bool(expected == found)


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"
