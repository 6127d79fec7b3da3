"""Tunes how a base is searched on labelled questions: candidates are found once, settings are tried in memory.

What comes out is a recipe, the figure that may be promised for it (each question judged by a choice made without its
group), and whether that is measurably better than the present recipe. Without such a win the advice is to keep it.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from sqlalchemy import Engine

from penstock.base.errors import InvalidInput, suggest
from penstock.knowledge import queries
from penstock.knowledge.index.types import Place
from penstock.knowledge.quality.corpus import StoredCorpus
from penstock.knowledge.quality.finding import Found, GenerationFinder
from penstock.knowledge.quality.labels import LabelMapper, Target
from penstock.knowledge.quality.ports import Figure, Questions, QuestionValue, Scoring, Searching
from penstock.knowledge.quality.preparing import Prepared, prepare
from penstock.knowledge.quality.recipes import read_search
from penstock.knowledge.quality.types import Phrasing
from penstock.knowledge.retrieval.errors import BadSearchRecipe, NoQuestions
from penstock.knowledge.retrieval.fusion import find_weight
from penstock.knowledge.retrieval.knobs import DEFAULT_KNOBS, KNOBS, Knob
from penstock.knowledge.retrieval.question import analyse_question
from penstock.knowledge.retrieval.settings import (
    CANDIDATES,
    Setting,
    describe_changes,
    make_grid,
    read_setting,
    write_recipe,
)
from penstock.knowledge.retrieval.tuning import (
    MAX_NEEDS,
    METRICS,
    Candidates,
    Choice,
    Metric,
    Trial,
    choose,
    try_all,
)
from penstock.knowledge.retrieval.types import Candidate
from penstock.knowledge.types import IngestContext, InlineContext
from penstock.spec.evaluations import Comparison, Estimate
from penstock.spec.knowledge import RerankRecipe, SearchRecipe

MIN_QUESTIONS = 20
MIN_GROUPS = 5
LOOK_DEPTH = 60
"""How far the second look goes once for all settings; what no first order brings so high is never moved by it."""


class TuneRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is to be tuned by what."""

    questions: str
    metric: str = "ndcg@10"
    knobs: tuple[str, ...] = DEFAULT_KNOBS
    track: str | None = None
    phrasing: Phrasing = "both"
    where: str | None = None
    rerank: RerankRecipe | None = None
    """The second look that `rerank` tries; None: the recipe's own, else late interaction."""
    limit: int | None = None
    level: float = 0.95


class TunedRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The best of one kind, over all questions: flattered by the choice, so good for comparing kinds alone."""

    name: str
    value: float
    changes: dict[str, list[Any]]
    """Setting to before and after."""


class TuneReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What tuning found."""

    base: str
    generation: str
    questions: str
    metric: str
    n_questions: int
    n_groups: int
    n_settings: int
    present: Estimate
    """Of the present recipe."""
    promised: Estimate
    """Of the chosen recipe on questions that had no part in choosing it."""
    seen: float
    """Of the chosen recipe on all questions: the flattered figure."""
    difference: Comparison
    """Promised beside present, question by question, clustered by group."""
    is_win: bool
    advice: str
    changes: dict[str, list[Any]]
    recipe: SearchRecipe
    """The chosen recipe; the present one without a win."""
    best_of: list[TunedRow]
    per_fold: list[dict[str, list[Any]]]
    """What was chosen in each fold: choices that differ much say that the questions decide little."""
    left_out: dict[str, int] = {}
    notes: list[str] = []
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class _Plan:
    request: TuneRequest
    found: Found
    metric: Metric
    k: int
    search: SearchRecipe
    present: Setting
    look: RerankRecipe | None
    settings: Sequence[Setting]


class Tuner:
    """Tunes over one home. Blocking: it asks every question a few times."""

    def __init__(
        self,
        engine: Engine,
        searching: Searching,
        scoring: Scoring,
        questions: Questions,
        *,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._engine = engine
        self._searching = searching
        self._scoring = scoring
        self._questions = questions
        self._finder = GenerationFinder(engine, searching)
        self._timer = timer

    def tune(self, base: str, request: TuneRequest, ctx: IngestContext | None = None) -> TuneReport:
        """Find candidates, try settings, choose. Raises `NoQuestions`, `InvalidInput`, `BadSearchRecipe`, and what
        finding the base or the questions raises."""
        ctx = ctx or InlineContext()
        begun = self._timer()
        plan = self._plan(base, request)
        pinned = self._questions.pin(request.questions)
        ready = prepare(
            self._questions.read(pinned, where=request.where),
            LabelMapper(StoredCorpus(self._engine, base, plan.found.generation)),
            by="finest",
            phrasing=request.phrasing,
            limit=request.limit,
        )
        targets = ready.targets(count_unmapped=True)
        notes: Counter[str] = Counter()
        candidates = self._gather(plan, ready, targets, ctx, notes)
        n_groups = len({each.group for each in candidates})
        if len(candidates) < MIN_QUESTIONS or n_groups < MIN_GROUPS:
            raise NoQuestions(
                f"{pinned} has {len(candidates)} questions in {n_groups} groups that can be asked here; tuning needs "
                f"{MIN_QUESTIONS} in {MIN_GROUPS}.",
                hint="Label more questions (penstock knowledge question --help), or measure with what there is.",
            )
        ctx.progress(0.75, f"trying {len(plan.settings):,} settings on {len(candidates):,} questions")
        trial = try_all(candidates, plan.settings, metric=plan.metric, k=plan.k)
        choice = choose(trial)
        report = self._report(plan, pinned, candidates, trial, choice)
        ctx.progress(1.0, report.advice)
        return msgspec.structs.replace(
            report,
            left_out=dict(ready.left_out),
            notes=[*report.notes, *(f"{note} ({n} searches)" for note, n in notes.most_common())],
            seconds=self._timer() - begun,
        )

    def _plan(self, base: str, request: TuneRequest) -> _Plan:
        metric, k = read_metric(request.metric)
        knobs = [read_knob(name) for name in request.knobs]
        found = self._finder.find(base, request.track)
        search = read_search(found.recipe)
        look = search.rerank
        if "rerank" in knobs:
            look = request.rerank or search.rerank or RerankRecipe(kind="late-interaction")
        present = read_setting(search, find_weight(search, found.embedder, is_exact=False))
        settings = make_grid(present, knobs)
        return _Plan(
            request=request,
            found=found,
            metric=metric,
            k=k,
            search=search,
            present=present,
            look=look,
            settings=settings,
        )

    def _gather(
        self,
        plan: _Plan,
        ready: Prepared,
        targets: dict[str, Target],
        ctx: IngestContext,
        notes: Counter[str],
    ) -> list[Candidates]:
        with self._engine.connect() as connection:
            rows = queries.iterate_generation_passages(connection, plan.found.generation)
            ids: dict[Place, str] = {(row.document_id, row.position): row.id for row in rows}
        asked = [each for each in ready.questions if each.id in targets]
        made = []
        for number, question in enumerate(asked):
            if number % 10 == 0:
                ctx.check_cancelled()
                ctx.progress(
                    0.72 * number / len(asked), f"found candidates of {number:,} of {len(asked):,} questions"
                )
            made.append(
                self._candidates(
                    plan,
                    question.id,
                    question.group or question.id,
                    question.text,
                    targets[question.id],
                    ids,
                    notes,
                )
            )
        return made

    def _candidates(  # noqa: PLR0917 - the parts of one question
        self,
        plan: _Plan,
        name: str,
        group: str,
        text: str,
        target: Target,
        ids: dict[Place, str],
        notes: Counter[str],
    ) -> Candidates:
        limit = max(*CANDIDATES, plan.present.n_candidates)
        plain = SearchRecipe(fusion="convex", dense_weight=0.5, n_candidates=limit)
        found: dict[int, Candidate] = {}
        words: dict[tuple[float, float], dict[int, float]] = {}
        for pair in dict.fromkeys((each.title_weight, each.section_weight) for each in plan.settings):
            mixed = msgspec.structs.replace(plain, title_weight=pair[0], section_weight=pair[1])
            if words:
                mixed = msgspec.structs.replace(mixed, fusion="lexical", dense_weight=0.0)
            brought = self._search(plan, text, mixed, notes)
            words[pair] = {each.row: each.lexical for each in brought if each.lexical is not None}
            for each in brought:
                found.setdefault(each.row, each)
        rows = sorted(found)
        # what words alone brought is no nearer than the last of the vectors' own candidates
        farthest = min((each.dense for each in found.values() if each.dense is not None), default=0.0)
        looks = self._looks(plan, text, notes)
        needs, wanted = _bits(target)
        known = [found[row] for row in rows]
        return Candidates(
            id=name,
            group=group,
            rows=np.array(rows, dtype=np.int64),
            cosines=np.array([farthest if each.dense is None else each.dense for each in known]),
            dense_ranks=np.array([each.dense_rank or 0 for each in known], dtype=np.int64),
            words={pair: np.array([own.get(row, 0.0) for row in rows]) for pair, own in words.items()},
            needs=np.array([needs.get(ids.get(each.place, ""), 0) for each in known], dtype=np.uint64),
            n_needs=wanted,
            is_exact=analyse_question(text).is_exact,
            looks=None if looks is None else np.array([looks.get(row, np.nan) for row in rows]),
        )

    def _looks(self, plan: _Plan, text: str, notes: Counter[str]) -> dict[int, float] | None:
        if plan.look is None:
            return None
        look = msgspec.structs.replace(plan.look, depth=LOOK_DEPTH, timeout_s=max(60.0, plan.look.timeout_s))
        recipe = SearchRecipe(
            fusion=plan.search.fusion, dense_weight=plan.search.dense_weight, n_candidates=100, rerank=look
        )
        brought = self._search(plan, text, recipe, notes, stage="rerank")
        return {each.row: each.rerank for each in brought if each.rerank is not None}

    def _search(
        self, plan: _Plan, text: str, recipe: SearchRecipe, notes: Counter[str], stage: str = "fusion"
    ) -> Sequence[Candidate]:
        found = self._searching.retrieve(
            plan.found.base, text, 1, generation=plan.found.generation, recipe=recipe, explain=True
        )
        if found.note:
            notes[found.note] += 1
        if recipe.fusion != "lexical" and found.mode == "lexical":
            raise InvalidInput(
                f"{plan.found.base!r} was searched by words alone: {found.note or 'no vectors'}.",
                hint="Tuning needs the vectors of the questions: start Penstock (penstock up), then try again.",
            )
        stages = [each for each in found.stages if each.name == stage]
        return stages[-1].candidates if stages else ()

    def _report(
        self, plan: _Plan, pinned: str, questions: Sequence[Candidates], trial: Trial, choice: Choice
    ) -> TuneReport:
        figure = Figure(name=plan.request.metric, is_binary=plan.metric == "hit")
        present = _values(questions, trial.values[0])
        honest = _values(questions, choice.honest)
        level = plan.request.level
        (difference,) = self._scoring.compare([(figure, present, honest)], level=level)
        chosen = plan.settings[choice.best]
        is_win = choice.best != 0 and difference.low is not None and difference.low > 0
        changes = _as_lists(describe_changes(chosen, plan.present))
        return TuneReport(
            base=plan.found.base,
            generation=plan.found.generation,
            questions=pinned,
            metric=plan.request.metric,
            n_questions=len(questions),
            n_groups=len(set(trial.groups)),
            n_settings=len(plan.settings),
            present=self._scoring.estimate(figure, present, level=level)[0],
            promised=self._scoring.estimate(figure, honest, level=level)[0],
            seen=float(trial.means[choice.best]),
            difference=difference,
            is_win=is_win,
            advice=_advise(difference, changes, is_win=is_win),
            changes=changes if is_win else {},
            recipe=write_recipe(plan.search, chosen, plan.look) if is_win else plan.search,
            best_of=_best_of(plan, trial),
            per_fold=[
                _as_lists(describe_changes(plan.settings[each], plan.present)) for each in choice.per_fold
            ],
            notes=_reserve(plan),
        )


def read_metric(text: str) -> tuple[Metric, int]:
    """Return metric and depth of `ndcg@10`; raise `InvalidInput`."""
    name, _, depth = text.partition("@")
    metric = next((each for each in METRICS if each == name), None)
    if metric is None or not depth.isdigit() or not 1 <= int(depth) <= 100:
        raise InvalidInput(
            f"{text!r} is no metric; write one of {', '.join(METRICS)} with its depth, such as ndcg@10.",
            hint=suggest(name, METRICS),
            param="metric",
        )
    return metric, int(depth)


def read_knob(name: str) -> Knob:
    """Return a setting that can be tuned; raise `BadSearchRecipe`."""
    knob = next((each for each in KNOBS if each == name), None)
    if knob is None:
        raise BadSearchRecipe(
            f"{name!r} cannot be tuned; known: {', '.join(KNOBS)}.", hint=suggest(name, KNOBS)
        )
    return knob


def _bits(target: Target) -> tuple[dict[str, int], int]:
    """Return the needs of each passage as bits, and how many needs there are (at most 63 count)."""
    bit = {name: 1 << place for place, name in enumerate(target.wanted[:MAX_NEEDS])}
    met = {
        passage: sum(bit[name] for name in names if name in bit) for passage, names in target.meets.items()
    }
    return met, min(len(target.wanted), MAX_NEEDS)


def _values(questions: Sequence[Candidates], values: Any) -> list[QuestionValue]:
    return [
        QuestionValue(id=each.id, value=float(value), group=each.group)
        for each, value in zip(questions, values, strict=True)
    ]


def _as_lists(changes: dict[str, tuple[object, object]]) -> dict[str, list[Any]]:
    return {name: list(pair) for name, pair in changes.items()}


def _best_of(plan: _Plan, trial: Trial) -> list[TunedRow]:
    kinds: dict[str, Callable[[Setting], bool]] = {
        "present": lambda each: each == plan.present,
        "words alone": lambda each: each.weight == 0 and each.rerank_weight == 0,
        "vectors alone": lambda each: each.weight == 1 and each.rerank_weight == 0,
        "convex mix": lambda each: (
            each.fusion == "convex" and 0 < each.weight < 1 and each.rerank_weight == 0
        ),
        "reciprocal ranks": lambda each: each.fusion == "rrf" and each.rerank_weight == 0,
        "second look": lambda each: each.rerank_weight > 0,
    }
    means = trial.means
    rows = []
    for name, is_kind in kinds.items():
        mine = [number for number, each in enumerate(trial.settings) if is_kind(each)]
        if mine:
            best = max(mine, key=lambda number: (round(float(means[number]), 9), -number))
            changes = _as_lists(describe_changes(trial.settings[best], plan.present))
            rows.append(TunedRow(name=name, value=float(means[best]), changes=changes))
    return rows


def _advise(difference: Comparison, changes: dict[str, list[Any]], *, is_win: bool) -> str:
    low, high = difference.low, difference.high
    told = "" if low is None or high is None else f" [{low:+.3f}, {high:+.3f}]"
    gain = "unknown" if difference.difference is None else f"{difference.difference:+.3f}{told}"
    if is_win:
        turned = ", ".join(f"{name} {before} → {after}" for name, (before, after) in changes.items())
        return f"A measurable win of {gain}: {turned}."
    if not changes:
        return "The present recipe is the best of all that was tried: keep it."
    return f"No measurable win ({gain} on questions that had no part in choosing): keep the present recipe."


def _reserve(plan: _Plan) -> list[str]:
    notes = []
    search = plan.search
    stages = {
        "diversity": search.diversity > 0,
        "documents' limit": search.max_per_document is not None,
        "freshness": search.freshness_weight > 0,
        "authority": search.authority_weight > 0,
        "relevance": search.min_dense_score is not None or search.min_relative_score > 0,
    }
    on = [name for name, is_on in stages.items() if is_on]
    if on:
        notes.append(
            f"The recipe also has {', '.join(on)}, which tuning leaves out on both sides: measure the candidate."
        )
    if any(each.rerank_weight > 0 for each in plan.settings):
        notes.append(f"The second look was taken once, over the first {LOOK_DEPTH} of the present order.")
    return notes
