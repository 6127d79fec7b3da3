"""Sets of labelled questions made from what happened: feedback, and recorded questions with the documents that answers cite.

What a label rests on is told by its tag. `feedback` was said by people. `silver` follows from what was found and cited: such
labels favour the generation that found them, so they are good for watching one recipe and poor for comparing two. Labels made of
passages carry the passage's words, so that cutting anew keeps them.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Engine

from penstock.knowledge.quality import queries
from penstock.knowledge.quality.errors import NoQuestions, NoTraffic
from penstock.knowledge.quality.feedback import FeedbackService
from penstock.knowledge.quality.ports import Questions, RecordedQuestions
from penstock.knowledge.quality.report_types import Asked
from penstock.knowledge.quality.types import Feedback, Label, LabelledQuestion, MadeQuestions, QuestionSet
from penstock.knowledge.quality.words import split_words

MIN_CLICKS = 2
"""Different people that must have opened a passage before that alone makes it relevant."""
_PREVIEW = 10


class QuestionBuilder:
    """Makes and lists sets of questions. May be called from any thread."""

    def __init__(
        self,
        engine: Engine,
        questions: Questions,
        feedback: FeedbackService,
        recorded: RecordedQuestions | None = None,
    ) -> None:
        self._engine = engine
        self._questions = questions
        self._feedback = feedback
        self._recorded = recorded

    def list_sets(self) -> Sequence[QuestionSet]:
        """Return the sets that there are."""
        return self._questions.list_sets()

    def read(self, ref: str, *, where: str | None = None, limit: int = 100) -> list[LabelledQuestion]:
        """Return the first questions of a set with their labels."""
        pinned = self._questions.pin(ref)
        found = self._questions.read(pinned, where=where)
        return [each for each, _ in zip(found, range(limit), strict=False)]

    def add(
        self, name: str, questions: Sequence[LabelledQuestion], *, actor: str, note: str = ""
    ) -> MadeQuestions:
        """Add questions that somebody wrote."""
        return self._questions.add(name, questions, actor=actor, note=note)

    def from_feedback(
        self,
        base: str,
        name: str,
        *,
        actor: str,
        since_ns: int | None = None,
        min_clicks: int = MIN_CLICKS,
        is_dry: bool = False,
    ) -> MadeQuestions:
        """Add the questions that people judged. A thumb up, a label or a missed document makes relevant; a thumb down alone
        makes grade 0; each person counts once, and clicks count from `min_clicks` people on. Raises `NoQuestions` when nobody said anything."""
        groups: dict[str, list[Feedback]] = {}
        for each in self._feedback.read_all(base, since_ns=since_ns):
            groups.setdefault(" ".join(split_words(each.question)), []).append(each)
        if not groups:
            raise NoQuestions(
                f"nobody has judged anything that {base!r} found.",
                hint=f"POST /api/v1/knowledge/{base}/feedback takes clicks, thumbs and missed documents.",
            )
        left_out: Counter[str] = Counter()
        made = []
        for said in groups.values():
            labels = self._labels(base, said, min_clicks)
            if not any(label.grade > 0 for label in labels):
                left_out["nothing that was said makes a document relevant"] += 1
                continue
            newest = said[0]
            made.append(
                LabelledQuestion(
                    id=question_id(newest.question),
                    question=newest.question,
                    labels=labels,
                    tags=["feedback"],
                    source=f"feedback:{newest.id}",
                )
            )
        return self._keep(
            name, made, left_out, _Kept(actor=actor, is_dry=is_dry, note=f"from feedback on {base}")
        )

    def from_traces(
        self,
        base: str,
        name: str,
        *,
        actor: str,
        since_ns: int | None = None,
        limit: int = 500,
        with_unlabelled: bool = False,
        is_dry: bool = False,
    ) -> MadeQuestions:
        """Add recorded questions whose answers cite documents (tag `silver`); those with a thumb down or without an answer
        are left out. `with_unlabelled` adds the others without labels, for a person to label. Raises `NoTraffic`, `NoQuestions`.
        """
        if self._recorded is None:
            raise NoTraffic("The record of traffic is not at hand.", hint="Start Penstock: penstock up.")
        left_out: Counter[str] = Counter()
        found: dict[str, LabelledQuestion] = {}
        n_read = 0
        for each in self._recorded.read(base, since_ns=since_ns, limit=limit):
            n_read += 1
            if each.n_wordings:
                left_out["wordings that an app made"] += each.n_wordings
            key = " ".join(split_words(each.question))
            if not key or key in found:
                left_out["asked again" if key else "no words"] += 1
                continue
            labels = _silver(each)
            if not labels and not with_unlabelled:
                left_out[_why_unlabelled(each)] += 1
                continue
            found[key] = LabelledQuestion(
                id=question_id(each.question),
                question=each.question,
                labels=labels,
                tags=["silver"] if labels else ["unlabelled"],
                source=None if each.trace_id is None else f"trace:{each.trace_id}",
            )
        if not n_read:
            raise NoQuestions(f"no question to {base!r} is recorded.", hint="Ask its app, or search it.")
        return self._keep(
            name,
            list(found.values()),
            left_out,
            _Kept(actor=actor, is_dry=is_dry, note=f"from traffic of {base}"),
        )

    def _keep(
        self, name: str, made: Sequence[LabelledQuestion], left_out: Counter[str], kept: "_Kept"
    ) -> MadeQuestions:
        if kept.is_dry:
            return MadeQuestions(
                ref=None,
                n_added=len(made),
                left_out=dict(left_out.most_common()),
                preview=list(made[:_PREVIEW]),
            )
        done = self._questions.add(name, made, actor=kept.actor, note=kept.note)
        return MadeQuestions(
            ref=done.ref,
            n_added=done.n_added,
            n_known=done.n_known,
            left_out={**left_out, **done.left_out},
            preview=done.preview,
        )

    def _labels(self, base: str, said: Iterable[Feedback], min_clicks: int) -> list[Label]:
        votes: dict[tuple[str | None, str | None], _Votes] = {}
        for each in said:
            if each.document is None and each.passage_id is None:
                continue
            vote = votes.setdefault((each.document, each.passage_id), _Votes())
            if each.kind == "click":
                vote.clicked.add(each.actor)
            else:  # the newest comes first, and is what a person thinks
                vote.judged.setdefault(each.actor, each.kind != "down")
        labels = []
        for (document, passage_id), vote in votes.items():
            is_relevant = vote.n_for > vote.n_against or (
                not vote.n_against and len(vote.clicked) >= min_clicks
            )
            if is_relevant or vote.n_against > vote.n_for:
                labels.append(self._label(base, document, passage_id, int(is_relevant)))
        return labels

    def _label(self, base: str, document: str | None, passage_id: str | None, grade: int) -> Label:
        if passage_id is None:
            return Label(document=document, grade=grade)
        with self._engine.connect() as connection:
            row = queries.find_any_passage(connection, base, passage_id)
        if row is None:
            return Label(document=document, passage_id=None if document else passage_id, grade=grade)
        return Label(document=row.path, quote=row.text, grade=grade)


@dataclass(kw_only=True)
class _Votes:
    judged: dict[str, bool] = field(default_factory=dict)
    """Person to whether it was judged relevant."""
    clicked: set[str] = field(default_factory=set)

    @property
    def n_for(self) -> int:
        return sum(self.judged.values())

    @property
    def n_against(self) -> int:
        return len(self.judged) - self.n_for


@dataclass(frozen=True, kw_only=True)
class _Kept:
    actor: str
    is_dry: bool
    note: str


def _silver(asked: Asked) -> list[Label]:
    if asked.thumbs == "down" or asked.has_abstained or asked.is_unanswerable:
        return []
    return [Label(document=document) for document in dict.fromkeys(asked.cited)]


def _why_unlabelled(asked: Asked) -> str:
    if asked.thumbs == "down":
        return "its answer got a thumb down"
    if asked.has_abstained or asked.is_unanswerable:
        return "it was not answered"
    return "its answer cites nothing"


def question_id(text: str) -> str:
    """Return an id that follows from the question's words alone."""
    return f"q-{hashlib.sha256(' '.join(split_words(text)).encode()).hexdigest()[:16]}"
