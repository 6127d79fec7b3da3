"""What people say of what was found: clicks, thumbs, documents that were missed, labels by hand. Kept, never changed."""

from collections.abc import Callable, Iterator, Sequence

from sqlalchemy import Engine

from penstock.base.clock import now_ns as wall_clock
from penstock.base.errors import InvalidInput
from penstock.base.ids import new_id
from penstock.base.json_text import clean_text
from penstock.knowledge.quality import queries
from penstock.knowledge.quality.types import Feedback, FeedbackDraft, FeedbackPage

MAX_QUESTION_CHARS = 8000
MAX_USER_CHARS = 256
MAX_AT_ONCE = 500
_PAGE = 500


class FeedbackService:
    """Judgements of what was found. May be called from any thread."""

    def __init__(self, engine: Engine, *, clock: Callable[[], int] = wall_clock) -> None:
        self._engine = engine
        self._clock = clock

    def add(self, base: str, drafts: Sequence[FeedbackDraft], *, actor: str) -> list[Feedback]:
        """Keep judgements, all of them or, when one is wrong, none. Raises `InvalidInput` that names the wrong one."""
        if not 1 <= len(drafts) <= MAX_AT_ONCE:
            raise InvalidInput(f"Send 1 to {MAX_AT_ONCE} judgements at once; these are {len(drafts)}.")
        made = [self._make(base, draft, actor, number) for number, draft in enumerate(drafts)]
        with self._engine.begin() as connection:
            for each in made:
                queries.add_feedback(connection, each)
        return made

    def list_feedback(
        self, base: str, *, kinds: Sequence[str] = (), cursor: str | None = None, limit: int = 50
    ) -> FeedbackPage:
        """Return judgements of a base, newest first."""
        if not 1 <= limit <= _PAGE:
            raise InvalidInput(f"A page has 1 to {_PAGE} judgements.", where="limit")
        with self._engine.connect() as connection:
            found = queries.list_feedback(
                connection, base, kinds=kinds, since_ns=None, cursor=cursor, limit=limit + 1
            )
            counts = queries.count_feedback(connection, base)
        return FeedbackPage(rows=found[:limit], counts=counts, next_cursor=queries.cursor_of(found, limit))

    def read_all(self, base: str, *, since_ns: int | None = None) -> Iterator[Feedback]:
        """Yield every judgement of a base, newest first."""
        cursor: str | None = None
        while True:
            with self._engine.connect() as connection:
                found = queries.list_feedback(
                    connection, base, kinds=(), since_ns=since_ns, cursor=cursor, limit=_PAGE + 1
                )
            yield from found[:_PAGE]
            cursor = queries.cursor_of(found, _PAGE)
            if cursor is None:
                return

    def _make(self, base: str, draft: FeedbackDraft, actor: str, number: int) -> Feedback:
        where = f"feedback.{number}"
        question = clean_text(draft.question).strip()
        if not question or len(question) > MAX_QUESTION_CHARS:
            raise InvalidInput(
                f"{where}: a question has 1 to {MAX_QUESTION_CHARS:,} characters.", where=f"{where}.question"
            )
        if draft.document is None and draft.passage_id is None and draft.kind != "down":
            raise InvalidInput(
                f"{where}: {draft.kind!r} says something of a document or a passage; name one.",
                where=f"{where}.document",
            )
        if draft.rank is not None and draft.rank < 1:
            raise InvalidInput(f"{where}: ranks begin at 1.", where=f"{where}.rank")
        user = clean_text(draft.user or "").strip()
        if len(user) > MAX_USER_CHARS:
            raise InvalidInput(
                f"{where}: a user has at most {MAX_USER_CHARS} characters.", where=f"{where}.user"
            )
        return Feedback(
            id=new_id("fb"),
            base=base,
            question=question,
            kind=draft.kind,
            document=draft.document,
            passage_id=draft.passage_id,
            rank=draft.rank,
            actor=f"user:{user}" if user else actor,
            trace_id=draft.trace_id,
            generation=draft.generation,
            made_ns=self._clock(),
        )
