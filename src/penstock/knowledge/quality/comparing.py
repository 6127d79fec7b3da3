"""Two generations of one base beside each other: labelled questions decide which is better, recorded ones show what changes.

Both sides are asked in turns, so that whatever else the machine does falls on both. The verdict is that of a gate's rules; what
a switch demands is its id. The surprise: without labelled questions nothing can pass but a change that changes next to nothing,
unless rules of one's own say what is enough.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
from sqlalchemy import Engine

from penstock.base.clock import now_ns as wall_clock
from penstock.base.errors import InvalidInput
from penstock.base.ids import new_id
from penstock.knowledge.quality import queries
from penstock.knowledge.quality.asking import Asking, Interviewer, Question, Replies
from penstock.knowledge.quality.corpus import StoredCorpus
from penstock.knowledge.quality.errors import NoQuestions
from penstock.knowledge.quality.evidence import ComparisonEvidence
from penstock.knowledge.quality.figures import make_sheet, metric_names, service_columns
from penstock.knowledge.quality.finding import Found, GenerationFinder
from penstock.knowledge.quality.labels import LabelMapper, Target, make_target
from penstock.knowledge.quality.measuring import MAX_K
from penstock.knowledge.quality.ports import (
    Figure,
    Judging,
    Questions,
    QuestionValue,
    RecordedQuestions,
    Scoring,
    Searching,
    Sheet,
    Verdict,
)
from penstock.knowledge.quality.preparing import Prepared, prepare
from penstock.knowledge.quality.recipes import read_wanted
from penstock.knowledge.quality.replaying import Agreement, agree
from penstock.knowledge.quality.types import (
    Change,
    CompareRequest,
    ComparisonPage,
    GenerationComparison,
    Replay,
)
from penstock.knowledge.quality.words import split_words
from penstock.knowledge.types import Hit, IngestContext, InlineContext
from penstock.spec.evaluations import Comparison
from penstock.spec.knowledge import ChosenScope

MAX_RECORDED = 2000
MAX_CHANGES = 50
NEARLY_ALL = 0.95
"""Overlap from which on a change without labelled questions counts as none."""
MAX_FAILED = 0.05
"""Share of a side's searches that may fail in a comparison that passes."""
_LABELLED_RULES = ("recall@{k} >= baseline - 3 points", "ndcg@{k} >= baseline - 3 points", "no new errors")
_RECORDED_RULES = ("no new nothing_found", "no new errors")
_PLAIN = ("latency_ms", "context_tokens", "errors", "nothing_found")


@dataclass(frozen=True, kw_only=True)
class _Labelled:
    """Labelled questions asked of both sides."""

    ref: str
    baseline: Sheet
    candidate: Sheet
    n: int
    notes: list[str]


@dataclass(frozen=True, kw_only=True)
class _Recorded:
    """Recorded questions asked of both sides."""

    replay: Replay
    baseline: Sheet
    candidate: Sheet
    notes: list[str]


class ComparingService:
    """Comparisons over one home. May be called from any thread."""

    def __init__(
        self,
        engine: Engine,
        searching: Searching,
        scoring: Scoring,
        *,
        judging: Judging,
        questions: Questions,
        recorded: RecordedQuestions | None = None,
        clock: Callable[[], int] = wall_clock,
        timer: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._engine = engine
        self._scoring = scoring
        self._judging = judging
        self._questions = questions
        self._recorded = recorded
        self._interviewer = Interviewer(searching, timer=timer)
        self._finder = GenerationFinder(engine, searching)
        self._evidence = ComparisonEvidence(engine)
        self._clock = clock

    def compare(
        self, base: str, request: CompareRequest, ctx: IngestContext | None = None, *, actor: str = ""
    ) -> GenerationComparison:
        """Ask both sides, judge, and keep the verdict.

        Raises `UnknownKnowledge`, `UnknownGeneration`, `NoQuestions`, `InvalidInput` for a rule, and what
        searching raises when one side cannot be searched at all.
        """
        ctx = ctx or InlineContext()
        self.check(request)
        baseline = self._finder.find(base, request.baseline)
        candidate = self._finder.find(base, request.candidate)
        labelled = self._ask_labelled(baseline, candidate, request, ctx) if request.questions else None
        recorded = self._ask_recorded(baseline, candidate, request, ctx, 0.6 if labelled else 0.0)
        if labelled is None and recorded is None:
            raise NoQuestions(
                f"nothing can be asked of both sides of {base!r}: no labelled questions were named, and no traffic of it "
                "is recorded.",
                hint="Name a set: --questions dataset:NAME, or handbook:questions.",
            )
        made = self._make(baseline, candidate, request, labelled, recorded, actor)
        with self._engine.begin() as connection:
            queries.add_comparison(connection, made)
        ctx.progress(1.0, f"{made.verdict}: {made.reason}")
        return made

    def check(self, request: CompareRequest) -> None:
        """Raise `InvalidInput` for what cannot be compared: a depth out of bounds, a rule that cannot be read."""
        if not 1 <= request.k <= MAX_K or not 0 <= request.recorded <= MAX_RECORDED:
            raise InvalidInput(
                f"k lies between 1 and {MAX_K}, and at most {MAX_RECORDED:,} recorded questions are replayed."
            )
        if not 0.5 <= request.level < 1.0:
            raise InvalidInput("A level lies between 0.5 and 1.", where="level")
        self._judging.check(request.rules)

    def get(self, comparison_id: str) -> GenerationComparison:
        """Return a comparison; raise `UnknownComparison`."""
        return self._evidence.get(comparison_id)

    def list_comparisons(self, base: str, *, cursor: str | None = None, limit: int = 50) -> ComparisonPage:
        """Return comparisons of a base, newest first."""
        if not 1 <= limit <= 500:
            raise InvalidInput("A page has 1 to 500 comparisons.", where="limit")
        with self._engine.connect() as connection:
            found = queries.list_comparisons(connection, base, cursor=cursor, limit=limit + 1)
        return ComparisonPage(rows=found[:limit], next_cursor=queries.cursor_of(found, limit))

    # asking

    def _ask_labelled(
        self, baseline: Found, candidate: Found, request: CompareRequest, ctx: IngestContext
    ) -> _Labelled:
        pinned = self._questions.pin(request.questions or "")
        asked = list(self._questions.read(pinned, where=request.where))
        sides = [
            prepare(asked, LabelMapper(StoredCorpus(self._engine, each.base, each.generation)), by=request.by)
            for each in (baseline, candidate)
        ]
        targets, notes = pair_targets(sides[0], sides[1], leaves_out=request.unmapped == "leave_out")
        questions = [each for each in sides[0].questions if each.id in targets[0]]
        if not questions:
            raise NoQuestions(
                f"no question of {pinned} names anything that either side holds.",
                hint="Look at the labels: penstock knowledge measure lists those that nothing fulfils.",
            )
        ks = sorted({1, request.k, 10})
        found = self._ask_both(baseline, candidate, questions, max(ks), ctx, (0.0, 0.6))
        sheets = [
            make_sheet(name, replies, target, ks)
            for name, replies, target in zip(("baseline", "candidate"), found, targets, strict=True)
        ]
        notes += [note for each in found for note in each.told()]
        return _Labelled(ref=pinned, baseline=sheets[0], candidate=sheets[1], n=len(questions), notes=notes)

    def _ask_recorded(
        self,
        baseline: Found,
        candidate: Found,
        request: CompareRequest,
        ctx: IngestContext,
        done: float,
    ) -> _Recorded | None:
        if self._recorded is None or not request.recorded:
            return None
        questions: dict[tuple[str, bytes], Question] = {}
        traces: dict[str, str | None] = {}
        left_out: Counter[str] = Counter()
        found = self._recorded.read(
            baseline.base, since_ns=request.since_ns, limit=min(MAX_RECORDED, 5 * request.recorded)
        )
        for each in found:
            if each.n_wordings:
                left_out["wordings that an app made"] += each.n_wordings
            words = " ".join(split_words(each.question))
            scope = ChosenScope(conditions=each.conditions, principals=each.principals)
            key = (words, msgspec.json.encode(scope))
            if not words:
                left_out["no words"] += 1
            elif key in questions:
                left_out["asked again"] += 1
            elif len(questions) < request.recorded:
                name = f"r{len(questions)}"
                questions[key] = Question(id=name, text=each.question, scope=scope)
                traces[name] = each.trace_id
        if not questions:
            return None
        asked = list(questions.values())
        both = self._ask_both(baseline, candidate, asked, request.k, ctx, (done, 0.98))
        return self._make_replay(both, traces, request, left_out)

    def _ask_both(  # noqa: PLR0917 - two sides of one thing
        self,
        baseline: Found,
        candidate: Found,
        questions: Sequence[Question],
        k: int,
        ctx: IngestContext,
        part: tuple[float, float],
    ) -> tuple[Replies, Replies]:
        askings = [
            Asking(base=each.base, generation=each.generation, k=k, wanted=read_wanted(each.recipe))
            for each in (baseline, candidate)
        ]
        for asking in askings:
            self._interviewer.open(asking)
        found = (Replies(asking=askings[0]), Replies(asking=askings[1]))
        for number, question in enumerate(questions):
            if number % 10 == 0:
                ctx.check_cancelled()
                ctx.progress(
                    part[0] + (part[1] - part[0]) * number / len(questions),
                    f"{number:,} of {len(questions):,} questions on both",
                )
            for side in (0, 1) if number % 2 == 0 else (1, 0):
                self._interviewer.ask(askings[side], question, found[side])
        return found

    # judging

    def _make_replay(
        self,
        both: tuple[Replies, Replies],
        traces: Mapping[str, str | None],
        request: CompareRequest,
        left_out: Mapping[str, int],
    ) -> _Recorded:
        agreements: dict[str, Agreement] = {}
        changes: list[Change] = []
        for left, right in zip(both[0].replies, both[1].replies, strict=True):
            if left.error is not None or right.error is not None:
                continue
            name = left.question.id
            agreements[name] = found = agree(left.hits, right.hits, request.k)
            if found.overlap is not None and found.overlap < 1.0:
                changes.append(
                    Change(
                        question=left.question.text,
                        overlap=found.overlap,
                        baseline=_places(left.hits[: request.k]),
                        candidate=_places(right.hits[: request.k]),
                        trace_id=traces.get(name),
                    )
                )
        changes.sort(key=lambda change: change.overlap or 0.0)
        shared: dict[str, tuple[Figure, Sequence[QuestionValue]]] = {}
        of = {
            f"overlap@{request.k}": {name: each.overlap for name, each in agreements.items()},
            "rank_overlap": {name: each.rank_overlap for name, each in agreements.items()},
            "same_first": {name: each.same_first for name, each in agreements.items()},
        }
        for title, known in of.items():
            values = [
                QuestionValue(
                    id=reply.question.id,
                    value=known.get(reply.question.id),
                    is_error=reply.question.id not in agreements,
                )
                for reply in both[0].replies
            ]
            # what neither side found anything for agrees, but there is nothing to overlap
            values = [each for each in values if each.value is not None or each.is_error]
            shared[title] = (Figure(name=title, is_binary=title == "same_first"), values)
        columns = [service_columns(each) for each in both]
        differences = self._scoring.compare(
            [(columns[0][name][0], columns[0][name][1], columns[1][name][1]) for name in _PLAIN],
            level=request.level,
        )
        replay = Replay(
            n_questions=len(both[0].replies),
            estimates=[
                self._scoring.estimate(figure, values, level=request.level)[0]
                for figure, values in shared.values()
                if values
            ],
            differences=list(differences),
            changes=changes[:MAX_CHANGES],
            left_out=dict(left_out),
        )
        return _Recorded(
            replay=replay,
            baseline=Sheet(name="baseline", columns=columns[0]),
            candidate=Sheet(name="candidate", columns=columns[1] | {n: c for n, c in shared.items() if c[1]}),
            notes=[note for each in both for note in each.told()],
        )

    def _make(  # noqa: PLR0917 - the parts of one record
        self,
        baseline: Found,
        candidate: Found,
        request: CompareRequest,
        labelled: _Labelled | None,
        recorded: _Recorded | None,
        actor: str,
    ) -> GenerationComparison:
        verdict = self._judge(request, labelled, recorded)
        reservations = []
        if labelled is None:
            reservations.append(
                "No labelled questions: this shows how much changes, not whether it is better."
            )
        if baseline.generation == candidate.generation:
            reservations.append("Both sides are the same generation.")
        for part in (labelled, recorded):
            reservations += [] if part is None else part.notes
        return GenerationComparison(
            id=new_id("cmp"),
            base=baseline.base,
            baseline=baseline.generation,
            candidate=candidate.generation,
            baseline_track=baseline.track,
            candidate_track=candidate.track,
            baseline_recipe=baseline.recipe_digest,
            candidate_recipe=candidate.recipe_digest,
            verdict=verdict.verdict,
            reason=verdict.reason,
            rules=list(verdict.rules),
            sentences=[each.sentence for each in verdict.rules],
            request=request,
            questions=None if labelled is None else labelled.ref,
            n_labelled=0 if labelled is None else labelled.n,
            labelled=[] if labelled is None else self._differences(labelled, request),
            replay=None if recorded is None else recorded.replay,
            reservations=list(dict.fromkeys(reservations)),
            level=request.level,
            actor=actor,
            made_ns=self._clock(),
        )

    def _differences(self, labelled: _Labelled, request: CompareRequest) -> list[Comparison]:
        names = [name for name, _, _ in metric_names(sorted({1, request.k, 10}))]
        left, right = labelled.baseline.columns, labelled.candidate.columns
        covered = f"covered@{request.k}"
        names += [covered] if covered in left and covered in right else []
        names += ["latency_ms", "context_tokens"]
        return list(
            self._scoring.compare(
                [(left[name][0], left[name][1], right[name][1]) for name in names], level=request.level
            )
        )

    def _judge(
        self, request: CompareRequest, labelled: _Labelled | None, recorded: _Recorded | None
    ) -> Verdict:
        rules = request.rules or [
            rule.format(k=request.k) for rule in (_RECORDED_RULES if labelled is None else _LABELLED_RULES)
        ]
        parts = [each for each in (labelled, recorded) if each is not None]
        baseline: dict[str, tuple[Figure, Sequence[QuestionValue]]] = {}
        candidate: dict[str, tuple[Figure, Sequence[QuestionValue]]] = {}
        for part in parts:
            for whole, own in ((baseline, part.baseline), (candidate, part.candidate)):
                for name, column in own.columns.items():
                    known = whole.get(name)
                    whole[name] = column if known is None else (known[0], [*known[1], *column[1]])
        verdict = self._judging.judge(
            rules,
            baseline=Sheet(name="baseline", columns=baseline),
            candidate=Sheet(name="candidate", columns=candidate),
            level=request.level,
        )
        failed = _most_failed(baseline, candidate)
        if verdict.verdict == "pass" and failed is not None:
            return Verdict(verdict="invalid", reason=failed, rules=verdict.rules)
        if labelled is None and recorded is not None and not request.rules and verdict.verdict == "pass":
            return _hold_back(verdict, recorded.replay, request.k)
        return verdict


def _most_failed(*sides: Mapping[str, tuple[Figure, Sequence[QuestionValue]]]) -> str | None:
    """Return what to say where so many searches of a side failed that no rule proves anything, or None."""
    for name, side in zip(("baseline", "candidate"), sides, strict=True):
        values = side["errors"][1]
        n_failed = sum(each.is_error for each in values)
        if n_failed > MAX_FAILED * len(values):
            return f"{n_failed:,} of {len(values):,} searches of the {name} failed or did without what its recipe names."
    return None


def _hold_back(verdict: Verdict, replay: Replay, k: int) -> Verdict:
    """Return `undecided` for a pass that nobody judged, unless next to nothing changes."""
    overlap = next((each for each in replay.estimates if each.name == f"overlap@{k}"), None)
    if overlap is not None and overlap.low is not None and overlap.low >= NEARLY_ALL:
        return Verdict(
            verdict="pass",
            reason=f"{verdict.reason} Next to nothing changes: overlap@{k} is {overlap.value:.3f}.",
            rules=verdict.rules,
        )
    if overlap is not None and overlap.value is not None and overlap.value >= NEARLY_ALL:
        return Verdict(
            verdict="undecided",
            reason=f"Results hardly change (overlap@{k} {overlap.value:.2f}), but {overlap.n:,} recorded questions are too few to "
            "be sure. Name a labelled set with --questions.",
            rules=verdict.rules,
        )
    return Verdict(
        verdict="undecided",
        reason=f"Results change (overlap@{k} {_text(overlap.value if overlap else None)}), and no labelled questions say "
        "whether for the better. Name a set with --questions, or write rules of your own.",
        rules=verdict.rules,
    )


def pair_targets(
    baseline: Prepared, candidate: Prepared, *, leaves_out: bool
) -> tuple[tuple[dict[str, Target], dict[str, Target]], list[str]]:
    """Return what each question should find on either side, and what to know of it.

    A label that neither side can fulfil says nothing of their difference and is left out; one that one side alone can fulfil
    counts as not found on the other (with `leaves_out`: is left out).
    """
    targets: tuple[dict[str, Target], dict[str, Target]] = ({}, {})
    n_neither = n_one = n_all = 0
    for question in baseline.questions:
        left, right = baseline.mapped[question.id], candidate.mapped[question.id]
        kept = []
        for at, (a, b) in enumerate(zip(left, right, strict=True)):
            if a.label.grade > 0:
                n_all += 1
                n_neither += not a.passages and not b.passages
                n_one += bool(a.passages) != bool(b.passages)
            if (a.passages and b.passages) or (not leaves_out and (a.passages or b.passages)):
                kept.append(at)
        # one need on one side is one on the other too, so that both are divided by the same
        keys = [(tuple(left[at].passages), tuple(right[at].passages)) for at in kept]
        sides = [
            make_target([side[at] for at in kept], count_unmapped=not leaves_out, keys=keys)
            for side in (left, right)
        ]
        if sides[0].wanted and sides[1].wanted:
            targets[0][question.id], targets[1][question.id] = sides
    notes = []
    if n_neither:
        notes.append(
            f"{n_neither:,} of {n_all:,} labels name nothing that either side holds; they are left out."
        )
    if n_one:
        what = "are left out" if leaves_out else "count as not found on the other"
        notes.append(f"{n_one:,} of {n_all:,} labels name something that one side alone holds; they {what}.")
    left_out = baseline.left_out
    if left_out:
        told = ", ".join(f"{number:,} × {reason}" for reason, number in left_out.most_common())
        notes.append(f"Questions left out: {told}.")
    return targets, notes


def _places(hits: Sequence[Hit]) -> list[str]:
    return [f"{hit.document}#{hit.section}" if hit.section else hit.document for hit in hits]


def _text(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"
