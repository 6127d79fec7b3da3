"""SQL over the table of runs: records in and out as structs."""

from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import Engine, Select, and_, delete, insert, or_, select, update

from penstock.base.clock import now_ns as wall_clock
from penstock.base.errors import InvalidInput
from penstock.spec.tuning import RunRecord
from penstock.store.control.tables.tuning import tune_runs
from penstock.tuning.runs.errors import UnknownRun
from penstock.tuning.runs.types import RunPage

MAX_PAGE = 500
_MAX_DIGITS = 19


class RunStore:
    """All rows of runs. Every method may be called from any thread."""

    def __init__(self, engine: Engine, *, clock: Callable[[], int] = wall_clock) -> None:
        self._engine = engine
        self.now_ns = clock

    def add(self, record: RunRecord) -> None:
        """Store a new run."""
        with self._engine.begin() as connection:
            values = {"id": record.id, "created_ns": record.created_ns, **_columns(record)}
            connection.execute(insert(tune_runs).values(**values))

    def get(self, wanted: str) -> RunRecord:
        """Return one run by its id, else the newest of that name; raises `UnknownRun`.

        For what people ask. What works on a run it was given uses `get_by_id`: a name never takes an id's place.
        """
        table = tune_runs
        query = select(table.c.content).where(or_(table.c.id == wanted, table.c.name == wanted))
        query = query.order_by((table.c.id == wanted).desc(), table.c.created_ns.desc(), table.c.id.desc())
        return self._one(query.limit(1), wanted)

    def get_by_id(self, run_id: str) -> RunRecord:
        """Return one run; raises `UnknownRun`."""
        return self._one(select(tune_runs.c.content).where(tune_runs.c.id == run_id), run_id)

    def _one(self, query: Select[Any], wanted: str) -> RunRecord:
        with self._engine.connect() as connection:
            content = connection.execute(query).scalar()
        if content is None:
            raise UnknownRun(
                f"There is no run {wanted!r}.", hint="`penstock tune list` shows those that there are."
            )
        return _read(content)

    def change(self, run_id: str, change: Callable[[RunRecord], RunRecord]) -> RunRecord:
        """Return the record after `change`, which sees it as it is now; `updated_ns` is set here."""
        with self._engine.begin() as connection:
            query = select(tune_runs.c.content).where(tune_runs.c.id == run_id).with_for_update()
            content = connection.execute(query).scalar_one_or_none()
            if content is None:
                raise UnknownRun(f"There is no run {run_id!r}.")
            changed = change(_read(content))
            record = msgspec.structs.replace(changed, updated_ns=self.now_ns())
            connection.execute(update(tune_runs).where(tune_runs.c.id == run_id).values(**_columns(record)))
        return record

    def update(self, run_id: str, **fields: Any) -> RunRecord:
        """Return the record after setting fields of it."""
        return self.change(run_id, lambda record: msgspec.structs.replace(record, **fields))

    def page(
        self,
        *,
        state: str | None = None,
        name: str | None = None,
        method: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> RunPage:
        """Return one page, newest first."""
        if not 1 <= limit <= MAX_PAGE:
            raise InvalidInput(f"A page holds 1 to {MAX_PAGE} runs.", where="limit")
        table = tune_runs
        query = select(table.c.content).order_by(table.c.created_ns.desc(), table.c.id.desc())
        for column, wanted in ((table.c.state, state), (table.c.name, name), (table.c.method, method)):
            if wanted is not None:
                query = query.where(column == wanted)
        if cursor is not None:
            created, _, last_id = cursor.partition(".")
            if not (created.isascii() and created.isdigit() and len(created) <= _MAX_DIGITS and last_id):
                raise InvalidInput("This is no cursor of runs.", where="cursor")
            same = and_(table.c.created_ns == int(created), table.c.id < last_id)
            query = query.where(or_(table.c.created_ns < int(created), same))
        with self._engine.connect() as connection:
            contents = list(connection.execute(query.limit(limit + 1)).scalars())
        rows = [_read(content) for content in contents[:limit]]
        is_more = len(contents) > limit
        return RunPage(rows=rows, next_cursor=f"{rows[-1].created_ns}.{rows[-1].id}" if is_more else None)

    def counts(self) -> dict[str, int]:
        """Return how many runs stand in each state."""
        found: dict[str, int] = {}
        with self._engine.connect() as connection:
            for state in connection.execute(select(tune_runs.c.state)).scalars():
                found[state] = found.get(state, 0) + 1
        return found

    def delete(self, run_id: str) -> None:
        """Forget a run."""
        with self._engine.begin() as connection:
            connection.execute(delete(tune_runs).where(tune_runs.c.id == run_id))


def _read(content: Any) -> RunRecord:
    return msgspec.convert(content, RunRecord)


def _columns(record: RunRecord) -> dict[str, Any]:
    text = msgspec.json.encode(record).replace(b"\\u0000", b"\\ufffd")  # PostgreSQL's JSON holds no NUL
    return {
        "name": record.name[:200],
        "state": record.state,
        "method": record.method,
        "frozen_digest": record.frozen_digest,
        "updated_ns": record.updated_ns,
        "content": msgspec.json.decode(text),
    }
