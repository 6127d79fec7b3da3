"""What judges need of others: evaluations with their outputs, traces, feedback, and somebody to ask. Joined in `main`."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from penstock.evals.scorers.types import ScorerTools
from penstock.evals.types import AnsweredCase, CasePage, CaseQuery, CaseView
from penstock.spec.cases import Case, Output
from penstock.spec.evaluations import ScorerSpec
from penstock.spec.scores import SpanScore

OpenTools = Callable[[], AbstractAsyncContextManager[ScorerTools]]
"""Opens what judges ask with, for one event loop; closes it at the end."""


class Evaluations(Protocol):
    """Stored outputs with their scores: the service of evaluations has both."""

    def cases(self, evaluation_id: str, query: CaseQuery | None = None) -> CasePage:
        """Return one page of cases with outputs and scores; raises `UnknownEvaluation`."""
        ...

    def case(self, evaluation_id: str, case_id: str) -> CaseView:
        """Return one case with outputs and scores; raises `UnknownCase`."""
        ...

    def answered(self, evaluation_id: str) -> Sequence[AnsweredCase]:
        """Return every answer that is ok, in order, without its text; raises `UnknownEvaluation`."""
        ...


class Traffic(Protocol):
    """What was asked and answered outside evaluations, and what people said of it."""

    def read(self, trace_id: str) -> tuple[Case, Output] | None:
        """Return a trace as a case and its output; None where the trace is unknown or holds no conversation."""
        ...

    def feedback(self, name: str) -> Iterable[SpanScore]:
        """Return what people said of traces under this name, the latest first."""
        ...


class JudgeVersions(Protocol):
    """Judges that are kept under a name."""

    def register(self, name: str, spec: ScorerSpec, *, actor: str) -> str:
        """Keep a specification as the newest version of `scorer:NAME`; return `scorer:NAME@3`."""
        ...

    def resolve(self, ref: str) -> ScorerSpec:
        """Return the specification of `scorer:NAME@…`; raises what the registry raises."""
        ...

    def list(self) -> Iterable[tuple[str, ScorerSpec]]:
        """Return the newest version of each kept scorer: `scorer:NAME@3` and its specification."""
        ...
