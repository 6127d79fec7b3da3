"""Which outputs to label next. Pure.

Half of what is proposed is drawn by chance, spread over slices: only such labels tell how good a judge is. The other half is where a
label teaches most about single answers: judges disagree, a judge is undecided, or it failed.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from penstock.evals.judges.types import Drawn
from penstock.spec.scores import Score

DISAGREEMENT = 0.5
"""Judges disagree from this difference on, of the width of their scale."""
UNDECIDED = 0.2
"""A judge is undecided within so much of the middle of its scale."""
CHANCE = "drawn by chance"
AGAIN = "drawn by chance; its label counts for rates once it is given again"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An output without a label that was drawn by chance."""

    case_id: str
    repeat: int
    stratum: str = ""
    """Slice or split that it belongs to."""
    scores: Mapping[str, Score] = field(default_factory=dict)
    """Of model judges, by name."""
    is_labelled: bool = False
    """It has a label because it stood out, which says nothing of rates: still to be drawn by chance, as any other."""
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """An output to label, and why."""

    candidate: Candidate
    drawn: Drawn
    why: str


def choose_next(
    candidates: Sequence[Candidate], *, n: int, seed: int = 0, share_chosen: float = 0.5
) -> list[Choice]:
    """Return up to `n` outputs, those drawn by chance first; the same for the same candidates and seed."""
    looked = {id(each): look_at(each) for each in candidates}
    telling = sorted(
        (each for each in candidates if looked[id(each)][0] > 0 and not each.is_labelled),
        key=lambda each: (-looked[id(each)][0], each.case_id, each.repeat),
    )
    # Drawn from all, also where too little stands out: a draw from what is left would miss the very outputs that judges find hard.
    for n_chosen in range(min(int(n * share_chosen), len(telling)), -1, -1):
        drawn = draw_spread(candidates, n - n_chosen, random.Random(seed))
        taken = {id(each) for each in drawn}
        rest = [each for each in telling if id(each) not in taken][:n_chosen]
        if len(rest) == n_chosen:
            break
    return [
        *(
            Choice(candidate=each, drawn="random", why=AGAIN if each.is_labelled else CHANCE)
            for each in drawn
        ),
        *(Choice(candidate=each, drawn="chosen", why=looked[id(each)][1]) for each in rest),
    ]


def draw_spread(candidates: Sequence[Candidate], n: int, rng: random.Random) -> list[Candidate]:
    """Return `n` candidates by chance, taken from the strata in turn."""
    strata: dict[str, list[Candidate]] = {}
    for each in candidates:
        strata.setdefault(each.stratum, []).append(each)
    # shares of the strata are kept: one place each would overrate small ones and bias every rate
    total = len(candidates)
    if n >= total:
        return list(candidates)
    exact = {name: n * len(group) / total for name, group in strata.items()}
    counts = {name: int(share) for name, share in exact.items()}
    by_rest = sorted(strata, key=lambda name: (counts[name] - exact[name], rng.random()))
    for name in by_rest[: n - sum(counts.values())]:
        counts[name] += 1
    return [each for name, group in strata.items() for each in rng.sample(group, counts[name])]


def look_at(candidate: Candidate) -> tuple[float, str]:
    """Return how much a label would teach (0: nothing stands out) and why."""
    values = {
        name: (score.value - candidate.bounds[name][0])
        / (candidate.bounds[name][1] - candidate.bounds[name][0])
        for name, score in candidate.scores.items()
        if score.value is not None and name in candidate.bounds
    }
    if len(values) > 1:
        spread = max(values.values()) - min(values.values())
        if spread >= DISAGREEMENT:
            told = ", ".join(f"{name} {candidate.scores[name].value:g}" for name in values)
            return 1.0 + spread, f"judges disagree: {told}"
    for name, value in values.items():
        if abs(value - 0.5) <= UNDECIDED:
            return 1.0 - abs(value - 0.5), f"{name} is undecided: {candidate.scores[name].value:g}"
    failed = [name for name, score in candidate.scores.items() if score.status in {"error", "undefined"}]
    if failed:
        return 0.25, f"{failed[0]} gave no score"
    return 0.0, ""
