"""What proposals are made from, and the fields of a row that an item of a reply becomes.

A row can be a seed when it asks one question in one text. The surprise: what is made from a row belongs to that row's group
and split, so that no variant of a held-out question ever lands among those that are trained on.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from penstock.datasets.cases import message_text, split_reply, to_passage
from penstock.datasets.cleaning.texts import row_key
from penstock.datasets.proposals.types import ProposalKind
from penstock.spec.cases import Passage
from penstock.spec.datasets import DatasetFormat, DatasetRow

MAX_SEED_CHARS = 8_000
PASSAGES_PER_CALL = 3
_QUESTION_FIELD = {"label": "text", "retrieval": "query", "preference": "prompt"}
_ANSWER_FIELD = {"label": "label", "retrieval": "answer", "instruct": "output", "cases": "expected"}


@dataclass(frozen=True, kw_only=True)
class Seed:
    """One row, or a few passages, to ask about."""

    key: str
    """The row's id, or those of the passages."""
    question: str = ""
    answer: str | None = None
    row: DatasetRow | None = None
    passages: tuple[Passage, ...] = ()

    @property
    def text(self) -> str:
        """What a reviewer is shown as its source."""
        if self.row is None:
            return "\n\n".join(each.text for each in self.passages)
        return self.question if self.answer is None else f"{self.question}\n→ {self.answer}"


def question_of(row: DatasetRow, form: DatasetFormat) -> str | None:
    """Return the one text that a row asks; None where it asks in several."""
    fields = row.fields
    if form == "chat" or (form == "cases" and fields.get("messages")):
        messages, _ = split_reply(fields["messages"])
        if not messages or messages[-1].get("role") != "user":
            return None
        return message_text(messages[-1])
    if form == "instruct":
        return fields["instruction"] if not fields.get("input") else None
    if form == "cases":
        inputs = fields.get("inputs", fields.get("input"))
        if isinstance(inputs, dict):
            values = list(inputs.values())
            inputs = values[0] if len(values) == 1 else None
        return inputs if isinstance(inputs, str) else None
    value = fields.get(_QUESTION_FIELD[form])
    return value if isinstance(value, str) else None


def answer_of(row: DatasetRow, form: DatasetFormat) -> str | None:
    """Return the answer of a row where it is one text."""
    if form == "chat":
        return split_reply(row.fields["messages"])[1]
    value = row.fields.get(_ANSWER_FIELD.get(form, ""))
    return value if isinstance(value, str) and value.strip() else None


def row_seeds(
    rows: Iterable[DatasetRow], form: DatasetFormat, kind: ProposalKind, *, n: int, seed: int
) -> list[Seed]:
    """Return `n` seeds drawn from the rows that can be one: an even draw of fixed size, however many rows there are."""
    rng = random.Random(seed)
    drawn: list[Seed] = []
    seen = 0
    for row in rows:
        question, answer = question_of(row, form), answer_of(row, form)
        if not question or len(question) + len(answer or "") > MAX_SEED_CHARS:
            continue
        if form == "preference" or (kind == "translate" and form == "label"):
            answer = None
        seen += 1
        each = Seed(key=row.id, question=question, answer=answer, row=row)
        if len(drawn) < n:
            drawn.append(each)
        elif (place := rng.randrange(seen)) < n:
            drawn[place] = each
    rng.shuffle(drawn)
    return drawn


def passage_seeds(passages: Iterable[Passage], *, n: int, seed: int) -> list[Seed]:
    """Return `n` seeds of a few neighbouring passages of one document each, drawn evenly."""
    rng = random.Random(seed)
    drawn: list[Seed] = []
    for seen, group in enumerate(_neighbours(passages), 1):
        each = Seed(key=" ".join(str(passage.id) for passage in group), passages=group)
        if len(drawn) < n:
            drawn.append(each)
        elif (place := rng.randrange(seen)) < n:
            drawn[place] = each
    rng.shuffle(drawn)
    return drawn


def passages_of_rows(rows: Iterable[DatasetRow]) -> Iterable[Passage]:
    """Yield the passages that rows bring along, each once; those without an id get one from their text."""
    seen: set[str] = set()
    for row in rows:
        for value in row.fields.get("passages", []):
            passage = to_passage(value)
            key = passage.id or row_key(DatasetRow(id="", fields={"text": passage.text}))[7:19]
            if key not in seen:
                seen.add(key)
                yield Passage(text=passage.text, id=key, document=passage.document)


def variant_fields(
    seed: Seed, form: DatasetFormat, kind: ProposalKind, question: str, answer: str | None
) -> dict[str, Any]:
    """Return the fields of a row that asks another question in the place of the seed's.

    What was known of the old answer stays only where the new question has the same one.
    """
    assert seed.row is not None
    fields = dict(seed.row.fields)
    if kind in {"harder", "adversarial"}:
        for name in ("relevant", "passages", _ANSWER_FIELD.get(form, "")):
            fields.pop(name, None)
    if "messages" in fields and form in {"chat", "cases"}:
        messages, reply = split_reply(fields["messages"])
        messages[-1] = {**messages[-1], "content": question}
        said = answer if answer is not None else (reply if kind == "paraphrase" else None)
        if form == "chat" and said is not None:
            messages.append({"role": "assistant", "content": said})
        fields["messages"] = messages
    elif form == "instruct":
        fields["instruction"] = question
    elif form == "cases" and isinstance(fields.get("inputs"), dict):
        fields["inputs"] = dict.fromkeys(fields["inputs"], question)
    elif form == "cases":
        fields["inputs" if "inputs" in fields else "input"] = question
    else:
        fields[_QUESTION_FIELD[form]] = question
    if answer is not None and form in _ANSWER_FIELD:
        fields[_ANSWER_FIELD[form]] = answer
    return fields


def passage_fields(seed: Seed, form: DatasetFormat, item: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a row that asks about passages."""
    used = [each for each in seed.passages if each.id in item["passage_ids"]]
    passages = [_passage_value(each) for each in used]
    question, answer = item["question"], item["answer"]
    if form == "retrieval":
        return {
            "query": question,
            "relevant": [each.id for each in used],
            "passages": passages,
            "answer": answer,
        }
    if form == "instruct":
        return {"instruction": question, "output": answer}
    if form == "chat":
        roles = (("user", question), ("assistant", answer))
        return {"messages": [{"role": role, "content": text} for role, text in roles]}
    return {
        "input": question,
        "expected": answer,
        "passages": passages,
        "relevant": [each.id for each in used],
    }


def _passage_value(passage: Passage) -> dict[str, Any]:
    named = (("id", passage.id), ("text", passage.text), ("document", passage.document))
    return {name: value for name, value in named if value is not None}


def _neighbours(passages: Iterable[Passage]) -> Iterable[tuple[Passage, ...]]:
    group: list[Passage] = []
    for passage in passages:
        is_full = len(group) == PASSAGES_PER_CALL or (group and group[0].document != passage.document)
        size = sum(len(each.text) for each in group) + len(passage.text)
        if group and (is_full or size > MAX_SEED_CHARS):
            yield tuple(group)
            group = []
        if passage.id and len(passage.text) <= MAX_SEED_CHARS:
            group.append(passage)
    if group:
        yield tuple(group)
