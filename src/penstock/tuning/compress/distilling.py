"""Asks a teacher for the replies that a student is trained on: sequence-level distillation, from any model the gateway answers.

Kim and Rush, Sequence-Level Knowledge Distillation, 2016: a student trained on what a teacher writes learns more than one trained on
the same number of other texts. Calls go out in waves; each wave is one step of the job's journal, and what has come of an unfinished
wave is kept call by call, so a run that was killed asks, and pays, for nothing twice that had come. A reply that was refused, cut off or empty teaches the wrong thing: it is left out and
counted. A budget counts every attempt, and what a call may cost at most where nobody says what it did cost.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal, Protocol

import msgspec

from penstock.base.digest import digest_json
from penstock.spec.datasets import DatasetRow, Provenance
from penstock.spec.tuning import DistillPart
from penstock.tuning.compress.errors import BadDistillation, TeacherUnusable

AT_ONCE = 8
WAVE = 32
"""Calls of one step: their replies are kept together, in less than the 1 MiB that a step may hold."""
ATTEMPTS = 3
HOPELESS_SHARE = 0.25
"""Of the replies that came so far: with less nobody asks, and pays for, the rest."""
MIN_KEPT_SHARE = 0.5
"""Of the replies that came: with less the teacher does not do this task, and a student would learn the rest of it."""
BYTES_PER_TOKEN = 4


class TeacherReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a teacher answered to one call. Unknown is None."""

    status: Literal["ok", "refused", "timeout", "error"]
    text: str = ""
    finish: str | None = None
    reason: str = ""
    """Why there is no text."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: str | None = None
    """Decimal text; None when nobody knows."""
    version: str | None = None
    """Who answered, as the gateway says it: `model:pocket@1 sha256:…`."""
    trace_id: str | None = None
    is_transient: bool = False
    """Whether asking again may help."""
    before: "tuple[TeacherReply, ...]" = ()
    """What earlier attempts of the same call came to; these may have cost something, too."""

    @property
    def may_be_billed(self) -> bool:
        """Whether it may have cost something though nobody says so: an error without an answer has no price, a timeout has."""
        return self.cost_usd is None and self.status != "error"


class Teacher(Protocol):
    """A model behind the gateway. Safe for threads."""

    def ask(
        self,
        model: str,
        messages: Sequence[Mapping[str, Any]],
        *,
        parameters: Mapping[str, Any],
        session: str,
    ) -> TeacherReply:
        """Return the answer; never raises for what the model or the gateway does."""
        ...

    def price(self, model: str, *, input_tokens: int, output_tokens: int) -> Decimal | None:
        """Return what such a call costs now; None when nobody knows."""
        ...


class ArrivedReplies(Protocol):
    """What has come of the wave under way, where a kill does not take it. Safe for threads."""

    def attempts(self, call: str) -> "Sequence[TeacherReply]":
        """Return what came of the attempts of a call so far, oldest first."""

    def keep(self, call: str, reply: "TeacherReply") -> None:
        """Write down what came of one attempt."""

    def clear(self) -> None:
        """Forget all: the wave is kept as a whole."""


class DistillContext(Protocol):
    """The part of a job's context that is used."""

    def step(self, name: str, inputs: dict[str, Any], fn: Callable[[], Any]) -> Any:
        """Return what `fn` returned, running it once for these inputs."""

    def progress(self, fraction: float | None, message: str | None = None) -> None:
        """Say how far it is."""

    def log(self, text: str) -> None:
        """Write a line."""

    def check_cancelled(self) -> None:
        """Raise when it is to stop."""


@dataclass(frozen=True, kw_only=True)
class AskedRow:
    """One row whose reply is asked for."""

    row: DatasetRow
    messages: tuple[dict[str, Any], ...]


@dataclass(kw_only=True)
class DistillTally:
    """What became of everything that was asked, all of it counted."""

    n_prompts: int = 0
    n_calls: int = 0
    """Replies that were asked for."""
    n_attempts: int = 0
    """Calls that were made for them, those made again among them."""
    n_kept: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    """refused, cut_off, empty, short, duplicate, failed."""
    n_not_asked: int = 0
    """Calls that the budget did not allow."""
    cost_usd: Decimal = Decimal(0)
    n_cost_unknown: int = 0
    reserved_usd: Decimal = Decimal(0)
    """What the calls of unknown cost may have cost at most: a budget counts it as spent."""
    input_tokens: int = 0
    output_tokens: int = 0
    versions: Counter[str] = field(default_factory=Counter)

    def as_fields(self) -> dict[str, Any]:
        """Return the tally as JSON: part of what a dataset version says of how it was made."""
        return {
            "n_prompts": self.n_prompts,
            "n_calls": self.n_calls,
            "n_attempts": self.n_attempts,
            "n_kept": self.n_kept,
            "left_out": dict(self.left_out),
            "n_not_asked": self.n_not_asked,
            "cost_usd": None if self.n_cost_unknown else str(self.cost_usd),
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "teacher_versions": dict(self.versions),
        }

    @property
    def cost_text(self) -> str:
        """What it cost, as a person reads it."""
        if self.n_cost_unknown:
            return f"cost unknown for {self.n_cost_unknown} of {self.n_attempts} calls"
        return f"{self.cost_usd.normalize():f} USD"


@dataclass(frozen=True, kw_only=True)
class _Call:
    number: int
    asked: AskedRow
    nth: int
    estimate: Decimal | None = None
    """What it may cost at most; None when nobody knows."""


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """One distillation: what is asked of whom, within what."""

    part: DistillPart
    seed: int = 0
    max_cost_usd: float | None = None


@dataclass(frozen=True, kw_only=True)
class _Asking:
    how: Distillation
    teacher: Teacher
    session: str
    arrived: ArrivedReplies | None
    sleep: Callable[[float], None]


def check_distillation(part: DistillPart) -> None:
    """Raise `BadDistillation` for settings that would waste calls or teach nothing."""
    if part.n_per_prompt > 1 and part.temperature == 0:
        raise BadDistillation(
            f"{part.n_per_prompt} replies a prompt at temperature 0 are the same reply {part.n_per_prompt} times.",
            hint="Raise `temperature`, or take n_per_prompt = 1.",
        )


def distil(
    asked: Sequence[AskedRow],
    how: Distillation,
    teacher: Teacher,
    context: DistillContext,
    *,
    session: str,
    arrived: ArrivedReplies | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[list[DatasetRow], DistillTally]:
    """Return rows of format `chat` with the teacher's replies, and what became of all that was asked.

    With `arrived`, a reply that came before a kill is taken from there.

    Raises `BadDistillation` (a budget where no price is known, nothing to ask), `TeacherUnusable` when most replies are no use, and
    whatever ends the job.
    """
    check_distillation(how.part)
    if not asked:
        raise BadDistillation("There is no prompt to ask.", hint="Look at `data.train` and `data.split`.")
    calls = [
        _Call(number=number * how.part.n_per_prompt + nth, asked=row, nth=nth)
        for number, row in enumerate(asked)
        for nth in range(how.part.n_per_prompt)
    ]
    tally = DistillTally(n_prompts=len(asked))
    calls = [replace(call, estimate=_estimate(call, how, teacher)) for call in calls]
    if how.max_cost_usd is not None and any(call.estimate is None for call in calls):
        raise BadDistillation(
            f"max_cost_usd is {how.max_cost_usd:g}, but what {how.part.teacher} costs is not known.",
            hint="Add its price (penstock price add), or leave the budget out.",
        )
    rows: list[DatasetRow] = []
    seen: dict[str, set[str]] = {}
    asking = _Asking(how=how, teacher=teacher, session=session, arrived=arrived, sleep=sleep)
    at = 0
    while at < len(calls):
        context.check_cancelled()
        wave = _affordable(calls[at : at + WAVE], how, tally)
        if not wave:
            break
        replies = _ask_wave(wave, asking, context, _Purse(_left(how, tally), wave), at=at)
        rows += _take(wave, replies, how, tally, seen)
        at += len(wave)
        context.progress(at / len(calls), f"{tally.n_kept} replies of {how.part.teacher}, {tally.cost_text}")
        _demand_hope(how, tally)
    tally.n_not_asked = len(calls) - at
    if tally.n_not_asked:
        context.log(_tell_budget(how, tally))
    _demand_use(how, tally)
    context.log(
        f"{how.part.teacher}: {tally.n_kept} replies kept of {tally.n_calls}; left out: {_tell_left_out(tally)}; {tally.cost_text}"
    )
    return rows, tally


class _Purse:
    """What the attempts of one wave may still cost together. Safe for threads.

    The first attempt of each call is paid for beforehand; a further one is made only where it fits.
    """

    def __init__(self, left: Decimal | None, wave: Sequence[_Call]) -> None:
        self._lock = threading.Lock()
        set_aside = sum((call.estimate or Decimal(0) for call in wave), Decimal(0))
        self._left = None if left is None else left - set_aside

    def settle(self, reply: TeacherReply, reserved: Decimal | None) -> None:
        """Give back what an attempt did not cost."""
        if self._left is None or reserved is None:
            return
        with self._lock:
            self._left += reserved - _cost_of(reply, reserved)

    def charge(self, cost: Decimal) -> None:
        """Take what an attempt has cost that was made before a kill."""
        if self._left is not None:
            with self._lock:
                self._left -= cost

    def take(self, reserved: Decimal | None) -> bool:
        """Set the price of one more attempt aside, and say whether that was possible."""
        if self._left is None or reserved is None:
            return True
        with self._lock:
            if self._left < reserved:
                return False
            self._left -= reserved
            return True


def _cost_of(reply: TeacherReply, reserved: Decimal | None) -> Decimal:
    """Return what a budget counts one attempt as."""
    if reply.cost_usd is not None:
        return Decimal(reply.cost_usd)
    return (reserved or Decimal(0)) if reply.may_be_billed else Decimal(0)


def _ask_wave(
    wave: Sequence[_Call], asking: _Asking, context: DistillContext, purse: _Purse, *, at: int
) -> list[TeacherReply]:
    def ask_all() -> list[Any]:
        with ThreadPoolExecutor(max_workers=AT_ONCE) as threads:
            replies = list(threads.map(lambda call: _ask(call, asking, purse), wave))
        told: list[Any] = msgspec.to_builtins(replies)
        return told

    inputs = {
        "model": asking.how.part.teacher,
        "asked": digest_json([[call.asked.messages, _parameters(call, asking.how)] for call in wave]),
    }
    told = context.step(f"teacher calls from {at}", inputs, ask_all)
    if asking.arrived is not None:
        asking.arrived.clear()
    return msgspec.convert(told, list[TeacherReply])


def _ask(call: _Call, asking: _Asking, purse: _Purse) -> TeacherReply:
    model, parameters = asking.how.part.teacher, _parameters(call, asking.how)
    key = digest_json([model, call.number, call.asked.messages, parameters])
    before = [] if asking.arrived is None else list(asking.arrived.attempts(key))
    for attempt in before[:-1]:
        purse.charge(_cost_of(attempt, call.estimate))
    reply = before.pop() if before else None
    while True:
        if reply is None:
            reply = asking.teacher.ask(
                model, call.asked.messages, parameters=parameters, session=asking.session
            )
            if asking.arrived is not None:
                asking.arrived.keep(key, reply)
        purse.settle(reply, call.estimate)
        is_last = not reply.is_transient or len(before) + 1 >= ATTEMPTS
        if is_last or not purse.take(call.estimate):
            return msgspec.structs.replace(reply, before=tuple(before))
        before.append(reply)
        reply = None
        asking.sleep(2.0 ** len(before))


def _parameters(call: _Call, how: Distillation) -> dict[str, Any]:
    parameters: dict[str, Any] = {"temperature": how.part.temperature, "max_tokens": how.part.max_tokens}
    if how.part.temperature > 0:
        parameters["seed"] = (how.seed + call.number) % 2**31
    return parameters


def _estimate(call: _Call, how: Distillation, teacher: Teacher) -> Decimal | None:
    size = sum(
        len(str(message.get("content", "")).encode("utf-8", "replace")) for message in call.asked.messages
    )
    return teacher.price(
        how.part.teacher, input_tokens=size // BYTES_PER_TOKEN + 1, output_tokens=how.part.max_tokens
    )


def _affordable(wave: Sequence[_Call], how: Distillation, tally: DistillTally) -> list[_Call]:
    left = _left(how, tally)
    if left is None:
        return list(wave)
    chosen = []
    for call in wave:
        left -= call.estimate or Decimal(0)
        if left < 0:
            break
        chosen.append(call)
    return chosen


def _left(how: Distillation, tally: DistillTally) -> Decimal | None:
    """Return what is left of the budget; None without one."""
    if how.max_cost_usd is None:
        return None
    return Decimal(str(how.max_cost_usd)) - tally.cost_usd - tally.reserved_usd


def _tell_budget(how: Distillation, tally: DistillTally) -> str:
    text = f"{tally.n_not_asked} calls were not made: one more might cost more than is left of the budget of {how.max_cost_usd} USD"
    text += f"; {tally.cost_usd.normalize():f} USD are known to be spent"
    if tally.reserved_usd:
        text += f", up to {tally.reserved_usd.normalize():f} USD more on {tally.n_cost_unknown} calls of unknown cost"
    return text


def _take(
    wave: Sequence[_Call],
    replies: Sequence[TeacherReply],
    how: Distillation,
    tally: DistillTally,
    seen: dict[str, set[str]],
) -> Iterator[DatasetRow]:
    for call, reply in zip(wave, replies, strict=True):
        tally.n_calls += 1
        for attempt in (*reply.before, reply):
            _count(attempt, call.estimate, tally)
        before = seen.setdefault(call.asked.row.id, set())
        if (why := _find_fault(reply, how.part, before)) is not None:
            tally.left_out[why] += 1
            continue
        before.add(reply.text.strip())
        tally.n_kept += 1
        tally.versions[reply.version or "unknown"] += 1
        yield _make_row(call, reply, how)


def _count(attempt: TeacherReply, estimate: Decimal | None, tally: DistillTally) -> None:
    tally.n_attempts += 1
    tally.input_tokens += attempt.input_tokens or 0
    tally.output_tokens += attempt.output_tokens or 0
    if attempt.cost_usd is not None:
        tally.cost_usd += Decimal(attempt.cost_usd)
    elif attempt.may_be_billed:
        tally.n_cost_unknown += 1
        tally.reserved_usd += estimate or Decimal(0)


def _find_fault(reply: TeacherReply, part: DistillPart, before: set[str]) -> str | None:
    if reply.status == "refused":
        return "refused"
    if reply.status != "ok":
        return "failed"
    if reply.finish == "length":  # a student would learn to stop in the middle
        return "cut_off"
    text = reply.text.strip()
    if not text:
        return "empty"
    if len(text) < part.min_length:
        return "short"
    return "duplicate" if text in before else None


def _make_row(call: _Call, reply: TeacherReply, how: Distillation) -> DatasetRow:
    row = call.asked.row
    return DatasetRow(
        id=row.id if how.part.n_per_prompt == 1 else f"{row.id}#{call.nth + 1}",
        fields={
            "messages": [*unlearnt(call.asked.messages), {"role": "assistant", "content": reply.text.strip()}]
        },
        split=row.split,
        # replies to one prompt, and rows of one group, stay on one side of every split
        group=row.group if row.group is not None else row.id if how.part.n_per_prompt > 1 else None,
        tags=row.tags,
        metadata=row.metadata,
        provenance=Provenance(
            kind="synthetic",
            source=how.part.teacher,
            detail={
                "version": reply.version,
                "trace": reply.trace_id,
                "temperature": how.part.temperature,
                "row": row.id,
            },
        ),
    )


def unlearnt(messages: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return turns of before, of which the student is to learn nothing: they are not the teacher's."""
    return [
        {**message, "weight": 0} if message.get("role") == "assistant" else dict(message)
        for message in messages
    ]


def _demand_hope(how: Distillation, tally: DistillTally) -> None:
    """Raise as soon as it is plain that the teacher does not do this task, before the rest is paid for."""
    n_came = tally.n_calls - tally.left_out["duplicate"]
    if tally.n_calls >= WAVE and tally.n_kept < HOPELESS_SHARE * n_came:
        raise _unusable(how, tally)


def _demand_use(how: Distillation, tally: DistillTally) -> None:
    n_came = tally.n_calls - tally.left_out["duplicate"]
    if not tally.n_kept or tally.n_kept < MIN_KEPT_SHARE * n_came:
        raise _unusable(how, tally)


def _unusable(how: Distillation, tally: DistillTally) -> TeacherUnusable:
    n_came = tally.n_calls - tally.left_out["duplicate"]
    if not tally.n_calls:
        return TeacherUnusable(
            f"{how.part.teacher} was not asked at all: one call may cost more than the budget of {how.max_cost_usd} USD.",
            hint="Raise max_cost_usd, or lower max_tokens, by which a call is estimated.",
        )
    hint = "Look at one call in the record of traffic."
    if tally.left_out["cut_off"] * 2 >= n_came:
        hint = f"Most replies were cut off at {how.part.max_tokens} tokens: raise max_tokens."
    return TeacherUnusable(
        f"{how.part.teacher} gave {tally.n_kept} usable replies to {tally.n_calls} calls; left out: {_tell_left_out(tally)}.",
        hint=hint,
        left_out=dict(tally.left_out),
    )


def _tell_left_out(tally: DistillTally) -> str:
    return ", ".join(f"{n} {why}" for why, n in sorted(tally.left_out.items())) or "none"
