"""Measures what looking at a large evaluation costs: two evaluations of the same cases are stored, then read as pages read them.

    python bench/evaluations.py [--cases 10000] [--repeats 3] [--profile STEP] [--record]

In processor time of this process, which other work on the machine does not lengthen; the least of the repeats counts. Every repeat has services
of its own, so nothing is kept from the one before. Six scores: exact (yes or no), token F1, ROUGE-L and METEOR (means), BLEU and chrF (figures
from statistics, by bootstrap); slices by split and by eight tags. A score of 500 answers is made and then stored under all cases: making it
is what `bench/scoring.py` measures.
"""

import argparse
import cProfile
import gc
import pstats
import random
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Engine

from penstock.base.ids import new_id
from penstock.evals.catalogue import Catalogue
from penstock.evals.judges.labels import LabelService
from penstock.evals.judges.service import JudgeService
from penstock.evals.running.control_run import RunPorts
from penstock.evals.running.scoring import column_of
from penstock.evals.service import MAX_RECORDED, EvaluationService
from penstock.evals.store import EvaluationStore
from penstock.evals.types import CaseQuery, ComparedQuery
from penstock.spec.cases import Case, Output
from penstock.spec.evaluations import EvaluationSpec, ScorerSpec, TargetSpec
from penstock.spec.home import Home
from penstock.spec.scores import Score
from penstock.spec.usage import Usage
from penstock.store.control.engine import control_url, open_control
from record import record_result
from words import TextSource

SCORERS = ("exact", "token_f1", "rouge_l", "meteor", "bleu", "chrf")
N_SCORED = 500
N_WORDS = 40
Step = Callable[[], Any]


class Bench:
    """A home with two evaluations of the same cases."""

    def __init__(self, root: Path) -> None:
        self.engine: Engine = open_control(control_url(Home(root=root)))
        self.catalogue = Catalogue()
        self.specs = [ScorerSpec(scorer=name) for name in SCORERS]
        self.scorers = [self.catalogue.create(spec) for spec in self.specs]
        self.words = TextSource(5).words[:3000]

    def services(self) -> tuple[EvaluationService, JudgeService]:
        """Return services that have read nothing yet."""
        unused: Any = None
        ports = RunPorts(
            cases=unused, pins=unused, open_gateway=unused, create_scorer=self.catalogue.create, facts=unused
        )
        service = EvaluationService(EvaluationStore(self.engine), ports, unused)
        labels = LabelService(self.engine, evaluations=service)
        return service, JudgeService(self.engine, labels, open_tools=unused, evaluations=service)

    def make_cases(self, n_cases: int) -> list[Case]:
        """Return cases whose texts come round every `N_SCORED`."""
        rng = random.Random(1)
        texts = [" ".join(rng.choices(self.words, k=N_WORDS)) for _ in range(N_SCORED)]
        return [
            Case(
                id=f"case-{number:06d}",
                inputs={"input": f"{texts[(number + 1) % N_SCORED]} ({number})"},
                expected=texts[number % N_SCORED],
                split=("test", "dev", "train")[number % 3],
                tags=[f"topic-{number % 8}"],
            )
            for number in range(n_cases)
        ]

    def fill(self, name: str, skill: float, seed: int, cases: Sequence[Case]) -> tuple[str, float, float]:
        """Store an evaluation; return its id and the seconds that outputs and scores took."""
        service, _ = self.services()
        rng = random.Random(seed)
        samples = [self._answer(case, skill, rng) for case in cases[:N_SCORED]]
        judged = [
            [scorer.score_one(case, output) for scorer in self.scorers]  # type: ignore[attr-defined]
            for case, output in zip(cases, samples, strict=False)
        ]
        spec = EvaluationSpec(
            name=name, target=TargetSpec(python=name), scorers=self.specs, slices=["split", "tag"]
        )
        columns = [column_of(scorer, spec) for scorer, spec in zip(self.scorers, self.specs, strict=True)]
        record = service.begin_local(spec, cases, columns, actor="bench")
        outputs: list[tuple[Output, str | None]] = []
        scores: list[tuple[str, int, Score]] = []
        for number, case in enumerate(cases):
            sample = samples[number % len(samples)]
            latency = rng.lognormvariate(6.2, 0.3)
            told = msgspec.structs.replace(sample, case_id=case.id, latency_ms=latency)
            outputs.append((told, new_id("key")))
            scores += [(case.id, 0, score) for score in judged[number % len(judged)]]
        start = time.process_time()
        for first in range(0, len(outputs), MAX_RECORDED):
            service.record(record.id, outputs[first : first + MAX_RECORDED])
        middle = time.process_time()
        for first in range(0, len(scores), MAX_RECORDED):
            service.record(record.id, scores=scores[first : first + MAX_RECORDED])
        service.finish_local(record.id)
        return record.id, middle - start, time.process_time() - middle

    def _answer(self, case: Case, skill: float, rng: random.Random) -> Output:
        told = str(case.expected).split()
        is_right = rng.random() < 0.1 + skill / 4
        words = [word if is_right or rng.random() < skill else rng.choice(self.words) for word in told]
        return Output(
            case_id=case.id,
            repeat=0,
            status="ok",
            text=" ".join(words),
            usage=Usage(input_uncached=300, output_text=len(words)),
            latency_ms=1.0,
            ttft_ms=100.0,
        )

    def steps(self, one: str, other: str) -> dict[str, Callable[[], Step]]:
        """Return what makes each step ready; what it returns is measured."""

        def page(**query: Any) -> Callable[[], Step]:
            return lambda: lambda service=self.services()[0]: service.cases(one, CaseQuery(**query))

        return {
            "estimates": lambda: lambda service=self.services()[0]: service.estimates(one),
            "comparison": lambda: lambda service=self.services()[0]: service.compare(one, other),
            "page": page(),
            "page, lowest token_f1 first": page(sort="score", score="token_f1"),
            "page, slice and range of a score, sorted by it": page(
                slice="tag=topic-3", score="rouge_l", low=0.2, high=0.8, sort="-score"
            ),
            "page, failed outputs": page(output_status="error"),
            "page, text": page(text=self.words[7]),
            "page of the comparison": lambda: (
                lambda service=self.services()[0]: service.compared_cases(
                    one, other, ComparedQuery(score="token_f1", change="regressed")
                )
            ),
            "next_items": lambda: lambda judges=self.services()[1]: judges.next_items(one, "correct"),
        }


def measure(ready: Callable[[], Step], repeats: int) -> float:
    """Return the least processor time of a step in seconds."""
    times = []
    for _ in range(repeats):
        step = ready()
        gc.collect()
        start = time.process_time()
        step()
        times.append(time.process_time() - start)
    return min(times)


def peak_mb() -> float:
    """Return the most memory this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--home", type=Path, help="keep what is stored here, and read what is there already")
    parser.add_argument("--profile", help="print where this step spends its time, instead of measuring")
    parser.add_argument("--record", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(asked.home or Path(folder))
        results: dict[str, Any] = {}
        known = [record.id for record in bench.services()[0].list().rows]
        if len(known) >= 2:
            other, one = known[:2]
        else:
            cases = bench.make_cases(asked.cases)
            one, outputs_s, scores_s = bench.fill("weak", 0.66, 2, cases)
            other, *_ = bench.fill("strong", 0.7, 3, cases)
            del cases
            results["storing outputs"], results["storing scores"] = outputs_s, scores_s
        before = peak_mb()
        steps = bench.steps(one, other)
        if asked.profile:
            profile(steps[asked.profile]())
            return
        results.update({name: measure(ready, asked.repeats) for name, ready in steps.items()})
        bench.engine.dispose()
    for name, seconds in results.items():
        print(f"{name:48} {1000 * seconds:9,.0f} ms")
    print(f"{'memory, most while reading (before)':48} {peak_mb():9,.0f} MB ({before:,.0f})")
    if asked.record:
        told = {name: round(1000 * seconds) for name, seconds in results.items()}
        memory = {"peak_mb": round(peak_mb()), "peak_before_reading_mb": round(before)}
        record_result("evaluations", {"cases": asked.cases, "scores": len(SCORERS), "cpu_ms": told, **memory})


def profile(step: Step) -> None:
    """Print where a step spends its time."""
    profiler = cProfile.Profile()
    profiler.enable()
    step()
    profiler.disable()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
