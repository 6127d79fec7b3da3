"""Gates: judge stored evaluations by rules, keep the verdict, find it again. May be called from any thread."""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec
from sqlalchemy import Engine

from penstock.base.clock import now_ns as wall_clock
from penstock.base.digest import digest_json
from penstock.base.errors import InvalidInput
from penstock.base.ids import new_id
from penstock.base.json_text import clean_text
from penstock.evals.cursors import read_cursor
from penstock.evals.errors import UnknownEvaluation
from penstock.evals.gates import queries
from penstock.evals.gates.errors import GateBusy
from penstock.evals.gates.evidence import GateEvidence, make_evidence
from penstock.evals.gates.judging import judge_rules
from penstock.evals.gates.look_types import Room
from penstock.evals.gates.sides import FigureOf, GateEvaluations, Side
from penstock.evals.gates.types import GatePage, GateQuery, GateSpec
from penstock.evals.running.control_run import STORED
from penstock.evals.types import EvaluationRecord
from penstock.spec.evaluations import GateResult

_decoder = msgspec.json.Decoder(GateResult)
MAX_PAGE = 500


class GateService:
    """Everything that people and other rooms do with gates."""

    def __init__(
        self,
        engine: Engine,
        evaluations: GateEvaluations,
        figure_of: FigureOf,
        *,
        clock: Callable[[], int] = wall_clock,
    ) -> None:
        self._engine = engine
        self._evaluations = evaluations
        self._figure_of = figure_of
        self._clock = clock
        self._evidence = GateEvidence(engine)

    def judge(
        self,
        spec: GateSpec,
        *,
        candidate: str,
        baseline: str | None = None,
        baseline_problem: str | None = None,
        actor: str = "",
    ) -> GateResult:
        """Judge two finished evaluations (ids, or `eval:ID`) by the gate's rules, and keep the verdict.

        `baseline_problem` says why there is no baseline, where one was asked for. Raises `UnknownEvaluation`, and `GateBusy` while one of them is under way.
        """
        ours = Side(self._evaluations, candidate, self._figure_of)
        theirs = None if baseline is None else Side(self._evaluations, baseline, self._figure_of)
        for side in (ours, theirs):
            if side is not None and side.record.state in {"queued", "running"}:
                raise GateBusy(
                    f"Evaluation {side.record.id} is still {side.record.state}.",
                    hint="Judge it when it has ended; `penstock gate run` waits for it.",
                    evaluation=side.record.id,
                )
        room = Room(
            candidate=ours,
            baseline=theirs,
            baseline_problem=find_problem(ours, theirs, baseline_problem),
            level=spec.level,
            min_coverage=spec.min_coverage,
            min_slice_cases=spec.min_slice_cases,
            different=frozenset()
            if theirs is None
            else self._evaluations.different_cases(theirs.record.id, ours.record.id),
        )
        judged = judge_rules(spec.rules, room, correction=spec.correction)
        records = [ours.record] + ([theirs.record] if theirs is not None else [])
        result = GateResult(
            id=new_id("gate"),
            name=spec.name,
            gate_digest=digest_gate(spec),
            verdict=judged.verdict,
            reason=judged.reason,
            rules=judged.rules,
            candidate=name_of(ours.record),
            baseline=None if theirs is None else name_of(theirs.record),
            versions=_versions(records),
            evaluations=[record.id for record in records],
            made_ns=self._clock(),
            cost_usd=_sum_costs(records),
            actor=clean_text(actor)[:200],
            level=spec.level,
            correction=spec.correction,
            left_out=sorted(set(room.left_out)),
            handed_in=[record.id for record in records if self._is_handed_in(record)],
        )
        self._store(result)
        return result

    def list(self, query: GateQuery | None = None) -> GatePage:
        """Return one page of verdicts, newest first."""
        wanted = query or GateQuery()
        if not 1 <= wanted.limit <= MAX_PAGE:
            raise InvalidInput(f"A page holds 1 to {MAX_PAGE} verdicts.", where="limit")
        conditions: dict[str, str] = {}
        if wanted.name is not None:
            conditions["name"] = wanted.name
        if wanted.verdict is not None:
            conditions["verdict"] = wanted.verdict
        if wanted.candidate is not None:
            conditions["candidate" if "@" in wanted.candidate else "asset"] = wanted.candidate
        with self._engine.connect() as connection:
            contents = queries.list_contents(
                connection, conditions, before=read_cursor(wanted.cursor, "gates"), limit=wanted.limit + 1
            )
        rows = [_decoder.decode(content) for content in contents[: wanted.limit]]
        is_more = len(contents) > wanted.limit
        return GatePage(rows=rows, next_cursor=f"{rows[-1].made_ns}.{rows[-1].id}" if is_more else None)

    def get(self, result_id: str) -> GateResult:
        """Return a verdict; `gate:ID` is taken too. Raises `UnknownGateResult`."""
        return self._evidence.get(result_id)

    def evidence(self, result_id: str) -> dict[str, Any]:
        """Return a verdict as evidence for the move of an alias. Raises `UnknownGateResult`."""
        return make_evidence(self.get(result_id))

    def claimed(self, evidence: Mapping[str, Any] | None, gate: str | None = None) -> dict[str, Any] | None:
        """Return as evidence the verdict that a request names, by `gate` or within `evidence`; None where it claims none.

        What the request says of the verdict counts for nothing. Raises `UnknownGateResult`, and `EvidenceRefused` for
        evidence that names no stored verdict.
        """
        if gate is not None:
            return self.evidence(gate)
        return self._evidence.read(evidence) if evidence else None

    def _is_handed_in(self, record: EvaluationRecord) -> bool:
        """Whether its answers or scores, or those it scored again, came from outside."""
        outputs, seen = record.spec.target.outputs, {record.id}
        while not record.is_local and outputs is not None and outputs.startswith(STORED):
            try:
                record = self._evaluations.get(outputs)
            except UnknownEvaluation:
                return True  # deleted since: nobody can say any more
            if record.id in seen:
                return True
            seen.add(record.id)
            outputs = record.spec.target.outputs
        return record.is_local or outputs is not None

    def _store(self, result: GateResult) -> None:
        content = clean_text(msgspec.json.encode(result).decode())
        values = {
            "id": result.id,
            "name": result.name[:200],
            "verdict": result.verdict,
            "candidate": result.candidate[:300],
            "asset": result.candidate.partition("@")[0][:300],
            "gate_digest": result.gate_digest,
            "actor": result.actor,
            "made_ns": result.made_ns,
            "content": content,
        }
        with self._engine.begin() as connection:
            queries.insert_result(connection, values)


def digest_gate(spec: GateSpec) -> str:
    """Return the digest of everything that decides a verdict: rules, level, correction, coverage."""
    kept = {
        "rules": msgspec.to_builtins(spec.rules),
        "level": spec.level,
        "correction": spec.correction,
        "min_coverage": spec.min_coverage,
        "min_slice_cases": spec.min_slice_cases,
    }
    return digest_json(kept)


def name_of(record: EvaluationRecord) -> str:
    """Return what an evaluation judged, as people write it: the pinned model, or the target's name."""
    return record.spec.target.model or record.target or record.name


def find_problem(candidate: Side, baseline: Side | None, told: str | None = None) -> str | None:
    """Return why two evaluations may not be compared at all, or None; whether their cases are the same is seen pair by pair."""
    if baseline is None:
        return told or "there is no baseline"
    ours, theirs = candidate.record, baseline.record
    if ours.id == theirs.id:
        return "candidate and baseline are the same evaluation"
    if baseline.problem is not None:
        return f"of the baseline, {baseline.problem}"
    if ours.set_id == theirs.set_id and ours.set_id is not None:
        return None
    if ours.cases_digest and ours.cases_digest == theirs.cases_digest:
        return None
    if ours.dataset_stamp != theirs.dataset_stamp:
        named = [record.dataset or record.dataset_stamp[:19] or "unknown cases" for record in (ours, theirs)]
        return f"they were asked different cases: {named[0]} and, the baseline, {named[1]}"
    return None


def _versions(records: Sequence[EvaluationRecord]) -> dict[str, str]:
    """Of the candidate under the asset's own name, of the baseline with `baseline ` before it."""
    found: dict[str, str] = {}
    for record, prefix in zip(records, ("", "baseline "), strict=False):
        if record.dataset is not None:
            found[f"{prefix}{record.dataset.partition('@')[0]}"] = record.dataset_stamp
        for asset, stamp in record.versions.items():
            found[f"{prefix}{asset}"] = stamp
    return found


def _sum_costs(records: Sequence[EvaluationRecord]) -> Decimal | None:
    known = [record.cost_usd for record in records if record.cost_usd is not None]
    return sum(known, Decimal(0)) if known else None
