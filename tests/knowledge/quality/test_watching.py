"""A share of answers is judged as they come: the same ones again after a restart, never past the day's budget."""

import threading
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine

from penstock.base.errors import InvalidInput, UpstreamUnavailable
from penstock.base.ids import new_trace_id
from penstock.knowledge.quality.errors import UnknownWatch
from penstock.knowledge.quality.ports import AnsweredTrace, ReadAnswers
from penstock.knowledge.quality.report_types import TriadSettings
from penstock.knowledge.quality.watching import TriadService, is_taken
from penstock.spec.scores import Score

MINUTE = 60 * 10**9
DAY = 86_400 * 10**9
START = 20_000 * DAY


class Answers:
    """Answers that a test puts in; each judged score costs the same."""

    def __init__(self, price: str | None = "0.01") -> None:
        self.answers: list[AnsweredTrace] = []
        self.kept: list[tuple[str, list[str]]] = []
        self.price = None if price is None else Decimal(price)
        self.error: Exception | None = None
        self.keep_error: Exception | None = None
        self.unreadable: set[str] = set()
        self.on_judge: Any = None

    def add(self, time_ns: int, trace_id: str | None = None) -> None:
        self.answers.append(
            AnsweredTrace(
                trace_id=trace_id or new_trace_id(),
                span_id="a" * 16,
                time_ns=time_ns,
                question="?",
                answer="!",
                passages=[],
            )
        )

    def read_answers(self, app: str, *, since_ns: int, until_ns: int, limit: int) -> ReadAnswers:
        del app
        every = sorted(
            ((each.time_ns, each) for each in self.answers if since_ns <= each.time_ns < until_ns),
            key=lambda pair: pair[0],
        )
        looked_at = every[:limit]
        found = [each for _, each in looked_at if each.trace_id not in self.unreadable]
        return ReadAnswers(
            answers=found,
            until_ns=until_ns if len(looked_at) == len(every) else looked_at[-1][0] + 1,
            n_unreadable=len(looked_at) - len(found),
        )

    def judge(self, settings: TriadSettings, answer: AnsweredTrace) -> Sequence[Score]:
        if self.on_judge is not None:
            self.on_judge()
        if self.error is not None:
            raise self.error
        return [
            Score(name=name, value=1.0, status="scored", scorer="j@1", cost_usd=self.price)
            for name in settings.judges
        ]

    def keep(self, answer: AnsweredTrace, scores: Sequence[Score]) -> None:
        if self.keep_error is not None:
            raise self.keep_error
        self.kept.append((answer.trace_id, [score.name for score in scores]))


class Watch:
    """A service with a clock that a test sets."""

    def __init__(self, engine: Engine, answers: Answers) -> None:
        self.now = START
        self.answers = answers
        self.service = TriadService(engine, answers, clock=lambda: self.now)

    def minutes(self, count: float) -> None:
        self.now += round(count * MINUTE)

    def answer(self, count: int = 1) -> None:
        for _ in range(count):
            self.now += 1000
            self.answers.add(self.now)


ALL = TriadSettings(app="island", judge="big", share=1.0)


@pytest.fixture
def watch(sqlite_engine: Engine) -> Watch:
    return Watch(sqlite_engine, Answers())


def test_answers_from_now_on_are_judged_once_and_scored_in_their_traces(watch: Watch) -> None:
    watch.answer(2)
    watch.minutes(1)
    watch.service.put(ALL, actor="ada")
    watch.answer(3)
    assert watch.service.judge_new() == 0, "spans of a fresh answer may still come in"
    watch.minutes(2)
    assert watch.service.judge_new() == 3 and watch.service.judge_new() == 0
    assert [names for _, names in watch.answers.kept] == [
        ["context_relevance", "groundedness", "answer_relevance"]
    ] * 3
    state = watch.service.get("island")
    assert (state.n_seen, state.n_judged, state.spent_usd, state.actor) == (3, 3, Decimal("0.09"), "ada")


def test_a_share_is_taken_by_the_trace_and_so_the_same_after_a_restart(sqlite_engine: Engine) -> None:
    answers = Answers()
    watch = Watch(sqlite_engine, answers)
    watch.service.put(msgspec.structs.replace(ALL, share=0.2, max_per_day=10_000), actor="")
    watch.answer(150)
    watch.minutes(2)
    first = watch.service.judge_new()
    assert first == sum(is_taken(each.trace_id, 0.2) for each in answers.answers) and 10 < first < 55
    again = Watch(sqlite_engine, answers)
    again.now = watch.now
    assert again.service.judge_new() == 0, "how far it is, is kept"


def test_a_budget_is_never_begun_to_be_passed_and_begins_anew_each_day(watch: Watch) -> None:
    watch.service.put(msgspec.structs.replace(ALL, budget_usd_per_day=Decimal("0.10")), actor="")
    watch.answer(10)
    watch.minutes(2)
    assert watch.service.judge_new() == 3, "a fourth would cost 0.03 more than 0.09 and pass 0.10"
    state = watch.service.get("island")
    assert state.spent_usd == Decimal("0.09") and state.n_seen == 10
    watch.now += DAY
    watch.answer(1)
    watch.minutes(2)
    assert watch.service.judge_new() == 1
    assert watch.service.get("island").spent_usd == Decimal("0.03")


def test_at_most_so_many_a_day(watch: Watch) -> None:
    watch.service.put(msgspec.structs.replace(ALL, max_per_day=2), actor="")
    watch.answer(5)
    watch.minutes(2)
    assert watch.service.judge_new() == 2 and watch.service.get("island").n_seen == 5


def test_an_unknown_price_is_told_and_is_no_zero(sqlite_engine: Engine) -> None:
    watch = Watch(sqlite_engine, Answers(price=None))
    watch.service.put(ALL, actor="")
    watch.answer()
    watch.minutes(2)
    watch.service.judge_new()
    assert watch.service.get("island").n_unpriced == 3


def test_a_judge_that_fails_is_told_and_the_next_answer_goes_on(watch: Watch) -> None:
    watch.service.put(ALL, actor="")
    watch.answer()
    watch.minutes(2)
    watch.answers.error = UpstreamUnavailable("the judge is away.")
    watch.service.judge_new()
    state = watch.service.get("island")
    assert state.n_failed == 1 and "the judge is away" in (state.last_error or "")
    watch.answers.error = None
    watch.answer()
    watch.minutes(2)
    assert watch.service.judge_new() == 1


def test_answers_that_cannot_be_judged_are_passed_by_and_counted(watch: Watch) -> None:
    """An outage: a hundred answers in a row that failed stood in the way of all that came after them, for ever."""
    watch.service.put(ALL, actor="")
    watch.answer(250)
    watch.answers.unreadable = {each.trace_id for each in watch.answers.answers[:230]}
    watch.minutes(2)
    assert watch.service.judge_new() + watch.service.judge_new() == 20
    state = watch.service.get("island")
    assert (state.n_seen, state.n_unreadable) == (20, 230)
    assert watch.service.judge_new() == 0 and watch.service.get("island").n_unreadable == 230


def test_scores_that_cannot_be_kept_are_paid_for_all_the_same(watch: Watch) -> None:
    watch.service.put(msgspec.structs.replace(ALL, max_per_day=2), actor="")
    watch.answer(5)
    watch.minutes(2)
    watch.answers.keep_error = UpstreamUnavailable("the record is busy.")
    assert watch.service.judge_new() == 2
    state = watch.service.get("island")
    assert (state.spent_usd, state.n_judged, state.n_failed) == (Decimal("0.06"), 2, 2)
    assert "the record is busy" in (state.last_error or "")


def test_what_the_dearest_answer_cost_is_known_after_a_restart_and_on_the_next_day(
    sqlite_engine: Engine,
) -> None:
    answers = Answers(price="0.02")
    watch = Watch(sqlite_engine, answers)
    watch.service.put(msgspec.structs.replace(ALL, budget_usd_per_day=Decimal("0.10")), actor="")
    watch.answer(1)
    watch.minutes(2)
    assert watch.service.judge_new() == 1
    again = Watch(sqlite_engine, answers)
    again.now = watch.now
    again.answer(3)
    again.minutes(2)
    assert again.service.judge_new() == 0, "0.06 and another 0.06 pass 0.10"
    again.now += DAY
    again.answer(3)
    again.minutes(2)
    assert again.service.judge_new() == 1, "the first of a day knows what yesterday's cost"


def test_one_dear_answer_does_not_end_a_watch(watch: Watch) -> None:
    watch.service.put(msgspec.structs.replace(ALL, budget_usd_per_day=Decimal("0.10")), actor="")
    watch.answers.price = Decimal("1.00")
    watch.answer()
    watch.minutes(2)
    assert watch.service.judge_new() == 1, "nothing was known of its cost"
    watch.answers.price = Decimal("0.01")
    n_judged = 0
    for _ in range(8):
        watch.now += DAY
        watch.answer()
        watch.minutes(2)
        n_judged += watch.service.judge_new()
    assert 1 <= n_judged < 8


def test_a_change_while_judging_is_not_overwritten(watch: Watch) -> None:
    watch.service.put(ALL, actor="")
    watch.answer(3)
    watch.minutes(2)
    off = msgspec.structs.replace(ALL, is_on=False)
    watch.answers.on_judge = lambda: watch.service.put(off, actor="bo")
    assert watch.service.judge_new() == 1
    state = watch.service.get("island")
    assert not state.settings.is_on and state.actor == "bo"
    assert watch.service.judge_new() == 0


def test_a_watch_ends_and_its_thread_stops(watch: Watch) -> None:
    watch.service.put(ALL, actor="")
    assert [each.settings.app for each in watch.service.list_watches()] == ["island"]
    watch.service.delete("island")
    with pytest.raises(UnknownWatch):
        watch.service.get("island")
    with pytest.raises(UnknownWatch):
        watch.service.delete("island")
    stop = threading.Event()
    stop.set()
    watch.service.run(stop)


@pytest.mark.parametrize(
    "changes",
    [
        {"share": 0.0},
        {"share": 1.5},
        {"judge": ""},
        {"judge": "island"},
        {"judges": ()},
        {"judges": ("tone",)},
        {"budget_usd_per_day": Decimal(0)},
        {"max_per_day": 0},
    ],
)
def test_wrong_settings_are_refused(watch: Watch, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        watch.service.put(msgspec.structs.replace(ALL, **changes), actor="")
