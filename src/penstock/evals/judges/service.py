"""Judges as people work with them: tried, kept under a name, held against labels, compared, and corrected.

Verdicts on labelled outputs are kept by the judge's stamp, so a calibration that was interrupted goes on where it stopped and a benchmark
asks no judge twice. All of it may be called from any thread; what asks models takes as long as they do.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import msgspec
from sqlalchemy import Engine

from penstock.base.clock import now_ns as wall_clock
from penstock.base.errors import InvalidInput, PenstockError
from penstock.base.ids import new_id
from penstock.base.json_text import decode_json, encode_json
from penstock.evals.judges import queries
from penstock.evals.judges.asking import FormAsker, sum_costs
from penstock.evals.judges.benchmark import count_pairs, rank_judges
from penstock.evals.judges.calibration import MIN_LABELS, calibrate
from penstock.evals.judges.catalogue import KINDS, create_judge, describe_kind, required_parameters
from penstock.evals.judges.choosing import Candidate, choose_next
from penstock.evals.judges.correcting import SHARE_OF_YES, correct_estimate
from penstock.evals.judges.errors import (
    JudgeUnusable,
    NotComparable,
    TooFewLabels,
    UnknownCalibration,
    UnknownJudge,
)
from penstock.evals.judges.labels import LabelService, make_item
from penstock.evals.judges.materials import show_output
from penstock.evals.judges.pairwise import PairJudge, PairVerdict, PairwiseParameters
from penstock.evals.judges.ports import Evaluations, JudgeVersions, OpenTools
from penstock.evals.judges.steps import GEvalParameters, write_steps
from penstock.evals.judges.types import (
    JudgeBenchmark,
    JudgeCalibration,
    JudgeEntry,
    LabelItem,
    NextItem,
    PairCount,
)
from penstock.evals.judges.verdicts import Tell, VerdictKeeper, side_by_side
from penstock.evals.scorers.types import Scorer, ScorerTools
from penstock.evals.statistics.types import ScoredCase
from penstock.evals.types import (
    AnsweredCase,
    CaseQuery,
    CaseView,
    EstimateReport,
    EvaluationRecord,
    ScoreColumn,
)
from penstock.spec.cases import Case, Output
from penstock.spec.evaluations import Estimate, ScorerSpec
from penstock.spec.scores import Score

CreateScorer = Callable[[ScorerSpec], Scorer]
ReadScored = Callable[[str, str], "tuple[Sequence[ScoredCase], ScoreColumn]"]
"""Returns the cases of one score of an evaluation, as statistics take them."""
PAGE = 200
MAX_JUDGES = 20


class JudgeService:
    """Judges over one home."""

    def __init__(
        self,
        engine: Engine,
        labels: LabelService,
        *,
        open_tools: OpenTools,
        evaluations: Evaluations | None = None,
        read_scored: ReadScored | None = None,
        versions: JudgeVersions | None = None,
        create_scorer: CreateScorer = create_judge,
        now_ns: Callable[[], int] = wall_clock,
    ) -> None:
        self.labels = labels
        self._engine = engine
        self._asking = VerdictKeeper(engine, open_tools, now_ns)
        self._evaluations = evaluations
        self._read_scored = read_scored
        self._versions = versions
        self._create = create_scorer
        self._now_ns = now_ns

    # judges

    def list(self) -> Sequence[JudgeEntry]:
        """Return the kinds of judges and those kept under a name, each with its calibrations."""
        return [*(_entry_of_kind(name) for name in KINDS), *self._kept()]

    def get(self, name: str) -> JudgeEntry:
        """Return a kind, or a kept judge by `scorer:NAME@…`; raise `UnknownJudge`, and what the registry raises."""
        if name in KINDS:
            return _entry_of_kind(name)
        if not name.startswith("scorer:") or self._versions is None:
            raise UnknownJudge(
                f"There is no judge {name!r}.",
                hint=f"Kinds are {', '.join(KINDS)}; judges with a name are written scorer:NAME.",
            )
        spec = self._versions.resolve(name)
        return self._entry(name, spec)

    def create(self, name: str, spec: ScorerSpec, *, actor: str) -> JudgeEntry:
        """Keep a judge under a name, as the newest version of `scorer:NAME`.

        G-Eval without steps has its own model write them, once: they become part of the version. Raises `JudgeUnusable`,
        `BadScorerParameters`, `StepsJudgeFailed`.
        """
        if self._versions is None:
            raise JudgeUnusable("There is no registry here that could keep a judge.")
        if spec.scorer == "g_eval" and not spec.parameters.get("steps"):
            spec = self._asking.run(lambda tools: _complete_steps(spec, tools))
        self._create(spec)
        return self.get(self._versions.register(name, spec, actor=actor))

    def try_once(self, spec: ScorerSpec, case: Case, outputs: Sequence[Output]) -> Sequence[Score]:
        """Return what the judge says of these outputs; nothing is kept."""
        scorer = self._create(spec)
        return self._asking.run(lambda tools: scorer.score(case, outputs, tools))

    # calibrations

    def calibrate(
        self,
        spec: ScorerSpec,
        name: str,
        *,
        threshold: float | None = None,
        min_labels: int = MIN_LABELS,
        tell: Tell | None = None,
    ) -> JudgeCalibration:
        """Hold a judge against the labels `name`, asking it of each labelled output that it has no verdict on, and keep the result.

        Raises `TooFewLabels` before anything is spent when there are fewer labelled outputs than `min_labels`.
        """
        scorer = self._create(spec)
        items = self.labels.items(name)
        self._check_enough(name, items, min_labels)
        judged = self._asking.judge(scorer, items, tell)
        found = calibrate(
            judged,
            identity=new_id("cal"),
            name=name,
            spec=spec,
            info=scorer.info,
            made_ns=self._now_ns(),
            threshold=threshold,
            min_labels=min_labels,
        )
        with self._engine.begin() as connection:
            queries.add_calibration(
                connection,
                {
                    "id": found.id,
                    "stamp": found.stamp,
                    "name": name,
                    "made_ns": found.made_ns,
                    "content": encode_json(msgspec.to_builtins(found), what="The calibration"),
                },
            )
        return found

    def calibrations(
        self, *, stamp: str | None = None, name: str | None = None, limit: int = 200
    ) -> Sequence[JudgeCalibration]:
        """Return calibrations, the latest first, without their pairs."""
        with self._engine.connect() as connection:
            rows = queries.list_calibrations(connection, stamp=stamp, name=name, limit=limit)
        return [_without_pairs(_calibration_of(row.content)) for row in rows]

    def calibration(self, identity: str) -> JudgeCalibration:
        """Return one calibration with its pairs; raise `UnknownCalibration`."""
        with self._engine.connect() as connection:
            row = queries.get_calibration(connection, identity)
        if row is None:
            raise UnknownCalibration(f"There is no calibration {identity!r}.")
        return _calibration_of(row.content)

    def compare(
        self,
        specs: Sequence[ScorerSpec],
        name: str,
        *,
        threshold: float | None = None,
        min_labels: int = MIN_LABELS,
        tell: Tell | None = None,
    ) -> JudgeBenchmark:
        """Hold several judges against the same labels and say which one to take; each result is kept as a calibration."""
        if not 2 <= len(specs) <= MAX_JUDGES:
            raise InvalidInput(f"Name 2 to {MAX_JUDGES} judges; these are {len(specs)}.")
        stamps = Counter(self._create(spec).info.stamp for spec in specs)
        if len(stamps) < len(specs):
            raise InvalidInput(f"{stamps.most_common(1)[0][0]} is named twice.")
        found = [
            self.calibrate(spec, name, threshold=threshold, min_labels=min_labels, tell=tell)
            for spec in specs
        ]
        if not set.intersection(*({pair.item for pair in each.pairs} for each in found)):
            raise NotComparable("There is no labelled output on which all of these judges have a verdict.")
        ranked = rank_judges(found, name=name)
        rows = [
            msgspec.structs.replace(row, calibration=_without_pairs(row.calibration)) for row in ranked.rows
        ]
        return msgspec.structs.replace(ranked, rows=rows)

    # corrected figures

    def correct(
        self,
        stamp: str,
        cases: Sequence[ScoredCase],
        name: str,
        *,
        evaluation_id: str | None = None,
        level: float = 0.95,
    ) -> Estimate | None:
        """Return the corrected figure of a judge's scores by its latest calibration; None when it has none."""
        with self._engine.connect() as connection:
            rows = queries.list_calibrations(connection, stamp=stamp, limit=1)
        if not rows:
            return None
        calibration = _calibration_of(rows[0].content)
        return correct_estimate(calibration, cases, name=name, evaluation_id=evaluation_id, level=level)

    def correct_report(self, record: EvaluationRecord, report: EstimateReport) -> EstimateReport:
        """Return the figures of an evaluation with those of calibrated judges corrected beside them."""
        corrected, notes = list(report.corrected), list(report.notes)
        for column in record.columns:
            if column.source != "model" or self._read_scored is None:
                continue
            level = next((each.level for each in report.estimates if each.name == column.name), 0.95)
            cases, _ = self._read_scored(record.id, column.name)
            found = self.correct(column.stamp, cases, column.name, evaluation_id=record.id, level=level)
            if found is None:
                continue
            corrected.append(found)
            if found.value is None:
                notes.append(
                    f"{column.name} cannot be corrected: {found.method.removeprefix('undefined: ')}."
                )
            elif found.method.startswith(SHARE_OF_YES):
                notes.append(
                    f"{column.name}, corrected, is a share and not a mean: {found.method}. It is how many outputs people "
                    "would say yes to."
                )
        return msgspec.structs.replace(report, corrected=corrected, notes=notes)

    # pairs and labels to come

    def compare_pairs(
        self,
        baseline: str,
        candidate: str,
        spec: ScorerSpec,
        *,
        limit: int | None = None,
        tell: Tell | None = None,
    ) -> PairCount:
        """Judge two evaluations side by side, each pair in both orders, over the cases that both answered."""
        if spec.scorer != "pairwise":
            raise JudgeUnusable(
                f"{spec.scorer!r} judges one output at a time.", hint="Use pairwise for two evaluations."
            )
        given = KINDS["pairwise"].read_parameters(spec.parameters)
        assert isinstance(given, PairwiseParameters)
        info = create_judge(spec).info
        left = {view.case.id: view for view in self._views(baseline)}
        shared = [
            (left[view.case.id], view)
            for view in self._views(candidate)
            if view.case.id in left and _answer(view) is not None and _answer(left[view.case.id]) is not None
        ][:limit]
        if not shared:
            raise NotComparable(f"{baseline} and {candidate} share no case that both answered.")
        judge, asker = PairJudge(given), FormAsker(given, "judge:pairwise")

        async def run(tools: ScorerTools) -> Sequence[PairVerdict]:
            return await side_by_side(
                [
                    partial(judge.compare, view.case, (_text(view), _text(other)), tools, asker)
                    for other, view in shared
                ],
                tell,
            )

        verdicts = self._asking.run(run)
        rows = [
            {
                "case_id": view.case.id,
                "group": view.case.group,
                "winner": {"a": "candidate", "b": "baseline", "tie": "tie"}[verdict.winner],
                "is_flip": verdict.is_flip,
                "first_place_wins": verdict.first_place_wins,
                "second_place_wins": verdict.second_place_wins,
                "reasons": list(verdict.reasons),
            }
            for (_, view), verdict in zip(shared, verdicts, strict=True)
            if verdict.winner is not None
        ]
        return count_pairs(
            rows,
            baseline=baseline,
            candidate=candidate,
            judge=info.stamp,
            errors=Counter(str(verdict.problem) for verdict in verdicts if verdict.winner is None),
            cost_usd=sum_costs([each.cost_usd for verdict in verdicts for each in verdict.asked]),
        )

    def next_items(
        self, evaluation_id: str, name: str, *, n: int = 20, seed: int = 0, only_random: bool = False
    ) -> Sequence[NextItem]:
        """Return outputs of an evaluation to label next under `name`, those drawn by chance first."""
        evaluation_id = evaluation_id.removeprefix("eval:")
        drawn = self.labels.labelled(name, evaluation_id, drawn="random")
        known = self.labels.labelled(name, evaluation_id)
        if self._evaluations is None:
            raise InvalidInput("There are no evaluations here.")
        candidates = [
            _candidate(each, is_labelled=(each.case_id, each.repeat) in known)
            for each in self._evaluations.answered(evaluation_id)
            if (each.case_id, each.repeat) not in drawn
        ]
        chosen = choose_next(candidates, n=n, seed=seed, share_chosen=0.0 if only_random else 0.5)
        found = []
        for choice in chosen:
            view = self._evaluations.case(evaluation_id, choice.candidate.case_id)
            output = next((each for each in view.outputs if each.repeat == choice.candidate.repeat), None)
            if output is None:  # gone since
                continue
            values = {
                score.name: score.value
                for score in choice.candidate.scores.values()
                if score.value is not None
            }
            item = make_item(view.case, output, evaluation_id=evaluation_id)
            found.append(NextItem(item=item, drawn=choice.drawn, why=choice.why, scores=values))
        return found

    # within

    def _views(self, evaluation_id: str) -> Iterator[CaseView]:
        if self._evaluations is None:
            raise InvalidInput("There are no evaluations here.")
        cursor: str | None = None
        while True:
            page = self._evaluations.cases(
                evaluation_id.removeprefix("eval:"), CaseQuery(cursor=cursor, limit=PAGE)
            )
            yield from page.rows
            cursor = page.next_cursor
            if cursor is None:
                return

    def _kept(self) -> Sequence[JudgeEntry]:
        if self._versions is None:
            return []
        return [
            self._entry(ref, spec)
            for ref, spec in self._versions.list()
            if spec.scorer in KINDS or spec.scorer.startswith("scorer:")
        ]

    def _entry(self, ref: str, spec: ScorerSpec) -> JudgeEntry:
        try:
            info = self._create(spec).info
        except PenstockError as error:  # kept by an earlier version of a kind; it is shown with the reason
            return JudgeEntry(name=ref, summary=f"cannot be made: {error.message}", group="kept")
        latest: dict[str, JudgeCalibration] = {}
        for each in self.calibrations(stamp=info.stamp):
            latest.setdefault(each.name, each)
        return JudgeEntry(
            name=ref,
            summary=info.summary,
            group="kept",
            parameters=dict(info.parameters),
            stamp=info.stamp,
            needs=sorted(info.needs),
            undefined_when=info.undefined_when,
            calibrations=list(latest.values()),
        )

    @staticmethod
    def _check_enough(name: str, items: Sequence[LabelItem], min_labels: int) -> None:
        n = sum(any(label.drawn == "random" for label in item.labels) for item in items)
        if n < min_labels:
            raise TooFewLabels(
                f"Labels {name!r} on outputs drawn by chance: {n}; it takes {min_labels}. Nothing was asked.",
                hint=f"Label {min_labels - n} more: `penstock judge next` says which.",
                name=name,
                n=n,
                missing=min_labels - n,
            )


async def _complete_steps(spec: ScorerSpec, tools: ScorerTools) -> ScorerSpec:
    given = KINDS["g_eval"].read_parameters(spec.parameters)
    assert isinstance(given, GEvalParameters)
    written = await write_steps(given, tools)
    return msgspec.structs.replace(spec, parameters={**spec.parameters, "steps": written.steps})


def _candidate(answered: AnsweredCase, *, is_labelled: bool) -> Candidate:
    judges = {score.name: score for score in answered.judged}
    bounds = {}
    for name, score in judges.items():
        info = KINDS.get(score.scorer.partition("@")[0])
        if info is not None and info.low is not None and info.high is not None:
            bounds[name] = (info.low, info.high)
    return Candidate(
        case_id=answered.case_id,
        repeat=answered.repeat,
        stratum=answered.split or "",
        scores=judges,
        bounds=bounds,
        is_labelled=is_labelled,
    )


def _answer(view: CaseView) -> Output | None:
    return next((output for output in view.outputs if output.status == "ok"), None)


def _text(view: CaseView) -> str:
    output = _answer(view)
    return "" if output is None else show_output(output)


def _entry_of_kind(name: str) -> JudgeEntry:
    kind = KINDS[name]
    info = describe_kind(kind)
    return JudgeEntry(
        name=name,
        summary=info.summary,
        group=kind.group,
        required=required_parameters(kind),
        parameters=dict(info.parameters),
        needs=sorted(info.needs),
        undefined_when=info.undefined_when,
    )


def _calibration_of(content: str) -> JudgeCalibration:
    return msgspec.convert(decode_json(content), JudgeCalibration)


def _without_pairs(calibration: JudgeCalibration) -> JudgeCalibration:
    return msgspec.structs.replace(calibration, pairs=[])
