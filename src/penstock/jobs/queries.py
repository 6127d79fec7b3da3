"""All SQL of the jobs room, for SQLite and PostgreSQL alike. Transactions are the caller's."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, Row, and_, insert, or_, select, update

from penstock.base.json_text import clean_text, decode_json
from penstock.jobs.types import Job, LogLine, StepRecord
from penstock.store.control.tables.jobs import job_logs, job_steps, jobs

MAX_LINE_CHARS = 16_384


def insert_job(connection: Connection, values: dict[str, Any]) -> None:
    """Add a job row."""
    connection.execute(insert(jobs).values(**values))


def get_job(connection: Connection, job_id: str, *, for_update: bool = False) -> Job | None:
    """Return the job, or None; `for_update` holds its row until the transaction ends."""
    query = select(jobs).where(jobs.c.id == job_id)
    row = connection.execute(query.with_for_update() if for_update else query).one_or_none()
    return _job(row) if row is not None else None


def find_active(connection: Connection, dedupe_key: str) -> Job | None:
    """Return the queued or running job with this dedupe key, or None."""
    query = select(jobs).where(jobs.c.dedupe_key == dedupe_key, jobs.c.state.in_(("queued", "running")))
    row = connection.execute(query).one_or_none()
    return _job(row) if row is not None else None


def list_jobs(connection: Connection, *, states: Collection[str], kind: str | None, limit: int) -> list[Job]:
    """Return jobs, newest first."""
    query = select(jobs).order_by(jobs.c.created_ns.desc(), jobs.c.id.desc()).limit(limit)
    if states:
        query = query.where(jobs.c.state.in_(tuple(states)))
    if kind is not None:
        query = query.where(jobs.c.kind == kind)
    return [_job(row) for row in connection.execute(query)]


def has_claimable(connection: Connection, kinds: Collection[str], now_ns: int) -> bool:
    """Return whether a job waits for a worker; a plain read, so that idle workers lock nothing."""
    query = select(jobs.c.id).where(_claimable(kinds, now_ns)).limit(1)
    return connection.execute(query).first() is not None


def lock_claimable(connection: Connection, kinds: Collection[str], now_ns: int) -> tuple[Job, int] | None:
    """Return the oldest job that waits for a worker and its fence, its row held by this transaction.

    Rows that another worker is just claiming are passed over (PostgreSQL: `SKIP LOCKED`; on SQLite the
    write transaction keeps others out anyway).
    """
    query = (
        select(jobs)
        .where(_claimable(kinds, now_ns))
        .order_by(jobs.c.created_ns, jobs.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    row = connection.execute(query).one_or_none()
    return (_job(row), row.fence) if row is not None else None


def update_job(connection: Connection, job_id: str, values: dict[str, Any]) -> None:
    """Set columns of a job whose row this transaction holds."""
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(**values))


def update_fenced(connection: Connection, job_id: str, fence: int, values: dict[str, Any]) -> bool | None:
    """Set columns if `fence` is still the newest claim; return whether a cancel is asked for, None if not ours.

    On PostgreSQL the row stays locked until the transaction ends, so no claim can slip in behind the check.
    """
    statement = (
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.fence == fence, jobs.c.state == "running")
        .values(**values)
        .returning(jobs.c.is_cancel_requested)
    )
    row = connection.execute(statement).one_or_none()
    return None if row is None else bool(row.is_cancel_requested)


def read_lease(connection: Connection, job_id: str, fence: int) -> bool | None:
    """Return whether a cancel is asked for, or None when `fence` is no longer the newest claim."""
    query = select(jobs.c.is_cancel_requested).where(
        jobs.c.id == job_id, jobs.c.fence == fence, jobs.c.state == "running"
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else bool(row.is_cancel_requested)


def get_step(connection: Connection, job_id: str, name: str, input_digest: str) -> str | None:
    """Return the journaled output of a step as JSON text, or None when it has not finished."""
    query = select(job_steps.c.output).where(
        job_steps.c.job_id == job_id,
        job_steps.c.name == name,
        job_steps.c.input_digest == input_digest,
    )
    return connection.execute(query).scalar_one_or_none()


def insert_step(connection: Connection, values: dict[str, Any]) -> None:
    """Write a finished step into the journal."""
    connection.execute(insert(job_steps).values(**values))


def list_steps(connection: Connection, job_id: str) -> list[StepRecord]:
    """Return the finished steps in the order they finished."""
    query = (
        select(job_steps)
        .where(job_steps.c.job_id == job_id)
        .order_by(job_steps.c.finished_ns, job_steps.c.name, job_steps.c.input_digest)
    )
    return [
        StepRecord(
            name=row.name,
            input_digest=row.input_digest,
            output=decode_json(row.output),
            attempt=row.attempt,
            started_ns=row.started_ns,
            finished_ns=row.finished_ns,
        )
        for row in connection.execute(query)
    ]


def insert_log(connection: Connection, job_id: str, *, at_ns: int, attempt: int, text: str) -> None:
    """Add a log line. The caller holds the job's row, so ids grow in the order of writing."""
    shown = clean_text(text[:MAX_LINE_CHARS])
    connection.execute(insert(job_logs).values(job_id=job_id, at_ns=at_ns, attempt=attempt, text=shown))


def list_logs(connection: Connection, job_id: str, *, after: int, limit: int) -> list[LogLine]:
    """Return the first log lines with an id over `after`, oldest first."""
    query = select(job_logs).where(job_logs.c.job_id == job_id, job_logs.c.id > after)
    return [_log_line(row) for row in connection.execute(query.order_by(job_logs.c.id).limit(limit))]


def list_newest_logs(connection: Connection, job_id: str, *, limit: int) -> list[LogLine]:
    """Return the last log lines, oldest first."""
    query = select(job_logs).where(job_logs.c.job_id == job_id).order_by(job_logs.c.id.desc()).limit(limit)
    return [_log_line(row) for row in connection.execute(query)][::-1]


def _claimable(kinds: Collection[str], now_ns: int) -> Any:
    return and_(
        jobs.c.kind.in_(tuple(kinds)),
        or_(
            and_(jobs.c.state == "queued", jobs.c.not_before_ns <= now_ns),
            and_(jobs.c.state == "running", jobs.c.lease_until_ns < now_ns),
        ),
    )


def _log_line(row: Row[Any]) -> LogLine:
    return LogLine(id=row.id, at_ns=row.at_ns, attempt=row.attempt, text=row.text)


def _job(row: Row[Any]) -> Job:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's documented name for the mapping view
    del values["fence"]
    for column in ("spec", "result", "error"):
        values[column] = decode_json(values[column]) if values[column] is not None else None
    return Job(**values)
