"""A teacher's replies: what is no use is left out and counted, the budget holds, a killed run asks nothing twice."""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import pytest

from penstock.spec.datasets import DatasetRow
from penstock.spec.tuning import DistillPart
from penstock.tuning.compress.distilling import WAVE, AskedRow, Distillation, TeacherReply, distil
from penstock.tuning.compress.errors import BadDistillation, TeacherUnusable


class Journal:
    """A job's context that remembers its steps, as the table does."""

    def __init__(self, *, dies_after: int | None = None) -> None:
        self.steps: dict[str, Any] = {}
        self.dies_after = dies_after
        self.lines: list[str] = []

    def step(self, name: str, inputs: dict[str, Any], fn: Callable[[], Any]) -> Any:
        key = f"{name} {sorted(inputs.items())}"
        if key not in self.steps:
            if self.dies_after is not None and len(self.steps) >= self.dies_after:
                raise KeyboardInterrupt
            self.steps[key] = fn()
        return self.steps[key]

    def progress(self, fraction: float | None, message: str | None = None) -> None: ...

    def log(self, text: str) -> None:
        self.lines.append(text)

    def check_cancelled(self) -> None: ...


class Scripted:
    """A teacher that answers by the question's text."""

    def __init__(self, price: str | None = "0.01", **replies: TeacherReply | list[TeacherReply]) -> None:
        self.price_usd = price
        self.replies = replies
        self.asked: list[tuple[str, Mapping[str, Any]]] = []

    def ask(
        self,
        model: str,
        messages: Sequence[Mapping[str, Any]],
        *,
        parameters: Mapping[str, Any],
        session: str,
    ) -> TeacherReply:
        question = messages[-1]["content"]
        self.asked.append((question, parameters))
        told = self.replies.get(question)
        if isinstance(told, list):
            return told.pop(0)
        return told or TeacherReply(
            status="ok",
            text=f"answer to {question}",
            finish="stop",
            input_tokens=3,
            output_tokens=5,
            cost_usd=self.price_usd,
            version="model:teacher@1",
        )

    def price(self, model: str, *, input_tokens: int, output_tokens: int) -> Decimal | None:
        return None if self.price_usd is None else Decimal(self.price_usd)


def asked(n: int, **row: Any) -> list[AskedRow]:
    return [
        AskedRow(
            row=DatasetRow(id=f"r{number}", fields={}, **row),
            messages=({"role": "user", "content": f"q{number}"},),
        )
        for number in range(n)
    ]


def how(**part: Any) -> Distillation:
    cost = part.pop("max_cost_usd", None)
    return Distillation(part=DistillPart(teacher="teacher", **part), max_cost_usd=cost)


def run(rows: list[AskedRow], what: Distillation, teacher: Scripted, journal: Journal | None = None) -> Any:
    return distil(rows, what, teacher, journal or Journal(), session="s", sleep=lambda _: None)


def ok(text: str, finish: str = "stop") -> TeacherReply:
    return TeacherReply(status="ok", text=text, finish=finish, cost_usd="0.01")


def test_replies_become_conversations_that_name_their_teacher() -> None:
    rows, tally = run(asked(2, split="train", group="g"), how(), Scripted())
    assert rows[0].fields["messages"] == [
        {"role": "user", "content": "q0"},
        {"role": "assistant", "content": "answer to q0"},
    ]
    assert (rows[0].id, rows[0].split, rows[0].group) == ("r0", "train", "g")
    assert rows[0].provenance is not None and rows[0].provenance.detail["version"] == "model:teacher@1"
    assert tally.as_fields()["teacher_versions"] == {"model:teacher@1": 2}
    assert tally.cost_usd == Decimal("0.02")


def test_refused_cut_off_empty_short_and_failed_replies_are_left_out_and_counted() -> None:
    teacher = Scripted(
        q0=TeacherReply(status="refused"),
        q1=ok("half a sen", "length"),
        q2=ok("  "),
        q3=ok("no"),
        q4=TeacherReply(status="error"),
    )
    rows, tally = run(asked(12), how(min_length=3), teacher)
    assert tally.left_out == {"refused": 1, "cut_off": 1, "empty": 1, "short": 1, "failed": 1}
    assert len(rows) == tally.n_kept == 7


def test_a_teacher_that_cuts_most_replies_off_is_refused_with_the_remedy() -> None:
    teacher = Scripted(**{f"q{number}": ok("half", "length") for number in range(9)})
    with pytest.raises(TeacherUnusable, match="9 cut_off") as caught:
        run(asked(12), how(), teacher)
    assert caught.value.hint is not None and "raise max_tokens" in caught.value.hint


def test_what_fails_in_passing_is_asked_again_and_no_more_than_thrice() -> None:
    late = TeacherReply(status="timeout", is_transient=True)
    teacher = Scripted(q0=[late, late, ok("at last")], q1=[late, late, late, ok("too late")])
    rows, tally = run(asked(6), how(), teacher)
    assert [row.fields["messages"][-1]["content"] for row in rows][:1] == ["at last"]
    assert tally.left_out == {"failed": 1}


def test_a_budget_stops_before_it_is_overrun_and_says_what_was_not_asked() -> None:
    teacher, journal = Scripted("0.01"), Journal()
    rows, tally = run(asked(100), how(max_cost_usd=0.4), teacher, journal)
    assert len(rows) == len(teacher.asked) == 40
    assert tally.n_not_asked == 60
    assert any("budget" in line and "60 calls" in line for line in journal.lines)


def test_a_reply_whose_cost_nobody_tells_counts_as_what_it_may_cost() -> None:
    teacher, journal = Scripted("0.1"), Journal()
    teacher.replies = {f"q{n}": TeacherReply(status="ok", text=f"a{n}", finish="stop") for n in range(100)}
    rows, tally = run(asked(100), how(max_cost_usd=3.2), teacher, journal)
    assert len(teacher.asked) == len(rows) == 32 and tally.n_not_asked == 68
    assert tally.as_fields()["cost_usd"] is None and "unknown for 32 of 32 calls" in tally.cost_text
    assert any("up to 3.2 USD more on 32 calls of unknown cost" in line for line in journal.lines)


def test_calls_that_cost_less_than_thought_leave_the_rest_for_more_calls() -> None:
    teacher, journal = Scripted("0.1"), Journal()
    cheap = {"status": "ok", "finish": "stop", "cost_usd": "0.0001"}
    teacher.replies = {f"q{n}": TeacherReply(text=f"a{n}", **cheap) for n in range(320)}  # type: ignore[arg-type]
    rows, tally = run(asked(320), how(max_cost_usd=2.0), teacher, journal)
    assert len(rows) == 320 and tally.n_not_asked == 0
    assert not any("budget" in line for line in journal.lines)


def test_every_attempt_is_counted_and_none_overruns_the_budget() -> None:
    failing = TeacherReply(status="error", is_transient=True, cost_usd="0.1")
    teacher = Scripted("0.1", q0=[failing, failing, ok("late")])
    _, tally = run(asked(4), how(), teacher)
    assert (tally.n_calls, tally.n_attempts, tally.cost_usd) == (4, 6, Decimal("0.51"))
    teacher = Scripted("0.1", q0=[failing, failing, ok("late")])
    _, tally = run(asked(4), how(max_cost_usd=0.5), teacher)
    assert tally.n_attempts == len(teacher.asked) == 5 and tally.cost_usd == Decimal("0.5")


def test_a_timeout_may_have_been_billed_and_counts_against_the_budget() -> None:
    late = TeacherReply(status="timeout", is_transient=True)
    teacher = Scripted("0.1", q0=[late, late, late])
    _, tally = run(asked(30), how(max_cost_usd=1.0), teacher)
    assert tally.reserved_usd > 0 and tally.cost_usd + tally.reserved_usd <= 1
    assert len(teacher.asked) == 10


def test_a_budget_too_small_for_one_call_says_so() -> None:
    with pytest.raises(TeacherUnusable, match="not asked at all"):
        run(asked(3), how(max_cost_usd=0.05), Scripted("0.1"))


def test_a_teacher_that_refuses_everything_is_left_after_the_first_wave() -> None:
    teacher = Scripted(**{f"q{n}": TeacherReply(status="refused") for n in range(320)})
    with pytest.raises(TeacherUnusable, match="32 refused"):
        run(asked(320), how(), teacher)
    assert len(teacher.asked) == WAVE


def test_a_budget_without_a_known_price_is_refused() -> None:
    with pytest.raises(BadDistillation, match="not known"):
        run(asked(2), how(max_cost_usd=1.0), Scripted(None))


def test_cost_that_nobody_knows_is_unknown_and_not_nothing() -> None:
    _, tally = run(asked(2), how(), Scripted(None))
    assert tally.as_fields()["cost_usd"] is None
    assert "unknown for 2 of 2" in tally.cost_text


def test_a_killed_run_goes_on_without_asking_twice() -> None:
    n = 2 * WAVE + 3
    journal, teacher = Journal(dies_after=2), Scripted()
    with pytest.raises(KeyboardInterrupt):
        run(asked(n), how(), teacher, journal)
    assert len(teacher.asked) == 2 * WAVE
    journal.dies_after = None
    rows, tally = run(asked(n), how(), teacher, journal)
    assert len(teacher.asked) == n and len(rows) == n and tally.n_calls == n


def test_several_replies_a_prompt_differ_by_seed_stay_together_and_come_once_each() -> None:
    rows, tally = run(asked(2), how(n_per_prompt=3, temperature=0.8), teacher := Scripted())
    assert len({parameters["seed"] for _, parameters in teacher.asked}) == 6
    assert [row.id for row in rows] == ["r0#1", "r1#1"] and [row.group for row in rows] == ["r0", "r1"]
    assert tally.left_out == {"duplicate": 4}


def test_the_same_reply_several_times_is_not_paid_for() -> None:
    with pytest.raises(BadDistillation, match="same reply"):
        run(asked(1), how(n_per_prompt=2), Scripted())


def test_turns_of_before_are_nothing_to_learn() -> None:
    row = AskedRow(
        row=DatasetRow(id="r", fields={}),
        messages=(
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "somebody else's"},
            {"role": "user", "content": "b"},
        ),
    )
    rows, _ = run([row], how(), Scripted())
    assert [message.get("weight") for message in rows[0].fields["messages"]] == [None, 0, None, None]
