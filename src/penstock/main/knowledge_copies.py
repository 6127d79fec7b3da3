"""Copies of erased documents beside the knowledge bases: traces, kept replies, logs, datasets, what waits to be sent."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from penstock.base.errors import PenstockError
from penstock.datasets.service import DatasetService
from penstock.deploy.kept_replies import ResponseCacheService
from penstock.knowledge.erasure.types import Gone, PlaceDone, Target
from penstock.main.copies import clear_copies
from penstock.main.erasure_copies import MAX_NAMED
from penstock.main.erasure_places import clear_cache, clear_forwards, clear_spool, write_over
from penstock.spec.home import Home
from penstock.spec.spans import Span
from penstock.store.response_cache import KeptReply
from penstock.store.spans.port import SpanUpkeep, SubjectReader
from penstock.store.spans.text_erasure import DuckDBTextErasure, write_forms
from penstock.store.spans.upkeep_types import Subject
from penstock.traces.collector import Collector
from penstock.traces.upkeep.sweep import MIN_NAME
from penstock.traces.upkeep.types import Doomed, PlaceReport

ROUNDS = 3
"""Spans of calls that were under way come in while others are blanked."""
_NO_TRACE = Subject(kind="trace", id="0" * 32)
_STRING = re.compile(
    rb'"(?:content|text|delta|output_text|partial_json|arguments|reasoning_content)"\s*:\s*"((?:[^"\\]|\\.)*)"'
)


@dataclass(frozen=True, kw_only=True)
class CopyParts:
    """Where copies lie."""

    home: Home
    collector: Collector
    upkeep: SpanUpkeep
    reader: SubjectReader
    texts: DuckDBTextErasure
    cache: ResponseCacheService
    datasets: DatasetService
    clear_evaluations: Callable[[Doomed], PlaceReport]
    clear_labels: Callable[[Doomed], PlaceReport]
    find_apps: Callable[[Sequence[str]], Sequence[str]]
    """Returns the routes that answer from these bases."""


class Copies:
    """Clears them, one place after the other. Doing it twice changes nothing."""

    def __init__(self, parts: CopyParts) -> None:
        self._parts = parts

    def clear_traces(self, target: Target, gone: Gone) -> PlaceDone:
        """Blank what was asked and answered in every trace in which a passage, or a text of it, stands."""
        texts = _texts(target, gone)
        counts = {
            "traces": 0,
            "payloads": 0,
            "raw attributes": 0,
            "records waiting": 0,
            "answers": 0,
            "labels": 0,
        }
        n_replies = 0
        for _ in range(ROUNDS):
            self._parts.collector.run_once()
            found = self._parts.texts.find(texts)
            doomed = self._doom(found, texts)
            counts["records waiting"] += self._clear_waiting(doomed)
            if not found:
                break
            n_replies += clear_cache(self._parts.cache, doomed).removed.get("replies", 0)
            counts["answers"] += self._parts.clear_evaluations(doomed).removed["answers"]
            counts["labels"] += self._parts.clear_labels(doomed).removed["outputs"]
            blanked = self._parts.texts.blank(found, texts)
            counts["traces"] += blanked.n_traces
            counts["payloads"] += blanked.n_payloads
            counts["raw attributes"] += blanked.n_attributes
        if texts:
            self._parts.upkeep.compact()
        self._clear_waiting(self._doom([], texts))
        left = self._parts.texts.find(texts)
        note = "what was asked and answered in them is gone, whole; spans, times and costs stay; the store was written anew"
        if left:
            note += f"; {len(left)} traces came in meanwhile and still hold something: erase once more"
        return PlaceDone(place="traces", removed={**counts, "replies kept during them": n_replies}, note=note)

    def clear_replies(self, target: Target, gone: Gone) -> PlaceDone:
        """Remove kept replies that hold a text, and all of apps that answer from the bases: they may say it otherwise."""
        texts = _texts(target, gone)
        forms = [form.encode() for text in texts for form in write_forms(text)]
        routes = frozenset(self._parts.find_apps(gone.bases))
        n = self._parts.cache.remove_where(lambda reply: reply.route in routes or _holds_any(reply, forms))
        note = f"all of {', '.join(sorted(routes))}, and those that hold a text" if routes else None
        if self._parts.cache.is_shared:
            for route in sorted(routes):
                self._parts.cache.purge(route=route)
            note = (note or "") + "; those in Redis are not given any more, and go when they expire"
        return PlaceDone(place="response cache", removed={"replies": n}, note=note)

    def clear_logs(self, target: Target, gone: Gone) -> PlaceDone:
        """Write over ids, texts and paths in the logs."""
        names = [form for text in _texts(target, gone) if len(text) >= MIN_NAME for form in write_forms(text)]
        logs = self._parts.home.logs
        files = [path for path in logs.rglob("*") if path.is_file()] if logs.exists() else []
        n = sum(write_over(path, name.encode("utf-8", "replace")) for path in files for name in names)
        return PlaceDone(place="logs", removed={"names": n})

    def find_in_datasets(self, target: Target, gone: Gone) -> PlaceDone:
        """Name the versions of datasets in whose rows a text, a passage or a path stands; nothing is removed."""
        forms = [form for text in _texts(target, gone) for form in write_forms(text)]
        found: list[str] = []
        for dataset in self._parts.datasets.list_datasets() if forms else ():
            for version in self._parts.datasets.list_versions(dataset.name):
                n = _count_rows(self._parts.datasets, version.ref, forms)
                if n is None:
                    found.append(f"{version.ref} cannot be read")
                elif n:
                    found.append(f"{version.ref} holds it in {n} {'row' if n == 1 else 'rows'}")
        if not found:
            return PlaceDone(place="datasets", removed={"rows": 0})
        more = f" and {len(found) - MAX_NAMED} more" if len(found) > MAX_NAMED else ""
        note = f"not removed, versions are immutable: {'; '.join(found[:MAX_NAMED])}{more}"
        return PlaceDone(place="datasets", removed={"rows": 0}, note=note)

    def clear_unfinished(self, target: Target, gone: Gone) -> PlaceDone:
        """Remove copies that backups and exports which were killed have left."""
        del target, gone
        return PlaceDone(place="unfinished backups", removed={"copies": clear_copies(self._parts.home)})

    def _doom(self, trace_ids: Sequence[str], texts: Sequence[str]) -> Doomed:
        ids = frozenset(trace_ids)
        forms = [form.encode() for text in texts for form in write_forms(text)]

        def covers(span: Span) -> bool:
            return span.trace_id in ids or _holds_forms(msgspec.json.encode(span), forms)

        return Doomed(
            subject=_NO_TRACE,
            trace_ids=list(trace_ids),
            calls=self._parts.reader.find_calls(trace_ids) if trace_ids else [],
            covers=covers,
        )

    def _clear_waiting(self, doomed: Doomed) -> int:
        spool = clear_spool(self._parts.home, self._parts.collector, doomed)
        forward = clear_forwards(self._parts.home, doomed)
        return sum(spool.removed.values()) + sum(forward.removed.values())


def _texts(target: Target, gone: Gone) -> list[str]:
    """Return what copies are looked for by."""
    return [*gone.needles(), *([target.value] if target.kind == "text" else [])]


def _holds_forms(data: bytes, forms: Sequence[bytes]) -> bool:
    return any(form in data for form in forms)


def _holds_any(reply: KeptReply, forms: Sequence[bytes]) -> bool:
    """Return whether one stands in a reply; the pieces of a stream are put together first."""
    if _holds_forms(reply.body, forms):
        return True
    return reply.is_stream and _holds_forms(b"".join(_STRING.findall(reply.body)), forms)


def _count_rows(datasets: DatasetService, ref: str, forms: Sequence[str]) -> int | None:
    try:
        return sum(
            any(form in text for form in forms)
            for text in (msgspec.json.encode(row).decode() for row in datasets.read(ref))
        )
    except PenstockError:
        return None


def list_beyond(
    told: Sequence[str], gone: Gone | None, *, has_servers: bool, sources: Mapping[str, Sequence[str]]
) -> list[str]:
    """Return where copies may be that cannot be erased from here; `told` is so for everything that is erased."""
    beyond = [each for each in told if not each.startswith(("datasets:", "programs"))]
    for base in gone.bases if gone is not None else ():
        names = ", ".join(sources.get(base, ())) or "their sources"
        beyond.append(
            f"the documents themselves where knowledge:{base} reads them ({names}); they are kept out from now on"
        )
    beyond += [
        "programs that keep spans which they could not send yet: what those say of it comes in, and is erased once more",
        "documents in other words, such as answers that people copied, and what a model learned from them",
        "memory of processes that have an older index open, until their next search or restart",
    ]
    if has_servers:
        beyond.append("logs, snapshots and freed space of the vector server, until it cleans up itself")
    return beyond
