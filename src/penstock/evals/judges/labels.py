"""What people say of outputs: kept, listed, written to and read from files, taken over from feedback.

Whatever is labelled is kept beside its labels, as it was then: an evaluation may be deleted and a trace may go by age, and the labels
still say what they are about.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, Row

from penstock.base.clock import now_ns as wall_clock
from penstock.base.digest import digest_json
from penstock.base.errors import InvalidInput
from penstock.base.json_text import clean_text, decode_json, encode_json
from penstock.evals.cursors import read_cursor
from penstock.evals.judges import queries
from penstock.evals.judges.errors import LabelInvalid, UnknownItem
from penstock.evals.judges.ports import Evaluations, Traffic
from penstock.evals.judges.types import Drawn, Label, LabelDraft, LabelItem, LabelPage, LabelSet
from penstock.spec.cases import Case, Output, Passage

MAX_NAME = 120
MAX_DRAFTS = 10_000
"""Labels of one request or file."""
MAX_CONTENT_BYTES = 1024 * 1024
_YES = frozenset(
    {"yes", "true", "pass", "passed", "good", "correct", "right", "1", "up", "thumbs_up", "like"}
)
_NO = frozenset(
    {"no", "false", "fail", "failed", "bad", "incorrect", "wrong", "0", "down", "thumbs_down", "dislike"}
)
COLUMNS = (
    "name", "value", "label", "rater", "comment", "drawn", "item", "evaluation", "case_id", "repeat", "trace_id",
    "input", "output", "expected", "group", "model",
)  # fmt: skip
"""Of CSV files, in order."""
_RUN_BY_TABLES = re.compile(r"'*[=+\-@\t\r\n]")
"""What table programs take for a formula, and the same behind apostrophes, so that each is read as it was written."""


class LabelService:
    """Labels on the control tables. Every method may be called from any thread."""

    def __init__(
        self,
        engine: Engine,
        *,
        evaluations: Evaluations | None = None,
        traffic: Traffic | None = None,
        now_ns: Callable[[], int] = wall_clock,
    ) -> None:
        self._engine = engine
        self._evaluations = evaluations
        self._traffic = traffic
        self._now_ns = now_ns

    def add(self, drafts: Sequence[LabelDraft], *, actor: str, source: str = "person") -> list[Label]:
        """Keep labels, all or none; of one rater, output and name the latest holds.

        Raises `LabelInvalid` that names the wrong one, `UnknownItem`, `UnknownEvaluation`, `UnknownCase`.
        """
        if not 1 <= len(drafts) <= MAX_DRAFTS:
            raise LabelInvalid(f"Send 1 to {MAX_DRAFTS} labels at once; these are {len(drafts)}.")
        made: list[tuple[LabelItem | None, Label]] = []
        for number, draft in enumerate(drafts):
            where = f"labels.{number}"
            item = self._find_item(draft, where)
            made.append(
                (item if draft.item is None else None, self._make(draft, item.id, actor, source, where))
            )
        with self._engine.begin() as connection:
            for made_item, label in made:
                if made_item is not None:
                    queries.add_item(connection, _item_values(made_item, self._now_ns()))
                queries.put_label(connection, _label_values(label))
        return [label for _, label in made]

    def remove(self, item_id: str, name: str, *, rater: str | None = None) -> int:
        """Forget the labels of an item, or one rater's; return how many. Raises `UnknownItem` when there is none."""
        with self._engine.begin() as connection:
            n = queries.remove_label(connection, item_id, name, rater)
        if not n:
            raise UnknownItem(f"Nobody labelled {item_id!r} as {name!r}.")
        return n

    def sets(self) -> list[LabelSet]:
        """Return what labels there are, by name."""
        with self._engine.connect() as connection:
            return [
                _count_set(name, queries.list_labels(connection, name))
                for name in queries.list_names(connection)
            ]

    def page(self, name: str, *, cursor: str | None = None, limit: int = 50) -> LabelPage:
        """Return a page of labelled items, the latest label first."""
        before = read_cursor(cursor, "labels")
        with self._engine.connect() as connection:
            found = queries.page_items(connection, name, before=before, limit=limit + 1)
            rows = self._load(connection, name, [row.item_id for row in found[:limit]])
        last = found[limit - 1] if len(found) > limit else None
        return LabelPage(rows=rows, next_cursor=f"{last.newest_ns}.{last.item_id}" if last else None)

    def items(self, name: str) -> list[LabelItem]:
        """Return every item that has a label of this name, with its labels."""
        with self._engine.connect() as connection:
            ids = list(dict.fromkeys(row.item_id for row in queries.list_labels(connection, name)))
            return self._load(connection, name, ids)

    def export(self, name: str) -> Iterator[dict[str, Any]]:
        """Yield one row a label, as `read_rows` takes them."""
        for item in self.items(name):
            for label in item.labels:
                yield _export_row(item, label)

    def take_feedback(self, name: str, *, actor: str) -> list[Label]:
        """Keep what people said of traces under `name` as labels; traces that hold no conversation are left out."""
        if self._traffic is None:
            raise InvalidInput("There is no record of traffic here.")
        drafts = []
        for score in self._traffic.feedback(name):
            if (
                score.trace_id is None
                or score.status != "scored"
                or self._traffic.read(score.trace_id) is None
            ):
                continue
            drafts.append(
                LabelDraft(
                    name=name,
                    value=score.value,
                    label=score.label,
                    rater=score.scorer or score.identifier or "feedback",
                    comment=score.comment or "",
                    trace_id=score.trace_id,
                )
            )
        return self.add(drafts[:MAX_DRAFTS], actor=actor, source="feedback") if drafts else []

    def labelled(self, name: str, evaluation_id: str, *, drawn: Drawn | None = None) -> set[tuple[str, int]]:
        """Return case id and repeat of an evaluation's outputs that have such a label, of one way of drawing or any."""
        with self._engine.connect() as connection:
            return queries.labelled_of_evaluation(
                connection, name, evaluation_id.removeprefix("eval:"), drawn=drawn
            )

    def _find_item(self, draft: LabelDraft, where: str) -> LabelItem:
        subjects = [draft.item, draft.evaluation, draft.trace_id, draft.output]
        if sum(subject is not None for subject in subjects) != 1:
            raise LabelInvalid(
                "Say what is labelled: an item, the case of an evaluation, a trace, or an output's text; one of them.",
                where=where,
            )
        if draft.item is not None:
            with self._engine.connect() as connection:
                row = queries.get_items(connection, [draft.item]).get(draft.item)
            if row is None:
                raise UnknownItem(f"There is no item {draft.item!r}.", where=where)
            return _item_of(row)
        if draft.evaluation is not None:
            return self._find_output(draft, where)
        if draft.trace_id is not None:
            found = None if self._traffic is None else self._traffic.read(draft.trace_id)
            if found is None:
                raise UnknownItem(
                    f"There is no trace {draft.trace_id!r} that holds a question and an answer.", where=where
                )
            return make_item(*found, trace_id=draft.trace_id.lower())
        return _item_of_texts(draft)

    def _find_output(self, draft: LabelDraft, where: str) -> LabelItem:
        if self._evaluations is None or draft.case_id is None or draft.evaluation is None:
            raise LabelInvalid("A label on an evaluation names its case_id, too.", where=where)
        evaluation_id = draft.evaluation.removeprefix("eval:")
        view = self._evaluations.case(evaluation_id, draft.case_id)
        output = next((each for each in view.outputs if each.repeat == draft.repeat), None)
        if output is None:
            raise UnknownItem(
                f"The case {draft.case_id!r} has no output of repeat {draft.repeat}.", where=where
            )
        return make_item(view.case, output, evaluation_id=evaluation_id)

    def _make(self, draft: LabelDraft, item_id: str, actor: str, source: str, where: str) -> Label:
        name = clean_text(draft.name).strip()
        if not name or len(name) > MAX_NAME or not name.isprintable():
            raise LabelInvalid(f"The name of a label has 1 to {MAX_NAME} characters.", where=f"{where}.name")
        word = None if draft.label is None else clean_text(draft.label).strip()[:200] or None
        value = read_value(draft.value, word, where)
        if value is None and word is None:
            raise LabelInvalid("A label has a value or a word.", where=f"{where}.value")
        return Label(
            item=item_id,
            name=name,
            rater=clean_text(draft.rater or actor)[:200],
            value=value,
            label=word,
            comment=clean_text(draft.comment)[:4000],
            source=source,  # type: ignore[arg-type]  # of three words
            drawn=draft.drawn,
            made_ns=self._now_ns(),
        )

    def _load(self, connection: Connection, name: str, ids: Sequence[str]) -> list[LabelItem]:
        rows = queries.get_items(connection, ids)
        by_item: dict[str, list[Label]] = {}
        for start in range(0, len(ids), 500):
            for row in queries.labels_of(connection, name, ids[start : start + 500]):
                by_item.setdefault(row.item_id, []).append(_label_of(row))
        return [
            msgspec.structs.replace(_item_of(rows[each]), labels=by_item.get(each, []))
            for each in ids
            if each in rows
        ]


def read_value(value: float | bool | None, word: str | None, where: str) -> float | None:
    """Return the number that a label is: what is given, or 1 and 0 for words such as pass and fail."""
    if value is not None:
        number = float(value)
        if number - number != 0:  # NaN and infinities
            raise LabelInvalid("The value of a label is a finite number.", where=f"{where}.value")
        return number
    plain = (word or "").casefold().replace(" ", "_")
    return 1.0 if plain in _YES else 0.0 if plain in _NO else None


def make_item(
    case: Case, output: Output, *, evaluation_id: str | None = None, trace_id: str | None = None
) -> LabelItem:
    """Return an output as an item; its id follows from where it is from, or from its texts."""
    subject: Any
    if evaluation_id is not None:
        subject = ["evaluation", evaluation_id, case.id, output.repeat]
    elif trace_id is not None:
        subject = ["trace", trace_id]
    else:
        subject = ["texts", case.inputs, case.messages, output.text]
    digest = digest_json(subject).removeprefix("sha256:")
    return LabelItem(
        id=f"item_{digest[:24]}",
        case=case,
        output=output,
        evaluation_id=evaluation_id,
        trace_id=trace_id or output.trace_id,
    )


def read_rows(text: str, *, name: str | None = None) -> list[LabelDraft]:
    """Return the labels of a JSONL or CSV text; `name` is that of rows without one. Raises `LabelInvalid` with the line."""
    lines = text.lstrip("\ufeff").splitlines()
    if not any(line.strip() for line in lines):
        raise LabelInvalid("The file is empty.")
    is_json = next(line for line in lines if line.strip()).lstrip().startswith("{")
    rows = _json_rows(lines) if is_json else _csv_rows(text.lstrip("\ufeff"))
    drafts = []
    for line, row in rows:
        given = {key: value for key, value in row.items() if value is not None and value != ""}
        if name is not None:
            given.setdefault("name", name)
        try:
            drafts.append(msgspec.convert(given, LabelDraft, strict=False))
        except msgspec.ValidationError as error:
            raise LabelInvalid(f"Line {line}: {error}.", hint=f"Columns are {', '.join(COLUMNS)}.") from error
    return drafts


def write_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return rows as CSV with all columns. Texts that a table program would run get an apostrophe; `read_rows` takes it off."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _write_cell(value) for key, value in row.items() if value is not None})
    return buffer.getvalue()


def _write_cell(value: object) -> str | int | float:
    if isinstance(value, int | float):
        return value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"'{text}" if _RUN_BY_TABLES.match(text) else text


def _read_cell(text: str | None) -> str | None:
    return text[1:] if text and text[0] == "'" and _RUN_BY_TABLES.match(text) else text


def _json_rows(lines: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise LabelInvalid(f"Line {number} is not JSON: {error}.") from error
        if not isinstance(row, dict):
            raise LabelInvalid(f"Line {number} is no JSON object.")
        yield number, row


def _csv_rows(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        for row in reader:
            if None in row:
                raise LabelInvalid(f"Line {reader.line_num} has more cells than the first line names.")
            yield reader.line_num, {key.strip(): _read_cell(value) for key, value in row.items() if key}
    except csv.Error as error:
        raise LabelInvalid(f"Line {reader.line_num} cannot be read: {error}.") from error


def _item_of_texts(draft: LabelDraft) -> LabelItem:
    inputs = {} if draft.input is None else {"input": draft.input}
    passages = [Passage(text=text) for text in draft.passages]
    key = digest_json([inputs, draft.output]).removeprefix("sha256:")[:16]
    case = Case(
        id=draft.case_id or key, inputs=inputs, expected=draft.expected, passages=passages, group=draft.group
    )
    output = Output(case_id=case.id, repeat=draft.repeat, text=draft.output, model=draft.model)
    return make_item(case, output)


def _export_row(item: LabelItem, label: Label) -> dict[str, Any]:
    case, output = item.case, item.output
    row: dict[str, Any] = {
        "name": label.name,
        "value": label.value,
        "label": label.label,
        "rater": label.rater,
        "comment": label.comment or None,
        "drawn": label.drawn,
        "case_id": case.id,
        "repeat": output.repeat,
        "input": case.inputs.get("input") if isinstance(case.inputs.get("input"), str) else None,
        "output": output.text if output.text is not None else encode_json(output.data, what="The output"),
        "expected": case.expected,
        "passages": [passage.text for passage in case.passages] or None,
        "group": case.group,
        "model": output.model,
    }
    if row["input"] is None:
        row["input"] = encode_json(case.messages or case.inputs, what="The input")
    return {key: value for key, value in row.items() if value is not None}


def _item_values(item: LabelItem, now_ns: int) -> dict[str, Any]:
    content = msgspec.to_builtins({"case": item.case, "output": item.output}, str_keys=True)
    return {
        "id": item.id,
        "evaluation_id": item.evaluation_id,
        "case_id": item.case.id,
        "repeat": item.output.repeat,
        "trace_id": item.trace_id,
        "content": encode_json(content, what="The labelled output", max_bytes=MAX_CONTENT_BYTES),
        "created_ns": now_ns,
    }


def _item_of(row: Row[Any]) -> LabelItem:
    content = decode_json(row.content)
    return LabelItem(
        id=row.id,
        case=msgspec.convert(content["case"], Case),
        output=msgspec.convert(content["output"], Output),
        evaluation_id=row.evaluation_id,
        trace_id=row.trace_id,
    )


def _label_values(label: Label) -> dict[str, Any]:
    return {
        "item_id": label.item,
        "name": label.name,
        "rater": label.rater,
        "value": label.value,
        "label": label.label,
        "comment": label.comment,
        "source": label.source,
        "drawn": label.drawn,
        "made_ns": label.made_ns,
    }


def _label_of(row: Row[Any]) -> Label:
    return Label(
        item=row.item_id,
        name=row.name,
        rater=row.rater,
        value=row.value,
        label=row.label,
        comment=row.comment,
        source=row.source,
        drawn=row.drawn,
        made_ns=row.made_ns,
    )


def _count_set(name: str, rows: Sequence[Row[Any]]) -> LabelSet:
    values = Counter(row.label or (f"{row.value:g}" if row.value is not None else "") for row in rows)
    return LabelSet(
        name=name,
        n_items=len({row.item_id for row in rows}),
        n_labels=len(rows),
        n_raters=len({row.rater for row in rows}),
        n_random=len({row.item_id for row in rows if row.drawn == "random"}),
        values=dict(values.most_common(50)),
        updated_ns=max(row.made_ns for row in rows),
    )
