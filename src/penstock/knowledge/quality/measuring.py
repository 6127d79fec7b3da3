"""Measures how well a generation finds what labelled questions ask for, in one or several ways of searching.

Every figure has an interval clustered by document; ways of searching are compared question by question, and the p-values of
the whole table are corrected together. The record also says what a reader must know before believing it.
"""

import time
from collections.abc import Callable, Mapping, Sequence

from sqlalchemy import Engine

from penstock.base.clock import now_ns as wall_clock
from penstock.base.errors import InvalidInput
from penstock.base.ids import new_id
from penstock.knowledge.quality import queries
from penstock.knowledge.quality.asking import Asking, Interviewer, Replies
from penstock.knowledge.quality.corpus import StoredCorpus
from penstock.knowledge.quality.errors import NoQuestions, UnknownMeasurement
from penstock.knowledge.quality.figures import make_sheet, metric_names, rank_question
from penstock.knowledge.quality.finding import Found, GenerationFinder
from penstock.knowledge.quality.labels import LabelMapper, Target
from penstock.knowledge.quality.ports import Questions, Scoring, Searching, Sheet
from penstock.knowledge.quality.preparing import Prepared, prepare
from penstock.knowledge.quality.recipes import read_search, read_wanted, search_as
from penstock.knowledge.quality.types import (
    MeasuredMode,
    MeasuredQuestion,
    Measurement,
    MeasurementPage,
    MeasurementRow,
    MeasureRequest,
    Mode,
)
from penstock.knowledge.types import IngestContext, InlineContext
from penstock.spec.evaluations import Estimate

MAX_K = 200
MAX_LISTED = 200
FEW = 50
_SLICED = ("recall", "ndcg")
_QUANTILES = (0.5, 0.95)


class MeasuringService:
    """Measurements over one home. May be called from any thread."""

    def __init__(
        self,
        engine: Engine,
        searching: Searching,
        scoring: Scoring,
        questions: Questions,
        *,
        clock: Callable[[], int] = wall_clock,
        timer: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._engine = engine
        self._scoring = scoring
        self._questions = questions
        self._interviewer = Interviewer(searching, timer=timer)
        self._finder = GenerationFinder(engine, searching)
        self._clock = clock

    def measure(
        self, base: str, request: MeasureRequest, ctx: IngestContext | None = None, *, actor: str = ""
    ) -> Measurement:
        """Ask every question and keep what came out.

        Raises `UnknownKnowledge`, `UnknownGeneration`, `NotFound` for the set, `NoQuestions`, `InvalidInput`, and what
        searching raises when nothing can be searched at all.
        """
        check_request(request)
        ctx = ctx or InlineContext()
        found = self._finder.find(base, request.generation or request.track)
        pinned = self._questions.pin(request.questions)
        mapper = LabelMapper(StoredCorpus(self._engine, base, found.generation))
        ready = prepare(
            self._questions.read(pinned, where=request.where),
            mapper,
            by=request.by,
            phrasing=request.phrasing,
            limit=request.limit,
        )
        targets = ready.targets(count_unmapped=request.unmapped == "miss")
        if not targets:
            raise NoQuestions(
                f"no question of {pinned} can be asked: {_reasons(ready) or 'it has none'}.",
                hint="Name what should be found in `relevant` (documents, document#section) or `passages` (words).",
            )
        sides = self._ask(found, request, ready, targets, ctx)
        made = self._make(found, request, pinned, ready, targets, sides, actor)
        with self._engine.begin() as connection:
            queries.add_measurement(connection, made)
        ctx.progress(1.0, f"{made.n_questions:,} questions measured")
        return made

    def get(self, measurement_id: str) -> Measurement:
        """Return a measurement; raise `UnknownMeasurement`."""
        with self._engine.connect() as connection:
            made = queries.find_measurement(connection, measurement_id.strip())
        if made is None:
            raise UnknownMeasurement(
                f"No measurement has the id {measurement_id!r}.",
                hint="penstock knowledge measure NAME --list shows them.",
            )
        return made

    def list_measurements(
        self,
        base: str,
        *,
        generation: str | None = None,
        questions: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> MeasurementPage:
        """Return measurements of a base, newest first; `questions` without a version takes every version of the set."""
        if not 1 <= limit <= 500:
            raise InvalidInput("A page has 1 to 500 measurements.", where="limit")
        with self._engine.connect() as connection:
            found = queries.list_measurements(
                connection,
                base,
                generation=generation,
                questions=questions,
                cursor=cursor,
                limit=limit + 1,
            )
        return MeasurementPage(
            rows=[as_row(each) for each in found[:limit]], next_cursor=queries.cursor_of(found, limit)
        )

    def _ask(
        self,
        found: Found,
        request: MeasureRequest,
        ready: Prepared,
        targets: Mapping[str, Target],
        ctx: IngestContext,
    ) -> list[tuple[Mode, Replies, Sheet]]:
        asked = [each for each in ready.questions if each.id in targets]
        search = read_search(found.recipe)
        total = len(asked) * len(request.modes)
        sides = []
        for number, mode in enumerate(request.modes):
            asking = Asking(
                base=found.base,
                generation=found.generation,
                k=max(request.ks),
                wanted=read_wanted(found.recipe, mode),
                recipe=search_as(mode, search),
            )

            def tell(done: int, mode: Mode = mode, before: int = number * len(asked)) -> None:
                ctx.progress(0.98 * (before + done) / total, f"{mode}: {done:,} of {len(asked):,} questions")

            replies = self._interviewer.ask_all(asking, asked, ctx, tell)
            sides.append((mode, replies, make_sheet(mode, replies, targets, request.ks)))
        return sides

    def _make(  # noqa: PLR0917 - the parts of one record
        self,
        found: Found,
        request: MeasureRequest,
        pinned: str,
        ready: Prepared,
        targets: Mapping[str, Target],
        sides: Sequence[tuple[Mode, Replies, Sheet]],
        actor: str,
    ) -> Measurement:
        modes = make_modes(sides, request, self._scoring)
        unmapped = ready.unmapped()
        first = sides[0][1]
        n_labels = sum(len(target.wanted) for target in targets.values())
        return Measurement(
            id=new_id("ms"),
            base=found.base,
            generation=found.generation,
            version=found.version,
            questions=pinned,
            request=request,
            embedder=found.embedder,
            n_questions=len(targets),
            n_groups=len({each.group or each.id for each in ready.questions if each.id in targets}),
            n_labels=n_labels,
            n_graded=ready.n_graded,
            labels_per_question=n_labels / len(targets),
            modes=modes,
            unmapped=unmapped[:MAX_LISTED],
            n_unmapped=len(unmapped),
            left_out=dict(ready.left_out.most_common()),
            worst=_worst(first, targets),
            reservations=_reservations(request, ready, targets, modes, len(unmapped)),
            actor=actor,
            made_ns=self._clock(),
        )


def check_request(request: MeasureRequest) -> None:
    """Raise `InvalidInput` for what cannot be measured."""
    if not request.ks or not all(1 <= k <= MAX_K for k in request.ks):
        raise InvalidInput(f"k is {list(request.ks)}; each lies between 1 and {MAX_K}.", where="ks")
    if not request.modes or len(set(request.modes)) != len(request.modes):
        raise InvalidInput("Name each way of searching once.", where="modes")
    if request.track is not None and request.generation is not None:
        raise InvalidInput("Name a track or a generation, not both.", where="track")
    if not 0.5 <= request.level < 1.0:
        raise InvalidInput("A level lies between 0.5 and 1.", where="level")


def make_modes(
    sides: Sequence[tuple[Mode, Replies, Sheet]], request: MeasureRequest, scoring: Scoring
) -> list[MeasuredMode]:
    """Return the rows of the table, each with its differences to the first."""
    names = [name for name in sides[0][2].columns if name not in {"errors", "nothing_found"}]
    covered = [f"covered@{k}" for k in sorted(set(request.ks))]
    compared_names = [*(name for name, _, _ in metric_names(request.ks)), *covered, "latency_ms"]
    compared_names = [name for name in compared_names if name in sides[0][2].columns]
    base = sides[0][2]
    pairs = [
        (base.columns[name][0], base.columns[name][1], sheet.columns[name][1])
        for _, _, sheet in sides[1:]
        for name in compared_names
    ]
    family = list(scoring.compare(pairs, level=request.level)) if pairs else []
    rows = []
    deepest = {f"{metric}@{max(request.ks)}" for metric in _SLICED}
    for number, (mode, replies, sheet) in enumerate(sides):
        estimates: list[Estimate] = []
        slices: list[Estimate] = []
        for name in names:
            figure, values = sheet.columns[name]
            made = scoring.estimate(figure, values, level=request.level, with_slices=name in deepest)
            estimates.append(made[0])
            slices.extend(made[1:])
        at = (number - 1) * len(compared_names)
        rows.append(
            MeasuredMode(
                mode=mode,
                estimates=estimates,
                slices=slices,
                differences=family[at : at + len(compared_names)] if number else [],
                quantiles=_quantiles(sheet, scoring, request.level),
                notes=replies.told(),
                n_errors=replies.n_errors,
            )
        )
    return rows


def _quantiles(sheet: Sheet, scoring: Scoring, level: float) -> dict[str, Estimate]:
    _, values = sheet.columns["latency_ms"]
    return {
        f"latency_ms p{100 * share:g}": scoring.quantile(values, share, level=level) for share in _QUANTILES
    }


def _worst(first: Replies, targets: Mapping[str, Target]) -> list[MeasuredQuestion]:
    rows = []
    for reply in first.replies:
        target = targets[reply.question.id]
        ranked = rank_question(reply, target)
        found = frozenset().union(*ranked.found) if ranked.found else frozenset()
        if len(found) < len(ranked.wanted):
            rows.append(
                MeasuredQuestion(
                    id=reply.question.id,
                    question=reply.question.text,
                    ranks=[rank for rank, names in enumerate(ranked.found, 1) if names],
                    n_wanted=len(ranked.wanted),
                    n_found=len(found),
                    n_unmapped=len(target.unmapped),
                    group=reply.question.group,
                    error=reply.error,
                )
            )
    rows.sort(key=lambda row: (row.n_found / row.n_wanted, row.ranks[:1] or [MAX_K + 1]))
    return rows[:MAX_LISTED]


def _reservations(
    request: MeasureRequest,
    ready: Prepared,
    targets: Mapping[str, Target],
    modes: Sequence[MeasuredMode],
    n_unmapped: int,
) -> list[str]:
    told = []
    n = len(targets)
    if n < FEW:
        told.append(f"{n} questions decide little: intervals are wide.")
    if n_unmapped:
        what = "count as not found" if request.unmapped == "miss" else "are left out"
        told.append(
            f"{n_unmapped:,} of {ready.n_labels:,} labels name nothing that this generation holds; they {what}."
        )
    k = min(request.ks, key=lambda each: abs(each - 5))
    unjudged = next((each.value for each in modes[0].estimates if each.name == f"unjudged@{k}"), None)
    if unjudged is not None and unjudged > 0.5:
        told.append(
            f"{100 * unjudged:.0f} % of the first {k} passages have no label: precision@{k} and nDCG may be higher than they "
            "look. Label what is found (penstock knowledge question list), or trust recall and MRR."
        )
    for row in modes:
        told.extend(f"{row.mode}: {note}" for note in row.notes)
        if row.n_errors:
            told.append(
                f"{row.mode}: {row.n_errors:,} of {n:,} questions have no figures, because searching failed."
            )
    if len(modes) > 1:
        told.append(
            "Vectors of questions are kept, so rows after the first that embeds have latencies without it."
        )
    if ready.left_out:
        told.append(f"Left out: {_reasons(ready)}.")
    return told


def _reasons(ready: Prepared) -> str:
    return ", ".join(f"{number:,} × {reason}" for reason, number in ready.left_out.most_common())


def as_row(made: Measurement) -> MeasurementRow:
    """Return a measurement as lists show it."""
    first = made.modes[0]
    return MeasurementRow(
        id=made.id,
        base=made.base,
        generation=made.generation,
        version=made.version,
        questions=made.questions,
        mode=first.mode,
        n_questions=made.n_questions,
        estimates=first.estimates,
        actor=made.actor,
        note=made.request.note,
        made_ns=made.made_ns,
    )
