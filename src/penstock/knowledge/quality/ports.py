"""What measuring needs of others: searching, scoring and statistics, sets of questions, the record of traffic, judges.

Filled in `main`. Every method may be called from any thread and may raise `PenstockError`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from penstock.knowledge.quality.report_types import Asked, TriadSettings
from penstock.knowledge.quality.types import LabelledQuestion, MadeQuestions, QuestionSet
from penstock.knowledge.types import BaseRow, Retrieval
from penstock.spec.evaluations import Comparison, Estimate, RuleResult, VerdictWord
from penstock.spec.knowledge import ChosenScope, SearchRecipe
from penstock.spec.scores import Score


class Searching(Protocol):
    """Searches one generation; `knowledge.service.KnowledgeService` is one."""

    def retrieve(
        self,
        name: str,
        query: str,
        k: int = 5,
        *,
        scope: ChosenScope = ...,
        generation: str | None = None,
        recipe: SearchRecipe | None = None,
        explain: bool = False,
    ) -> Retrieval:
        """Return at most `k` passages of a generation (None: the live one), best first."""

    def list_bases(self) -> Sequence[BaseRow]:
        """Return every base that has a live generation, by name."""


@dataclass(frozen=True, kw_only=True)
class RankedQuestion:
    """One question with what should be found and what was, in terms of labels."""

    id: str
    wanted: Sequence[str]
    """Names of needs."""
    found: Sequence[frozenset[str]]
    """Of each rank, the needs that its passage meets; empty: none."""
    grades: Mapping[str, int] = field(default_factory=dict)
    """Of needs whose grade is not 1."""
    passages: Sequence[frozenset[str]] = ()
    """What single passages of the generation meet: the best order that there could be follows from it."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What is known of a number that questions have: enough to pick interval and test."""

    name: str
    is_higher_better: bool = True
    is_binary: bool = False
    low: float | None = 0.0
    high: float | None = 1.0
    unit: str | None = None
    is_of_service: bool = False
    """Latency, errors: each question stands alone, whatever its group."""


@dataclass(frozen=True, kw_only=True)
class QuestionValue:
    """One number of one question. None: it has no such number."""

    id: str
    value: float | None
    group: str | None = None
    slices: tuple[str, ...] = ()
    is_error: bool = False


Values = Sequence[QuestionValue]


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """All figures of one side."""

    name: str
    columns: Mapping[str, tuple[Figure, Values]]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What rules say of two sides."""

    verdict: VerdictWord
    reason: str
    rules: Sequence[RuleResult]


class Judging(Protocol):
    """Rules over two sides, as gates read them; joined over the room of evaluations."""

    def check(self, rules: Sequence[str]) -> None:
        """Raise `InvalidInput` for a rule that cannot be read; it says where."""

    def judge(self, rules: Sequence[str], *, baseline: Sheet, candidate: Sheet, level: float) -> Verdict:
        """Return the verdict of rules over two sides."""


class Scoring(Protocol):
    """Intervals and differences; joined over the room of evaluations."""

    def estimate(
        self, figure: Figure, values: Values, *, level: float, with_slices: bool = False
    ) -> Sequence[Estimate]:
        """Return the figure of all with its interval, clustered by group; with slices, one for each further."""

    def quantile(self, values: Values, share: float, *, level: float) -> Estimate:
        """Return a quantile with its interval."""

    def compare(
        self, pairs: Sequence[tuple[Figure, Values, Values]], *, level: float
    ) -> Sequence[Comparison]:
        """Return the paired differences (baseline, candidate) as one family, corrected by Holm."""


class Questions(Protocol):
    """Sets of labelled questions; joined over the datasets."""

    def list_sets(self) -> Sequence[QuestionSet]:
        """Return the sets that there are, by name."""

    def pin(self, ref: str) -> str:
        """Return `dataset:NAME@3` for whatever names a set; raise `NotFound`."""

    def read(self, ref: str, *, where: str | None = None) -> Iterator[LabelledQuestion]:
        """Yield the questions of a set, labels as written."""

    def add(
        self, name: str, questions: Sequence[LabelledQuestion], *, actor: str, note: str
    ) -> MadeQuestions:
        """Add questions to the set `name`, creating it where there is none; one that is asked already gets no second row."""


class RecordedQuestions(Protocol):
    """Questions of traffic; joined over the span store."""

    def read(
        self, base: str, *, since_ns: int | None, until_ns: int | None = None, limit: int
    ) -> Iterator[Asked]:
        """Yield what was asked of a base, newest first, each with how it came out."""


class QuestionVectors(Protocol):
    """Turns questions into vectors, to tell which ask the same."""

    def embed(self, base: str, texts: Sequence[str]) -> Any:
        """Return one row of length one a text; raise `UpstreamError` when nothing embeds."""


class Answers(Protocol):
    """Answers of apps as they come, and models that judge them; joined over traffic and evaluations."""

    def read_answers(self, app: str, *, since_ns: int, until_ns: int, limit: int) -> "ReadAnswers":
        """Return answers of an app that began in `[since_ns, until_ns)`, oldest first, and how far they were read."""

    def judge(self, settings: TriadSettings, answer: "AnsweredTrace") -> Sequence[Score]:
        """Return one score of each judge; an error of a judge is a score that says so."""

    def keep(self, answer: "AnsweredTrace", scores: Sequence[Score]) -> None:
        """Send the scores to the answer's trace."""


@dataclass(frozen=True, kw_only=True)
class ReadAnswers:
    """Answers of an app in the order they began."""

    answers: Sequence["AnsweredTrace"]
    until_ns: int
    """All that began before was looked at; what comes next begins here."""
    n_unreadable: int = 0
    """Of those looked at, the ones that cannot be judged: they failed, or were recorded without what was said."""


@dataclass(frozen=True, kw_only=True)
class AnsweredTrace:
    """One answer of an app with what it rests on."""

    trace_id: str
    span_id: str
    time_ns: int
    question: str
    answer: str
    passages: Sequence[Mapping[str, Any]]
    """{text, id, document}, best first."""
    project: str = "default"
