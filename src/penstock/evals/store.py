"""Evaluations on the control tables: records, shared cases, outputs and scores in and out as structs.

Knows what lies where, not what it means. The surprise: the sums of a record (outputs, costs, tokens) are kept with it and
made anew by `count`; lists would otherwise go through every output of every evaluation.
"""

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, Row

from penstock.base.clock import now_ns as wall_clock
from penstock.base.errors import InvalidInput
from penstock.base.ids import new_id
from penstock.base.json_text import clean_text
from penstock.evals import queries
from penstock.evals.cursors import read_cursor
from penstock.evals.errors import CasesInvalid, NoCases, UnknownEvaluation
from penstock.evals.rows import StoredOutput, output_row, question_digest, score_row, slices_of, sum_outputs
from penstock.evals.types import EvaluationPage, EvaluationQuery, EvaluationRecord
from penstock.spec.cases import Case, Output
from penstock.spec.scores import Score
from penstock.store.control.tables.evaluations import evaluation_outputs, evaluation_scores

BATCH = 500
MAX_KEPT_KEYS = 100_000
N_KEPT_SETS = 4
UNDER_WAY_NS = 20_000_000_000
MAX_CASE_BYTES = 16 * 1024 * 1024
_record = msgspec.json.Decoder(EvaluationRecord)
_case = msgspec.json.Decoder(Case)
_output = msgspec.json.Decoder(Output)
_score = msgspec.json.Decoder(Score)
_encode = msgspec.json.Encoder().encode
_Take = Callable[[Connection, Mapping[str, Any]], EvaluationRecord]


class _Split(msgspec.Struct):
    id: str
    split: str | None = None


_split = msgspec.json.Decoder(_Split)


@dataclass(kw_only=True)
class CaseWork:
    """One case with what is there of it already."""

    position: int
    case: Case
    outputs: dict[int, Output] = field(default_factory=dict)
    """By repeat, the final ones."""
    scored: set[tuple[int, str]] = field(default_factory=set)
    """Repeat and name of the scores that need not be made again."""


@dataclass(frozen=True, kw_only=True)
class CaseKey:
    """What figures need to know of a case."""

    position: int
    case_id: str
    group: str | None
    slices: tuple[str, ...]


class EvaluationStore:
    """All rows of evaluations. Every method may be called from any thread."""

    def __init__(self, engine: Engine, *, clock: Callable[[], int] = wall_clock) -> None:
        self._engine = engine
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: OrderedDict[str, list[CaseKey]] = OrderedDict()

    def now_ns(self) -> int:
        """Return the clock's time."""
        return self._clock()

    def add(self, record: EvaluationRecord) -> None:
        """Store a new evaluation."""
        with self._engine.begin() as connection:
            values = {"id": record.id, "created_ns": record.created_ns, **self._columns(record)}
            queries.insert_evaluation(connection, values)

    def get(self, evaluation_id: str) -> EvaluationRecord:
        """Return one evaluation, by id or by the name of the newest; raises `UnknownEvaluation`."""
        record = self.find(evaluation_id)
        if record is None:
            raise _unknown(evaluation_id)
        return record

    def find(self, evaluation_id: str) -> EvaluationRecord | None:
        """Return one evaluation by its id, or the newest of that name; None when there is none."""
        wanted = plain_id(evaluation_id)
        with self._engine.connect() as connection:
            content = queries.get_content(connection, wanted) or queries.find_by_name(connection, wanted)
        return None if content is None else _record.decode(content)

    def page(self, query: EvaluationQuery) -> EvaluationPage:
        """Return one page, newest first."""
        if not 1 <= query.limit <= 500:
            raise InvalidInput("A page holds 1 to 500 evaluations.", where="limit")
        conditions: dict[str, Any] = {
            name: value
            for name in ("name", "target", "dataset", "experiment_id")
            if (value := getattr(query, name)) is not None
        }
        if query.states:
            conditions["states"] = query.states
        if query.tag is not None:
            conditions["tag"] = json.dumps(query.tag, ensure_ascii=False)
        with self._engine.connect() as connection:
            contents = queries.list_contents(
                connection, conditions, before=read_cursor(query.cursor, "evaluations"), limit=query.limit + 1
            )
        rows = [_record.decode(content) for content in contents[: query.limit]]
        is_more = len(contents) > query.limit
        cursor = f"{rows[-1].created_ns}.{rows[-1].id}" if is_more else None
        return EvaluationPage(rows=rows, next_cursor=cursor)

    def change(
        self, evaluation_id: str, change: Callable[[EvaluationRecord], EvaluationRecord]
    ) -> EvaluationRecord:
        """Return the record after `change`, which sees it as it is now; nobody else changes it meanwhile."""
        wanted = plain_id(evaluation_id)
        with self._engine.begin() as connection:
            return self._change(connection, wanted, change)

    def update(self, evaluation_id: str, **fields: Any) -> EvaluationRecord:
        """Return the record after setting fields of it."""
        return self.change(evaluation_id, lambda record: msgspec.structs.replace(record, **fields))

    def delete(self, evaluation_id: str) -> None:
        """Forget an evaluation with everything that is its own."""
        wanted = plain_id(evaluation_id)
        with self._engine.begin() as connection:
            if queries.get_content(connection, wanted, for_update=True) is None:
                raise _unknown(evaluation_id)
            queries.delete_evaluation(connection, wanted)

    # cases

    def give_cases(
        self, evaluation_id: str, cases: Iterable[Case], slice_keys: Sequence[str], **fields: Any
    ) -> EvaluationRecord:
        """Return the evaluation with its cases stored as they come, and other fields set.

        The same cases are stored once. Raises `NoCases`, `CasesInvalid`; then nothing is left behind.
        """
        wanted = plain_id(evaluation_id)

        def take(connection: Connection, found: Mapping[str, Any]) -> EvaluationRecord:
            return self._change(
                connection, wanted, lambda record: msgspec.structs.replace(record, **found, **fields)
            )

        return self._put_cases(cases, slice_keys, take)

    def add_with_cases(self, record: EvaluationRecord, cases: Iterable[Case]) -> EvaluationRecord:
        """Store a new evaluation with its cases; see `give_cases`."""

        def take(connection: Connection, found: Mapping[str, Any]) -> EvaluationRecord:
            made = msgspec.structs.replace(record, **found)
            values = {"id": made.id, "created_ns": made.created_ns, **self._columns(made)}
            queries.insert_evaluation(connection, values)
            return made

        return self._put_cases(cases, record.spec.slices, take)

    def share_cases(self, evaluation_id: str, set_id: str, **fields: Any) -> EvaluationRecord | None:
        """Return the evaluation with the cases that another one has, and other fields set; None when they are gone."""
        with self._engine.begin() as connection:
            if not queries.hold_set(connection, set_id):
                return None
            return self._change(
                connection,
                plain_id(evaluation_id),
                lambda record: msgspec.structs.replace(record, set_id=set_id, **fields),
            )

    def _put_cases(self, cases: Iterable[Case], slice_keys: Sequence[str], take: _Take) -> EvaluationRecord:
        set_id = new_id("cases")
        with self._engine.begin() as connection:
            values = {"id": set_id, "digest": None, "n_cases": 0, "n_groups": 0}
            queries.insert_set(connection, {**values, "created_ns": self._clock()})
        try:
            return self._fill_set(set_id, cases, slice_keys, take)
        except BaseException:
            with self._engine.begin() as connection:
                queries.delete_set_unless_used(connection, set_id)
            raise

    def _fill_set(
        self, set_id: str, cases: Iterable[Case], slice_keys: Sequence[str], take: _Take
    ) -> EvaluationRecord:
        state = hashlib.sha256()
        seen: dict[str, int] = {}
        groups: set[str] = set()
        rows: list[dict[str, Any]] = []
        for position, given in enumerate(cases):
            case = given
            content = clean_text(_encode(case).decode())
            if len(content) > MAX_CASE_BYTES:
                raise CasesInvalid(f"Case {case.id!r} (number {position + 1}) is larger than 16 MiB.")
            if not case.id:
                raise CasesInvalid(f"Case number {position + 1} has no id.")
            if case.id in seen:
                raise CasesInvalid(
                    f"Two cases have the id {case.id!r}: number {seen[case.id] + 1} and number {position + 1}.",
                    hint="Pairs are made by id, so each must be there once.",
                    case=case.id,
                )
            seen[case.id] = position
            groups.add(f"g:{case.group}" if case.group is not None else f"c:{case.id}")
            state.update(content.encode() + b"\n")
            rows.append(
                {
                    "set_id": set_id,
                    "position": position,
                    "case_id": clean_text(case.id),
                    "cluster": case.group,
                    "slices": json.dumps(slices_of(case, slice_keys), ensure_ascii=False),
                    "content": content,
                }
            )
            if len(rows) >= BATCH:
                with self._engine.begin() as connection:
                    queries.insert_cases(connection, rows)
                rows = []
        if not seen:
            raise NoCases("There is no case to ask.", hint="The dataset is empty, or no row matches `where`.")
        content_digest = state.hexdigest()
        state.update(
            json.dumps(sorted(slice_keys)).encode()
        )  # kept with each case, though no part of what is asked
        digest = f"sha256:{state.hexdigest()}"
        with self._engine.begin() as connection:
            queries.insert_cases(connection, rows)
            known = queries.find_set(connection, digest)
            if known is not None:
                queries.delete_set_unless_used(connection, set_id)
                set_id = known
            else:
                values = {"digest": digest, "n_cases": len(seen), "n_groups": len(groups)}
                queries.finish_set(connection, set_id, values)
            found = {"set_id": set_id, "n_cases": len(seen), "n_groups": len(groups)}
            # in one with finding them: a set that nobody has may be forgotten at any time
            return take(connection, {**found, "cases_digest": content_digest[:12]})

    def set_digest(self, set_id: str) -> str | None:
        """Return the digest over the cases of a set."""
        with self._engine.connect() as connection:
            row = queries.get_set(connection, set_id)
        return None if row is None else row.digest

    def cases(self, set_id: str) -> Iterator[Case]:
        """Yield all cases in order, read in batches."""
        after = -1
        while True:
            with self._engine.connect() as connection:
                rows = queries.list_cases(connection, set_id, after=after, limit=BATCH)
            for row in rows:
                yield _case.decode(row.content)
            if len(rows) < BATCH:
                return
            after = rows[-1].position

    def keys(self, set_id: str) -> list[CaseKey]:
        """Return what figures need of every case, in order. A set never changes, so the last few are kept."""
        with self._lock:
            if set_id in self._keys:
                self._keys.move_to_end(set_id)
                return self._keys[set_id]
        with self._engine.connect() as connection:
            rows = queries.list_keys(connection, set_id)
        parts: dict[str, tuple[str, ...]] = {}
        keys = []
        for row in rows:
            slices = parts.get(row.slices)
            if slices is None:
                slices = parts[row.slices] = tuple(json.loads(row.slices))
            keys.append(CaseKey(position=row.position, case_id=row.case_id, group=row.cluster, slices=slices))
        if keys and len(keys) <= MAX_KEPT_KEYS:
            with self._lock:
                self._keys[set_id] = keys
                while len(self._keys) > N_KEPT_SETS:
                    self._keys.popitem(last=False)
        return keys

    def different_cases(self, set_id: str, other_id: str) -> frozenset[str]:
        """Return the ids that both sets have of cases that are not the same: another question, or another good answer."""
        if set_id == other_id:
            return frozenset()
        known = {case.id: question_digest(case) for case in self.cases(set_id)}
        return frozenset(
            case.id
            for case in self.cases(other_id)
            if known.get(case.id, "") not in {"", question_digest(case)}
        )

    def cases_at(self, set_id: str, positions: Sequence[int]) -> dict[int, Case]:
        """Return the cases at these positions."""
        with self._engine.connect() as connection:
            rows = queries.list_cases_at(connection, set_id, positions)
        return {row.position: _case.decode(row.content) for row in rows}

    def position_of(self, set_id: str, case_id: str) -> int | None:
        """Return where a case stands, or None when it is unknown."""
        with self._engine.connect() as connection:
            row = queries.find_case(connection, set_id, case_id)
        return None if row is None else int(row.position)

    def find_text(self, set_id: str, evaluation_ids: Sequence[str], text: str) -> set[int]:
        """Return the positions of cases that hold the text, or whose output does."""
        with self._engine.connect() as connection:
            return queries.find_text(connection, set_id, evaluation_ids, clean_text(text))

    # outputs and scores

    def write(
        self,
        evaluation_id: str,
        outputs: Sequence[StoredOutput] = (),
        scores: Sequence[tuple[str, int, Score]] = (),
    ) -> None:
        """Store outputs and scores; durable on return. What is stored under the same key is replaced."""
        if not outputs and not scores:
            return
        now_ns = self._clock()
        output_rows = [output_row(evaluation_id, each, now_ns) for each in outputs]
        score_rows = [score_row(evaluation_id, *each) for each in scores]
        with self._engine.begin() as connection:
            queries.upsert(connection, evaluation_outputs, _last_of(output_rows, "case_id", "repeat"))
            queries.upsert(connection, evaluation_scores, _last_of(score_rows, "case_id", "repeat", "name"))

    def work(self, evaluation_id: str, set_id: str, *, after: int, limit: int = 200) -> list[CaseWork]:
        """Return the next cases in order with what is there of them."""
        with self._engine.connect() as connection:
            rows = queries.list_cases(connection, set_id, after=after, limit=limit)
            works = {
                row.case_id: CaseWork(position=row.position, case=_case.decode(row.content)) for row in rows
            }
            ids = list(works)
            for row in queries.list_outputs(connection, evaluation_id, ids):
                if row.is_final:
                    works[row.case_id].outputs[row.repeat] = _output.decode(row.content)
            for row in queries.list_scores(connection, evaluation_id, ids):
                is_due = row.status == "skipped" or (row.status == "error" and row.fault != "scorer")
                if not is_due:
                    works[row.case_id].scored.add((row.repeat, row.name))
        return list(works.values())

    def kept(self, keys: Sequence[str]) -> dict[str, Output]:
        """Return earlier outputs by request key, the first that was made of each."""
        with self._engine.connect() as connection:
            rows = queries.find_kept(connection, keys)
        found: dict[str, Output] = {}
        for row in rows:
            found.setdefault(row.request_key, _output.decode(row.content))
        return found

    def outputs(self, evaluation_id: str, case_ids: Sequence[str] | None = None) -> Iterator[Output]:
        """Yield outputs by position and repeat."""
        with self._engine.connect() as connection:
            for row in queries.list_outputs(connection, evaluation_id, case_ids):
                yield _output.decode(row.content)

    def output_facts(self, evaluation_id: str) -> Sequence[Row[Any]]:
        """Return rows of outputs without their content."""
        with self._engine.connect() as connection:
            return queries.list_output_facts(connection, evaluation_id)

    def scores(
        self, evaluation_id: str, case_ids: Sequence[str] | None = None
    ) -> Iterator[tuple[str, int, Score]]:
        """Yield case id, repeat and score."""
        with self._engine.connect() as connection:
            for row in queries.list_scores(connection, evaluation_id, case_ids):
                yield row.case_id, row.repeat, _score.decode(row.content)

    def values(self, evaluation_id: str, name: str) -> Sequence[Row[Any]]:
        """Return case id, status, value and statistics of one score, in order of cases and repeats."""
        with self._engine.connect() as connection:
            return queries.list_values(connection, evaluation_id, name)

    def judged(self, evaluation_id: str) -> Sequence[Row[Any]]:
        """Return rows of the scores that models gave, without their content."""
        with self._engine.connect() as connection:
            return queries.list_judged(connection, evaluation_id)

    def splits(self, set_id: str) -> dict[str, str | None]:
        """Return the split of every case, in order."""
        with self._engine.connect() as connection:
            told = map(_split.decode, queries.list_contents_of_cases(connection, set_id))
            return {each.id: each.split for each in told}

    def score_names(self, evaluation_id: str) -> list[tuple[str, str]]:
        """Return name and stamp of every kind of score that was made."""
        with self._engine.connect() as connection:
            return queries.count_names(connection, evaluation_id)

    def failed(self, evaluation_id: str) -> Iterator[tuple[str, str, Output | Score]]:
        """Yield where (`target` or a score), case id and what failed."""
        with self._engine.connect() as connection:
            for row in queries.list_failed_outputs(connection, evaluation_id):
                yield "target", row.case_id, _output.decode(row.content)
            for row in queries.list_failed_scores(connection, evaluation_id):
                yield row.name, row.case_id, _score.decode(row.content)

    def drop_scores(self, evaluation_id: str, names: Sequence[str]) -> None:
        """Forget the scores of these names."""
        with self._engine.begin() as connection:
            queries.delete_scores(connection, evaluation_id, names)

    def count(self, evaluation_id: str, **fields: Any) -> EvaluationRecord:
        """Return the record with its sums made anew from the rows, and other fields set."""
        rows = self.output_facts(evaluation_id)
        since_ns = self._clock() - UNDER_WAY_NS
        with self._engine.connect() as connection:
            judged = [row.cost_usd for row in queries.list_score_costs(connection, evaluation_id)]
        sums = {**sum_outputs(rows, judged), **fields}
        is_over = fields.get("state", "running") not in {"queued", "running"}
        if not is_over:  # costs of the latest calls are on their way with their traces
            sums["n_cost_unknown"] = sum_outputs([row for row in rows if row.finished_ns < since_ns], judged)[
                "n_cost_unknown"
            ]
        return self.change(evaluation_id, lambda record: msgspec.structs.replace(record, **sums))

    def _change(
        self,
        connection: Connection,
        evaluation_id: str,
        change: Callable[[EvaluationRecord], EvaluationRecord],
    ) -> EvaluationRecord:
        content = queries.get_content(connection, evaluation_id, for_update=True)
        if content is None:
            raise _unknown(evaluation_id)
        record = change(_record.decode(content))
        queries.update_evaluation(connection, evaluation_id, self._columns(record))
        return record

    def _columns(self, record: EvaluationRecord) -> dict[str, Any]:
        return {
            "name": record.name[:200],
            "state": record.state,
            "target": record.target[:300],
            "target_stamp": record.target_stamp[:200],
            "dataset": record.dataset,
            "dataset_stamp": record.dataset_stamp[:200],
            "set_id": record.set_id,
            "n_cases": record.n_cases,
            "experiment_id": record.experiment_id,
            "is_local": record.is_local,
            "actor": record.actor[:200],
            "job_id": record.job_id,
            "tags": json.dumps(record.tags, ensure_ascii=False),
            "started_ns": record.started_ns,
            "finished_ns": record.finished_ns,
            "updated_ns": self._clock(),
            "content": clean_text(_encode(record).decode()),
        }


def plain_id(evaluation_id: str) -> str:
    """Return an evaluation's id, however it was written."""
    return evaluation_id.strip().removeprefix("eval:")


def _last_of(rows: Sequence[Mapping[str, Any]], *keys: str) -> list[Mapping[str, Any]]:
    """Return rows without those that a later one replaces: PostgreSQL refuses to write a row twice in a statement."""
    return list({tuple(row[key] for key in keys): row for row in rows}.values())


def _unknown(evaluation_id: str) -> UnknownEvaluation:
    return UnknownEvaluation(
        f"There is no evaluation {evaluation_id!r}.", hint="`penstock eval list` shows those that there are."
    )
