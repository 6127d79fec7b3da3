"""Where else than in the span store something of a subject may lie, and how it is removed from there."""

import mmap
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, delete, select

from penstock.datasets.service import DatasetService
from penstock.deploy.kept_replies import ResponseCacheService
from penstock.evals.judges.queries import forget_rater, forget_traces
from penstock.main.copies import clear_copies
from penstock.main.erasure_copies import clear_evaluations, find_in_datasets
from penstock.spec.home import Home
from penstock.spec.search import All, Condition, Either, Negated, Related, Words
from penstock.spec.search_fields import FIELDS
from penstock.store.control.tables.views import saved_views
from penstock.store.response_cache import KeptReply
from penstock.store.spans.upkeep_types import Subject
from penstock.telemetry.blanking import blank_records
from penstock.traces.collector import Collector
from penstock.traces.search import SearchInvalid, parse
from penstock.traces.upkeep.sweep import MIN_NAME
from penstock.traces.upkeep.types import Doomed, Place, PlaceReport

KEPT_AFTER_NS = 30_000_000_000
"""How long after the end of a call its reply may still be put into the cache."""
UNENDED_NS = 3_600_000_000_000
"""How long a call may have gone on whose end was never seen."""

_CHOICES = frozenset(field.name for field in FIELDS if field.type == "choice")
_IDENTITY = re.compile(r"user|session|scorer|^trace$", re.IGNORECASE)
"""Fields and attributes whose value is somebody's name, so that it is compared however short it is."""


def create_places(
    home: Home,
    engine: Engine,
    collector: Collector,
    cache: ResponseCacheService,
    datasets: DatasetService,
) -> tuple[Place, ...]:
    """Return the places of one home, in the order they are cleared."""
    return (
        lambda doomed: clear_spool(home, collector, doomed),
        lambda doomed: clear_forwards(home, doomed),
        lambda doomed: clear_cache(cache, doomed),
        lambda doomed: clear_views(engine, doomed),
        lambda doomed: clear_labels(engine, doomed),
        lambda doomed: clear_evaluations(engine, doomed),
        lambda doomed: find_in_datasets(datasets, engine, doomed),
        lambda doomed: clear_logs(home, doomed.subject),
        lambda _: PlaceReport(place="unfinished backups", removed={"copies": clear_copies(home)}),
    )


def clear_spool(home: Home, collector: Collector, doomed: Doomed) -> PlaceReport:
    """Blank records that were stored already; what was not is kept out when it is read."""
    n_events = collector.forget(doomed.covers)
    done = blank_records(home.spool, doomed.covers)
    return PlaceReport(place="spool", removed={"records": done.n_records, "log events": n_events})


def clear_forwards(home: Home, doomed: Doomed) -> PlaceReport:
    """Blank what waits to be sent on, and what was sent and still lies there."""
    done = blank_records(home.forward, doomed.covers, with_waiting=True)
    return PlaceReport(place="waiting to be sent on", removed={"records": done.n_records})


def clear_cache(cache: ResponseCacheService, doomed: Doomed) -> PlaceReport:
    """Remove replies that were kept while a call of the subject went on: an entry does not say whose it is."""
    spans = {(call.project, call.route): call.spans_ns for call in doomed.calls}
    n_removed = cache.remove_where(lambda reply: _is_theirs(reply, spans)) if spans else 0
    note = "replies of the same project and route that were kept during a call of theirs"
    if cache.is_shared and spans:
        for _, route in spans:
            cache.purge(route=route)
        note += "; those in Redis are not given any more, and go when they expire"
    return PlaceReport(place="response cache", removed={"replies": n_removed}, note=note)


def _is_theirs(reply: KeptReply, spans: Mapping[tuple[str, str], list[tuple[int, int | None]]]) -> bool:
    return any(
        start <= reply.stored_ns <= (start + UNENDED_NS if end is None else end + KEPT_AFTER_NS)
        for start, end in spans.get((reply.project, reply.route), ())
    )


def clear_views(engine: Engine, doomed: Doomed) -> PlaceReport:
    """Delete saved views whose search names the subject."""
    with engine.begin() as connection:
        rows = connection.execute(
            select(saved_views.c.project, saved_views.c.name, saved_views.c.query)
        ).all()
        theirs = [row for row in rows if names_subject(row.query, doomed.subject)]
        for row in theirs:
            connection.execute(
                delete(saved_views).where(
                    saved_views.c.project == row.project, saved_views.c.name == row.name
                )
            )
    return PlaceReport(place="saved views", removed={"views": len(theirs)})


def clear_labels(engine: Engine, doomed: Doomed) -> PlaceReport:
    """Forget labelled outputs of their traces, with labels and judges' verdicts, and what they said of others' themselves."""
    subject = doomed.subject
    with engine.begin() as connection:
        n_outputs = forget_traces(connection, doomed.trace_ids)
        n_labels = forget_rater(connection, subject.id) if subject.kind == "user" and subject.id else 0
    return PlaceReport(place="labels", removed={"outputs": n_outputs, "labels": n_labels})


def names_subject(query: str, subject: Subject) -> bool:
    """Return whether a search asks for the subject, or has its name within some text; short names are in many texts."""
    try:
        return _names(parse(query), subject)
    except SearchInvalid:
        return _holds(query, subject.id)


def _names(condition: Condition, subject: Subject) -> bool:
    if isinstance(condition, All | Either):
        return any(_names(part, subject) for part in condition.parts)
    if isinstance(condition, Related | Negated):
        return _names(condition.condition, subject)
    if isinstance(condition, Words):
        return _is_told_within(condition.text, subject.id)
    if condition.value is None or condition.field in _CHOICES:
        return False
    if _IDENTITY.search(condition.field) and str(condition.value) == subject.id:
        return True
    return isinstance(condition.value, str) and _is_told_within(condition.value, subject.id)


def _is_told_within(text: str, name: str) -> bool:
    return len(name) >= MIN_NAME and _holds(text, name)


def _holds(text: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE) is not None


def clear_logs(home: Home, subject: Subject) -> PlaceReport:
    """Write over the name wherever a log names it; longer names that contain it stay."""
    if len(subject.id) < MIN_NAME:
        return PlaceReport(place="logs", note="the name is too short to be looked for")
    name = subject.id.encode("utf-8", "replace")
    files = [path for path in home.logs.rglob("*") if path.is_file()] if home.logs.exists() else []
    return PlaceReport(place="logs", removed={"names": sum(write_over(path, name) for path in files)})


def write_over(path: Path, name: bytes) -> int:
    """Put as many `x` in the place of each `name`; whoever appends to the file meanwhile is not disturbed."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        if not os.fstat(descriptor).st_size:
            return 0
        with mmap.mmap(descriptor, 0) as data:
            found = re.finditer(rb"(?<![0-9A-Za-z_])" + re.escape(name) + rb"(?![0-9A-Za-z_])", data)
            starts = [match.start() for match in found]
            for at in starts:
                data[at : at + len(name)] = b"x" * len(name)
        return len(starts)
    finally:
        os.close(descriptor)


def list_beyond(engine: Engine, forwards: Callable[[], Mapping[str, str]], *, is_shared: bool) -> list[str]:
    """Return where copies may be that cannot be erased from here. `forwards`: name → address."""
    told: list[Any] = ["backups and other copies of this home that were made before"]
    told += [f"spans that were sent on to {name} ({url})" for name, url in sorted(forwards().items())]
    told += [
        "providers that the calls were sent to, as their terms say",
        "programs that keep spans which they could not send yet; those are kept out when they come",
        "files left at /v1/files, which belong to keys and not to users",
        "datasets: versions that hold rows of theirs are named above, files that were exported from them are not known",
    ]
    if is_shared:
        told.append("replies in Redis until they expire")
    if engine.dialect.name != "sqlite":
        told.append("logs and replicas of the control database, and rows of it until they are vacuumed")
    return told
