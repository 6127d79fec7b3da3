"""Reports of what a base lacks: questions that were not answered, documents that may be out of date, documents nobody finds."""

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import Engine

from penstock.base.clock import now_ns as wall_clock
from penstock.base.errors import PenstockError
from penstock.knowledge.quality import queries
from penstock.knowledge.quality.clusters import MAX_CLUSTERED, cluster_vectors, cluster_words
from penstock.knowledge.quality.errors import NoTraffic
from penstock.knowledge.quality.finding import GenerationFinder
from penstock.knowledge.quality.ports import QuestionVectors, RecordedQuestions, Searching
from penstock.knowledge.quality.report_types import (
    Asked,
    QuestionCluster,
    StaleDocument,
    StaleReason,
    StaleReport,
    UnansweredReason,
    UnansweredReport,
    UnusedDocument,
    UnusedReport,
)
from penstock.knowledge.retrieval.conditions import read_period
from penstock.spec.knowledge import Properties

MAX_READ = 5_000
"""Questions that a report reads, the newest: it is made while somebody waits."""
MAX_CLUSTERS = 200
MAX_EXAMPLES = 5
MAX_LISTED = 1000
FEW_RETRIEVALS = 100
DAY_NS = 86_400 * 10**9
_EXPIRES = ("expires", "valid_until", "expires_at")
_SUPERSEDED = ("superseded_by", "replaced_by")
_ORDER: tuple[StaleReason, ...] = ("gone", "expired", "superseded", "error", "source_changed", "old")


@dataclass(kw_only=True)
class _Use:
    """How documents were used."""

    n_retrievals: int = 0
    retrieved: Counter[str] = field(default_factory=Counter)
    cited: Counter[str] = field(default_factory=Counter)
    last_retrieved: dict[str, int] = field(default_factory=dict)
    last_cited: dict[str, int] = field(default_factory=dict)


class ReportService:
    """Reports over one home. May be called from any thread."""

    def __init__(
        self,
        engine: Engine,
        searching: Searching,
        recorded: RecordedQuestions | None = None,
        vectors: QuestionVectors | None = None,
        *,
        clock: Callable[[], int] = wall_clock,
    ) -> None:
        self._engine = engine
        self._finder = GenerationFinder(engine, searching)
        self._recorded = recorded
        self._vectors = vectors
        self._clock = clock

    def unanswered(
        self, base: str, *, days: float = 30.0, low_score: float | None = None, limit: int = 50
    ) -> UnansweredReport:
        """Return what people asked in the last days and did not get, questions that ask the same put together.

        `low_score` also counts questions whose best passage has a lower cosine than this. Raises `NoTraffic`, `UnknownKnowledge`.
        """
        recorded = self._needed()
        self._finder.find(base)
        until = self._clock()
        since = until - round(days * DAY_NS)
        n_asked = 0
        missed: list[tuple[Asked, list[UnansweredReason]]] = []
        for each in recorded.read(base, since_ns=since, limit=MAX_READ):
            n_asked += 1
            reasons = why_unanswered(each, low_score)
            if reasons:
                missed.append((each, reasons))
        counts = Counter(reason for _, reasons in missed for reason in reasons)
        taken = missed[:MAX_CLUSTERED]
        groups, by, note = self._cluster(base, [each.question for each, _ in taken])
        clusters = [_make_cluster([taken[at] for at in group]) for group in groups]
        clusters.sort(key=lambda cluster: (-cluster.n, -cluster.last_ns))
        if len(missed) > len(taken):
            told = f"only the newest {MAX_CLUSTERED:,} of {len(missed):,} are put together"
            note = _and(note, told)
        note = _and(note, _bound_of(n_asked))
        return UnansweredReport(
            base=base,
            since_ns=since,
            until_ns=until,
            n_asked=n_asked,
            n_unanswered=len(missed),
            reasons=dict(counts.most_common()),
            clusters=clusters[: min(limit, MAX_CLUSTERS)],
            by="vectors" if by else "words",
            low_score=low_score,
            note=note,
        )

    def count_unanswered(self, base: str, *, days: float = 30.0) -> tuple[int, int]:
        """Return how many questions were asked in the last days, and how many were not answered. Raises `NoTraffic`."""
        n_asked = n_missed = 0
        for each in self._needed().read(base, since_ns=self._clock() - round(days * DAY_NS), limit=MAX_READ):
            n_asked += 1
            n_missed += bool(why_unanswered(each))
        return n_asked, n_missed

    def uses(self, base: str, path: str, *, days: float = 30.0, limit: int = 20) -> list[Asked]:
        """Return the newest questions of the last days that found a document, those whose answers cite it first.

        Raises `NoTraffic`.
        """
        since = self._clock() - round(days * DAY_NS)
        read = self._needed().read(base, since_ns=since, limit=MAX_READ)
        found = [each for each in read if path in each.documents or path in each.cited]
        return sorted(found, key=lambda each: (path not in each.cited, -each.time_ns))[:limit]

    def stale(
        self, base: str, *, days: float = 30.0, max_age_days: float | None = None, limit: int = 200
    ) -> StaleReport:
        """Return documents of the live generation that may be out of date, those that answers cite first.

        A document is out of date when its own date has passed (properties `expires`, `valid_until`, `ttl_days`), its source
        changed since, it is gone or unreadable there, it names what replaces it (`superseded_by`), or (with `max_age_days`) is
        older than that. How often it was retrieved and cited in the last `days` is told where traffic is at hand.
        """
        found = self._finder.find(base)
        now = self._clock()
        with self._engine.connect() as connection:
            documents = queries.list_generation_documents(connection, found.generation)
            items = queries.list_items(connection, base)
        by_path = {f"{(row.settings or {}).get('prefix') or ''}{row.path}": row for row in items}
        use = None if self._recorded is None else self._use(base, now - round(days * DAY_NS))
        rows = []
        for document in documents:
            told = find_stale(document, by_path.get(document.path), now, max_age_days)
            if told is not None:
                rows.append(_with_use(told, use))
        rows.sort(
            key=lambda row: (-(row.n_cited or 0), -(row.n_retrieved or 0), _ORDER.index(row.reason), row.path)
        )
        return StaleReport(
            base=base,
            generation=found.generation,
            made_ns=now,
            n_documents=len(documents),
            rows=rows[: min(limit, MAX_LISTED)],
            n_cited=sum(bool(row.n_cited) for row in rows),
            reasons=dict(Counter(row.reason for row in rows).most_common()),
            note=None if use is None else _bound_of(use.n_retrievals),
        )

    def unused(self, base: str, *, days: float = 90.0, limit: int = 200) -> UnusedReport:
        """Return documents of the live generation that no question found in the last days. Raises `NoTraffic`."""
        self._needed()
        found = self._finder.find(base)
        since = self._clock() - round(days * DAY_NS)
        use = self._use(base, since)
        with self._engine.connect() as connection:
            documents = queries.list_generation_documents(connection, found.generation)
        rows = [
            UnusedDocument(
                path=row.path, title=row.title, n_passages=row.n_passages, indexed_ns=row.created_ns
            )
            for row in documents
            if row.n_passages and not use.retrieved[row.path]
        ]
        rows.sort(key=lambda row: (row.indexed_ns, row.path))
        few = use.n_retrievals < FEW_RETRIEVALS
        return UnusedReport(
            base=base,
            generation=found.generation,
            since_ns=since,
            n_documents=len(documents),
            n_retrievals=use.n_retrievals,
            rows=rows[: min(limit, MAX_LISTED)],
            n_unused=len(rows),
            note=f"only {use.n_retrievals:,} searches are recorded, so being unused says little"
            if few
            else _bound_of(use.n_retrievals),
        )

    def _cluster(self, base: str, texts: Sequence[str]) -> tuple[list[list[int]], bool, str | None]:
        if not texts:
            return [], False, None
        if self._vectors is not None:
            try:
                return cluster_vectors(self._vectors.embed(base, texts)), True, None
            except PenstockError as error:
                return cluster_words(texts), False, f"put together by words alone: {error.message}"
        return cluster_words(texts), False, None

    def _use(self, base: str, since_ns: int) -> _Use:
        use = _Use()
        for each in self._needed().read(base, since_ns=since_ns, limit=MAX_READ):
            use.n_retrievals += 1
            for count, last, documents in (
                (use.retrieved, use.last_retrieved, each.documents),
                (use.cited, use.last_cited, each.cited),
            ):
                for path in set(documents):
                    count[path] += 1
                    last[path] = max(last.get(path, 0), each.time_ns)
        return use

    def _needed(self) -> RecordedQuestions:
        if self._recorded is None:
            raise NoTraffic("The record of traffic is not at hand.", hint="Start Penstock: penstock up.")
        return self._recorded


def _bound_of(n_read: int) -> str | None:
    """Return what to say where a report read no more questions than it may."""
    return f"only the newest {MAX_READ:,} questions were read" if n_read >= MAX_READ else None


def _and(note: str | None, told: str | None) -> str | None:
    return "; ".join(each for each in (note, told) if each) or None


def why_unanswered(asked: Asked, low_score: float | None = None) -> list[UnansweredReason]:
    """Return why a question counts as not answered; nothing when it was answered."""
    reasons: list[UnansweredReason] = []
    if asked.is_unanswerable:
        reasons.append("error")
    if asked.n_hits == 0:
        reasons.append("nothing_found")
    elif asked.has_abstained:
        reasons.append("abstained")
    if asked.thumbs == "down":
        reasons.append("thumbs_down")
    cosine = asked.top_dense_score
    if low_score is not None and cosine is not None and cosine < low_score and not reasons:
        reasons.append("low_score")
    return reasons


def find_stale(
    document: Any, item: Any, now_ns: int, max_age_days: float | None = None
) -> StaleDocument | None:
    """Return why a document of a generation may be out of date, or None; `item` is what its source holds now."""
    properties = msgspec.convert(document.properties or {}, Properties)
    modified = properties.modified_ns

    def stale(reason: StaleReason, sentence: str, since_ns: int | None) -> StaleDocument:
        return StaleDocument(
            path=document.path,
            title=document.title,
            reason=reason,
            sentence=sentence,
            since_ns=since_ns,
            modified_ns=modified,
            indexed_ns=document.created_ns,
            source=None if item is None else item.source,
        )

    if item is not None and item.state == "gone":
        return stale("gone", "It is gone from its source, and still searched.", item.changed_ns)
    end = _end_of(properties, modified if modified is not None else document.created_ns)
    if end is not None and end <= now_ns:
        return stale("expired", f"Its time passed on {_day(end)}.", end)
    for name in _SUPERSEDED:
        other = properties.values.get(name)
        if other:
            return stale("superseded", f"It says that {other} replaces it.", None)
    if document.error is None and item is not None and item.state == "unreadable":
        why = item.reason or "no reason was kept"
        return stale("error", f"Its source has a newer version that cannot be read: {why}", item.changed_ns)
    if item is not None and item.digest is not None and item.digest != document.digest:
        return stale(
            "source_changed",
            f"Its source changed on {_day(item.changed_ns)} and was not ingested since.",
            item.changed_ns,
        )
    if max_age_days is not None and modified is not None and now_ns - modified > max_age_days * DAY_NS:
        age = (now_ns - modified) / DAY_NS
        return stale("old", f"It was changed last on {_day(modified)}, {age:,.0f} days ago.", modified)
    return None


def _end_of(properties: Properties, from_ns: int) -> int | None:
    for name in _EXPIRES:
        period = read_period(properties.values.get(name))
        if period is not None:
            return period[1]
    ttl = properties.values.get("ttl_days")
    try:
        days = None if ttl is None or isinstance(ttl, bool | list) else float(ttl)
    except ValueError:
        days = None
    return None if days is None or days < 0 else from_ns + round(days * DAY_NS)


def _with_use(row: StaleDocument, use: _Use | None) -> StaleDocument:
    if use is None:
        return row
    return msgspec.structs.replace(
        row,
        n_retrieved=use.retrieved[row.path],
        n_cited=use.cited[row.path],
        last_cited_ns=use.last_cited.get(row.path),
    )


def _make_cluster(members: Sequence[tuple[Asked, Iterable[UnansweredReason]]]) -> QuestionCluster:
    asked = [each for each, _ in members]
    scores: defaultdict[str, float] = defaultdict(float)
    for each in asked:
        for rank, document in enumerate(dict.fromkeys(each.documents), 1):
            scores[document] += 1.0 / rank
    times = [each.time_ns for each in asked]
    distinct = list({" ".join(each.question.split()).casefold(): each for each in reversed(asked)}.values())[
        ::-1
    ]
    return QuestionCluster(
        title=asked[0].question,
        n=len(asked),
        reasons=dict(Counter(reason for _, reasons in members for reason in reasons).most_common()),
        examples=distinct[:MAX_EXAMPLES],
        first_ns=min(times),
        last_ns=max(times),
        candidates=sorted(scores, key=lambda name: (-scores[name], name))[:3],
    )


def _day(time_ns: int) -> str:
    return dt.datetime.fromtimestamp(time_ns / 1e9, tz=dt.UTC).date().isoformat()
