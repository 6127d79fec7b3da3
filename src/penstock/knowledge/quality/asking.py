"""Asks one generation many questions and keeps what came back: ranks, time, context, errors.

One question at a time, so that latency means something. The surprise: a search that was to use vectors or a second look and
did without is an error here, because its figures would stand under a name that they do not belong to.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from penstock.base.errors import PenstockError
from penstock.knowledge.quality.ports import Searching
from penstock.knowledge.quality.recipes import Wanted
from penstock.knowledge.types import Hit, IngestContext, Retrieval
from penstock.spec.knowledge import ChosenScope, SearchRecipe

BYTES_PER_TOKEN = 4
"""Of English text with common tokenizers, where a passage's own count is not known."""
_TELL_EVERY = 10


@dataclass(frozen=True, kw_only=True)
class Question:
    """One wording of one question."""

    id: str
    text: str
    group: str | None = None
    slices: tuple[str, ...] = ()
    scope: ChosenScope = field(default_factory=ChosenScope)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What one search came to."""

    question: Question
    hits: tuple[Hit, ...] = ()
    ms: float | None = None
    context_tokens: float | None = None
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class Asking:
    """What is asked how: a generation, a depth, and a recipe of searching (None: the generation's own)."""

    base: str
    generation: str
    k: int
    wanted: Wanted
    """What its searches are to use."""
    recipe: SearchRecipe | None = None


@dataclass(kw_only=True)
class Replies:
    """All replies of one way of searching."""

    asking: Asking
    replies: list[Reply] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    version: str | None = None
    embedder: str | None = None

    @property
    def n_errors(self) -> int:
        """Searches that failed."""
        return sum(reply.error is not None for reply in self.replies)

    def told(self) -> list[str]:
        """Return the notes, each with how many searches had it."""
        return [f"{note} ({number:,} of {len(self.replies):,})" for note, number in self.notes.most_common()]


class Interviewer:
    """Asks. `timer` gives nanoseconds."""

    def __init__(self, searching: Searching, *, timer: Callable[[], int] = time.perf_counter_ns) -> None:
        self._searching = searching
        self._timer = timer

    def open(self, asking: Asking) -> None:
        """Open the index before time counts. Raises what searching raises: nothing can be measured then."""
        self._search(asking, "warm", ChosenScope())

    def ask(self, asking: Asking, question: Question, found: Replies) -> Reply:
        """Ask one question and add the reply to `found`."""
        started = self._timer()
        try:
            retrieval = self._search(asking, question.text, question.scope)
        except PenstockError as error:
            found.notes[f"failed: {error.message}"] += 1
            reply = Reply(question=question, error=str(error))
            found.replies.append(reply)
            return reply
        ms = (self._timer() - started) / 1e6
        found.version, found.embedder = retrieval.version, retrieval.embedder
        if retrieval.note:
            found.notes[retrieval.note] += 1
        lacks = _what_it_lacks(asking.wanted, question.text, retrieval)
        reply = Reply(
            question=question,
            hits=() if lacks else tuple(retrieval.hits),
            ms=None if lacks else ms,
            context_tokens=None if lacks else float(sum(map(count_tokens, retrieval.hits))),
            error=lacks,
        )
        found.replies.append(reply)
        return reply

    def ask_all(
        self,
        asking: Asking,
        questions: Sequence[Question],
        ctx: IngestContext,
        tell: Callable[[int], None] = lambda _n: None,
    ) -> Replies:
        """Ask all questions; `tell` is told now and then how many were."""
        self.open(asking)
        found = Replies(asking=asking)
        for number, question in enumerate(questions):
            if number % _TELL_EVERY == 0:
                ctx.check_cancelled()
                tell(number)
            self.ask(asking, question, found)
        return found

    def _search(self, asking: Asking, text: str, scope: ChosenScope) -> Retrieval:
        return self._searching.retrieve(
            asking.base, text, asking.k, scope=scope, generation=asking.generation, recipe=asking.recipe
        )


def _what_it_lacks(wanted: Wanted, question: str, retrieval: Retrieval) -> str | None:
    """Return what a search left out of the way that it was to go, or None."""
    used = {stage.name for stage in retrieval.stages}
    if retrieval.n_rows and "dense" not in used and wanted.wants_vectors(question, retrieval.embedder):
        return f"searched words only: {retrieval.note or 'no vectors'}"
    was_looked = any(hit.rerank_score is not None for hit in retrieval.hits)
    if wanted.search.rerank is not None and retrieval.hits and not was_looked:
        return f"no second look: {retrieval.note or 'it was left out'}"
    return None


def count_tokens(hit: Hit) -> int:
    """Return the tokens of a passage: its own count where the index knows it, else estimated from its bytes."""
    known = getattr(hit, "n_tokens", None)
    return known if isinstance(known, int) else -(-len(hit.text.encode()) // BYTES_PER_TOKEN)
