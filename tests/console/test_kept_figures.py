"""What is counted once is kept as long as nothing changed, and a list does not wait for large evaluations."""

from itertools import count

import msgspec

from penstock.console.kept_figures import KeptFigures, estimate_main
from penstock.console.pages.evaluations import PATIENCE_S, MainScores
from penstock.evals.types import EvaluationRecord
from penstock.spec.evaluations import EvaluationSpec, TargetSpec
from tests.fixtures.evaluated import EvaluatedHouse

DONE = EvaluationRecord(
    id="eval_1",
    name="x",
    state="done",
    spec=EvaluationSpec(name="x", target=TargetSpec(model="pocket")),
    n_outputs=3,
    finished_ns=1,
)


def test_a_value_is_made_once_until_its_evaluation_changes() -> None:
    made, kept = count(), KeptFigures[int](n_kept=2)
    assert [kept.get((DONE,), lambda: next(made)) for _ in range(3)] == [0, 0, 0]
    later = msgspec.structs.replace(DONE, finished_ns=2)
    assert kept.get((later,), lambda: next(made)) == 1
    assert kept.get((DONE, later), lambda: next(made)) == 2
    assert kept.get((DONE,), lambda: next(made)) == 3  # the oldest went


def test_nothing_is_kept_of_what_still_runs() -> None:
    made, kept = count(), KeptFigures[int]()
    running = msgspec.structs.replace(DONE, state="running")
    assert [kept.get((running,), lambda: next(made)) for _ in range(2)] == [0, 1]
    assert not kept.has((running,))


def test_the_main_figure_of_a_list_is_that_of_the_page(evaluated: EvaluatedHouse) -> None:
    evaluations = evaluated.found.services.evaluations
    record = evaluations.get(evaluated.made.strong)
    assert estimate_main(evaluations, record) == evaluations.estimates(record.id).estimates[0]


def test_a_list_that_takes_too_long_shows_the_rest_at_the_next_look(evaluated: EvaluatedHouse) -> None:
    services = evaluated.found.services
    records = services.evaluations.list().rows[:3]
    ticks = count(0.0, PATIENCE_S * 0.6)
    scores = MainScores(services, clock=lambda: next(ticks))
    looks = [[line.is_waiting for line in scores.build_lines(records)] for _ in range(3)]
    assert looks[0] == [False, True, True]
    assert sum(looks[1]) < sum(looks[0])
    assert looks[2] == [False, False, False]
