"""A row of a dataset → what is said to the model and what it should say.

Rows of `chat` are conversations as they stand. Every other format goes by the case that evaluations make of it, written
with the prompt version that serves in production, by the same code: what is trained on is what will be asked.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.base.errors import PenstockError
from penstock.spec.cases import Case
from penstock.spec.datasets import DatasetFormat, DatasetRow
from penstock.spec.prompts import PromptContent
from penstock.templating.render import render_prompt
from penstock.tuning.bulk_ids import PlainTalk
from penstock.tuning.errors import RowNotUnderstood
from penstock.tuning.rows.messages import find_unlearnt, text_of
from penstock.tuning.rows.types import AsCase, RowKind, TrainingRow

_PLAIN_ROLES = frozenset({"system", "user", "assistant"})
_GOOD = {
    True: True,
    False: False,
    "good": True,
    "bad": False,
    "true": True,
    "false": False,
}


@dataclass(frozen=True, kw_only=True)
class RowReader:
    """How rows of one dataset are read."""

    form: DatasetFormat
    kind: RowKind
    as_case: AsCase
    prompt: PromptContent | None = None
    system: str | None = None

    def read(self, number: int, row: DatasetRow) -> list[TrainingRow]:
        """Return the row to train on (two for kto of a preference); raise `RowNotUnderstood` that says why not."""
        try:
            if self.kind == "supervised":
                return [self._read_supervised(number, row)]
            if self.form == "preference":
                return self._read_preference(number, row)
            if self.kind == "preference":
                raise RowNotUnderstood(f"It is of format {self.form}, which says nothing of a worse answer.")
            return [self._read_judged(number, row)]
        except RowNotUnderstood:
            raise
        except PenstockError as error:
            raise RowNotUnderstood(error.message, hint=error.hint) from error
        except (KeyError, TypeError, AttributeError) as error:  # rows that code wrote may hold anything
            raise RowNotUnderstood(f"Its fields are not those of {self.form}: {error!r}.") from error

    def read_plain(self, row: DatasetRow) -> PlainTalk | None:
        """Return what `read` would, of a conversation that has nothing but roles and texts; None where it has more."""
        fields = row.fields
        messages = fields.get("messages")
        if (
            self.kind != "supervised"
            or self.form != "chat"
            or type(messages) is not list
            or fields.get("tools")
        ):
            return None
        try:
            roles = tuple([each["role"] for each in messages])
            contents = [each["content"] for each in messages]
            is_plain = _PLAIN_ROLES.issuperset(roles) and sum(map(len, messages)) == 2 * len(messages)
        except (KeyError, TypeError):  # told where the row is read whole
            return None
        if not is_plain or len(roles) < 2 or roles[-1] != "assistant":
            return None
        for content in contents:
            if type(content) is not str:
                return None
        if self.system is None or "system" in roles:
            return PlainTalk(roles, contents)
        return PlainTalk(("system", *roles), [self.system, *contents])

    def question(self, row: DatasetRow) -> str:
        """Return what a row asks, without rendering it: of text without turns the text; empty where that cannot be told."""
        try:
            if self.form == "chat":
                messages = row.fields["messages"]
                return _conversation_text(messages if len(messages) == 1 else messages[:-1])
            return _question_of(self.as_case(row, self.form))
        except (PenstockError, KeyError, TypeError, AttributeError):
            return ""

    def _read_supervised(self, number: int, row: DatasetRow) -> TrainingRow:
        if self.form == "chat":
            return self._read_chat(number, row)
        case = self.as_case(row, self.form)
        answer = expected_text(case.expected)
        asked, tools = self._ask(case)
        return TrainingRow(
            number=number,
            id=row.id,
            messages=[*asked, {"role": "assistant", "content": answer}],
            tools=tools,
            question=_question_of(case),
            answer=answer,
            group=row.group,
            untrained=_assistants(asked),
        )

    def _read_chat(self, number: int, row: DatasetRow) -> TrainingRow:
        messages = list(row.fields["messages"])
        if not messages:
            raise RowNotUnderstood("It has no message.")
        is_text = len(messages) == 1 and messages[0].get("role") == "assistant"
        answer = text_of(messages[-1].get("content"))
        asked = messages[:-1]
        if not is_text:
            messages = self._put_system(messages)
        return TrainingRow(
            number=number,
            id=row.id,
            messages=messages,
            tools=list(row.fields.get("tools") or ()),
            question=_conversation_text(asked),
            answer=answer,
            group=row.group,
            untrained=find_unlearnt(messages),
            is_text=is_text,
        )

    def _read_preference(self, number: int, row: DatasetRow) -> list[TrainingRow]:
        case = self.as_case(row, self.form)
        asked, tools = self._ask(case)
        tools = tools or list(row.fields.get("tools") or ())
        chosen, rejected = (_answer_of(row.fields[name], asked, name) for name in ("chosen", "rejected"))
        row_of: dict[str, Any] = {
            "number": number,
            "id": row.id,
            "messages": asked,
            "tools": tools,
            "question": _question_of(case),
            "group": row.group,
        }
        if self.kind == "preference":
            texts = text_of(chosen.get("content")) + "\n" + text_of(rejected.get("content"))
            return [TrainingRow(**row_of, chosen=[chosen], rejected=[rejected], answer=texts)]
        return [
            TrainingRow(**row_of, chosen=[answer], label=label, answer=text_of(answer.get("content")))
            for answer, label in ((chosen, True), (rejected, False))
        ]

    def _read_judged(self, number: int, row: DatasetRow) -> TrainingRow:
        label = _GOOD.get(row.metadata.get("label")) if _is_plain(row.metadata.get("label")) else None
        if label is None:
            raise RowNotUnderstood(
                "It has no `label` of true or false in its metadata, which kto learns from.",
                hint="Use rows of format preference, or map a column: --map metadata.label=COLUMN.",
            )
        read = self._read_supervised(number, row)
        return TrainingRow(
            number=number,
            id=row.id,
            messages=read.messages[:-1],
            tools=read.tools,
            chosen=read.messages[-1:],
            label=label,
            question=read.question,
            answer=read.answer,
            group=row.group,
        )

    def _ask(self, case: Case) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return what the case asks, as an evaluation of the prompt (or of a bare model) would."""
        if self.prompt is not None:
            declared = self.prompt.variables
            given = {name: value for name, value in case.inputs.items() if name in declared}
            rendered = render_prompt(self.prompt, given, history=case.messages)
            return self._put_system(rendered.messages), rendered.tools
        asked = case.messages or [{"role": "user", "content": _single_text(case)}]
        return self._put_system(asked), list(case.metadata.get("tools") or ())

    def _put_system(self, messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        listed = [dict(message) for message in messages]
        if self.system is None or any(each.get("role") in {"system", "developer"} for each in listed):
            return listed
        return [{"role": "system", "content": self.system}, *listed]


def expected_text(expected: Any) -> str:
    """Return the answer to learn: the text, the first of several acceptable ones, JSON for what is no text."""
    if isinstance(expected, list) and expected and isinstance(expected[0], str):
        expected = expected[0]
    if expected is None or expected in ("", []):
        raise RowNotUnderstood("It has no expected answer, so there is nothing to learn from it.")
    return expected if isinstance(expected, str) else json.dumps(expected, ensure_ascii=False)


def _single_text(case: Case) -> str:
    """Return the one text that is asked, as evaluations of a bare model take it."""
    value = case.inputs.get("input")
    if value is None and len(case.inputs) == 1:
        value = next(iter(case.inputs.values()))
    if value is None:
        named = ", ".join(case.inputs) or "nothing"
        raise RowNotUnderstood(
            f"It has neither messages nor a text `input` (it has {named}).",
            hint="Name the prompt that takes these variables: data.template = 'prompt:NAME'.",
        )
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _answer_of(value: Any, asked: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    """Return the one turn of an answer; one that repeats the question before it is understood."""
    if isinstance(value, str):
        return {"role": "assistant", "content": value}
    turns = list(value)
    if len(turns) > 1:
        said = [(each.get("role"), each.get("content")) for each in turns[:-1]]
        before = [(each.get("role"), each.get("content")) for each in asked]
        if said == before[len(before) - len(said) :]:
            turns = turns[-1:]
    if len(turns) != 1 or turns[0].get("role") != "assistant":
        raise RowNotUnderstood(f"`{name}` is not one turn of the assistant.")
    return dict(turns[0])


def _question_of(case: Case) -> str:
    """Return what is asked, without instructions that every row shares."""
    if case.messages:
        return _conversation_text(case.messages)
    if isinstance(case.inputs.get("input"), str):
        return str(case.inputs["input"])
    return "\n".join(
        value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for _, value in sorted(case.inputs.items())
    )


def _conversation_text(messages: Sequence[Mapping[str, Any]]) -> str:
    texts = []
    for each in messages:
        if each.get("role") in {"system", "developer"}:
            continue
        try:
            texts.append(text_of(each.get("content")))
        except RowNotUnderstood:  # told where the row is read whole
            continue
    return "\n".join(texts)


def _assistants(messages: Sequence[Mapping[str, Any]]) -> frozenset[int]:
    return frozenset(place for place, each in enumerate(messages) if each.get("role") == "assistant")


def _is_plain(value: Any) -> bool:
    return isinstance(value, bool | int | str)
