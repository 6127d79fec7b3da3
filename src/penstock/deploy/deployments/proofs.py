"""Judges what an engine showed against what was registered. Pure: it asks nobody.

Every check names what it compared, so that a refusal can be read, and a pass too.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from penstock.deploy.deployments.errors import ProofFailed

SAME_FILE_NATS = 0.02
"""Two loads of one file differ by how calls share a batch, no more."""
SOURCE_NATS: Mapping[str, float] = {"f32": 0.05, "f16": 0.1, "q8_0": 0.5, "q4_0": 2.5}
"""How far log-probabilities may be from those of the model before its conversion, by precision."""
MIN_COSINE = 0.9999
MIN_EFFECT_NATS = 1e-6
"""An adapter that moves no log-probability by more than this was not applied."""

Token = TypeVar("Token", int, str)


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What was registered."""

    label: str
    digest: str
    renderer_digest: str | None
    prompts: tuple[tuple[int, ...], ...]
    stop_ids: tuple[int, ...] = ()
    precision: str = "f16"
    stored: tuple[Mapping[int, float], ...] | None = None
    """Log-probabilities after each prompt as they were noted at registration, from the source."""
    adapters: tuple[str, ...] = ()
    """Digests."""


@dataclass
class Findings:
    """What was compared so far."""

    label: str
    checks: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def hold(self, name: str, is_fine: bool, seen: Any, problem: str) -> None:
        """Note one comparison."""
        self.checks[name] = seen
        if not is_fine:
            self.problems.append(problem)

    def finish(self) -> dict[str, Any]:
        """Return the proof; raise `ProofFailed` with all problems when there is one."""
        if self.problems:
            raise ProofFailed(
                f"The engine does not serve {self.label} as it was registered: {'; '.join(self.problems)}.",
                hint="It takes no traffic; what served before goes on.",
                checks=self.checks,
            )
        return {"passed": True, "version": self.label, **self.checks}


def judge_engine(shown: Mapping[str, Any], expected: Expected) -> dict[str, Any]:
    """Return the proof of an engine of our own; raise `ProofFailed`."""
    found = Findings(expected.label)
    found.hold(
        "digest",
        shown["digest"] == expected.digest,
        shown["digest"],
        f"it hosts {shown['version']}, digest {shown['digest']}",
    )
    if expected.renderer_digest is not None:
        found.hold(
            "renderer",
            shown["renderer_digest"] == expected.renderer_digest,
            shown["renderer_digest"],
            "its renderer is another one",
        )
    if "vectors" in shown:
        _judge_vectors(found, shown)
        return found.finish()
    counts = [probe["n_prompt_tokens"] for probe in shown["probes"]]
    found.hold(
        "prompt_tokens",
        counts == [len(each) for each in expected.prompts],
        counts,
        f"it counts {counts} tokens where {[len(each) for each in expected.prompts]} were sent",
    )
    _judge_logprobs(found, [_numbers(probe["top"]) for probe in shown["probes"]], shown, expected)
    stops = shown.get("stops") or {}
    deaf = [each for each in expected.stop_ids if not stops.get(str(each))]
    found.hold("stop_ids", not deaf, list(expected.stop_ids), f"a reply goes on after the stop tokens {deaf}")
    if extra := [int(each) for each, ends in (shown.get("others") or {}).items() if ends]:
        found.checks["also_ends_at"] = extra
    _judge_adapters(found, shown.get("adapters"), expected)
    return found.finish()


def difference(expected: Mapping[Token, float], seen: Mapping[Token, float]) -> float:
    """Return the largest difference among the five likeliest tokens of `expected` that `seen` lists too; where it lists
    one of them not, the distance to its least likely. What is no number is infinitely far from everything."""
    if not seen or not all(map(math.isfinite, [*expected.values(), *seen.values()])):
        return math.inf
    floor = min(seen.values())
    likeliest = sorted(expected, key=lambda each: -expected[each])[:5]
    return max(
        (abs(expected[each] - seen.get(each, min(floor, expected[each]))) for each in likeliest), default=0.0
    )


def _judge_logprobs(
    found: Findings,
    served: Sequence[Mapping[int, float]],
    shown: Mapping[str, Any],
    expected: Expected,
) -> None:
    if expected.stored is not None:
        bound = SOURCE_NATS.get(expected.precision, 0.5)
        far = max(map(difference, expected.stored, served), default=0.0)
        _hold_logprobs(found, "as registered", far, bound)
    fresh = shown.get("fresh")
    if fresh is not None:
        far = max(map(difference, [_numbers(each) for each in fresh], served), default=0.0)
        _hold_logprobs(found, "a fresh load of the file", far, SAME_FILE_NATS)


def _hold_logprobs(found: Findings, against: str, far: float, bound: float) -> None:
    found.hold(
        f"logprobs against {against}",
        far <= bound,
        {"max_difference": far, "bound": bound},
        f"log-probabilities are {far:.3g} nats from {against} (bound {bound:g})",
    )


def _judge_vectors(found: Findings, shown: Mapping[str, Any]) -> None:
    pairs = list(zip(shown["vectors"], shown["fresh"] or shown["vectors"], strict=True))
    worst = min(_cosine(*pair) for pair in pairs)
    found.hold(
        "cosine",
        worst >= MIN_COSINE,
        {"min": worst, "n": len(pairs), "bound": MIN_COSINE},
        f"vectors are not those of a fresh load of the file (cosine {worst:.4f})",
    )


def _judge_adapters(found: Findings, told: Mapping[str, Any] | None, expected: Expected) -> None:
    if not expected.adapters:
        return
    if told is None:
        found.hold("adapters", False, None, "it has loaded no adapter")
        return
    worst = _number(told["max_difference"])
    found.hold(
        "adapters kept apart",
        worst <= SAME_FILE_NATS,
        {"max_difference": told["max_difference"], "n": told["n_compared"], "bound": SAME_FILE_NATS},
        f"an answer with one adapter is {worst:.3g} nats off after one with another",
    )
    idle = [each for each in expected.adapters if not _number(told["effect"].get(each)) >= MIN_EFFECT_NATS]
    found.hold("adapters applied", not idle, dict(told["effect"]), f"adapters change nothing: {idle}")


def _numbers(top: Mapping[str, float | None]) -> dict[int, float]:
    return {int(token): _number(value) for token, value in top.items()}


def _number(value: float | None) -> float:
    """Return what was told; null is what JSON makes of NaN, and holds no bound."""
    return math.nan if value is None else value


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    dot = sum(a * b for a, b in zip(one, other, strict=True))
    lengths = (sum(a * a for a in one) * sum(b * b for b in other)) ** 0.5
    cosine = dot / lengths if lengths else 0.0
    return cosine if math.isfinite(cosine) else 0.0
