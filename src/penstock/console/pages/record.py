"""Health of the record: what was taken, and everything that was left out, cut, masked, lost or not understood."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.base.clock import now_ns
from penstock.console.formats import format_ago, format_bytes, format_count
from penstock.console.links import link
from penstock.console.pages.overview import Figure
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.telemetry.counters import Group, RecordHealth
from penstock.traces.upkeep.retention import Ages
from penstock.traces.upkeep.service import UpkeepReport

ACTIVE = "/configuration"
"""It stands among the settings."""
MAX_NAMES = 40
GROUPS: tuple[tuple[Group, str, str], ...] = (
    ("dropped", "Lost", "What had been acknowledged and could not be kept. Each of these is a loss."),
    (
        "refused",
        "Refused",
        "Whole requests that were not taken; their sender was told, and when to come again.",
    ),
    (
        "rejected",
        "Left out",
        "Single spans and records of requests that were taken; their sender was told which.",
    ),
    (
        "erased",
        "Kept out",
        "Late spans of what had been erased: kept out on purpose, as the erasure promised. No loss.",
    ),
    ("cut", "Cut", "Kept only in part, with a mark on the span."),
    ("masked", "Masked", "Places that a rule made unreadable before anything was written."),
    ("withheld", "Withheld", "Payloads of projects that keep no content; their spans are there."),
    ("logs", "Log events", "What became of log records that belong to spans."),
    ("taken", "Taken", "Spans and log records that were acknowledged, by the way they came."),
    (
        "unmapped",
        "Not understood",
        (
            "Attribute names that the mapping table does not know. They are kept on their spans as they came; a newer table is run"
            " over history with penstock traces remap."
        ),
    ),
)


@dataclass(frozen=True, kw_only=True)
class CountLine:
    """One name of a group."""

    name: str
    n: int
    pct: float
    href: str | None
    """Spans that it is about, where a search finds them."""


@dataclass(frozen=True, kw_only=True)
class GroupCard:
    """One group of counters."""

    title: str
    text: str
    total: int
    lines: tuple[CountLine, ...]
    n_more: int
    is_bad: bool
    is_open: bool


@dataclass(frozen=True, kw_only=True)
class RecordPage(Page):
    """Everything that is counted about the record."""

    template: ClassVar[str] = "record.html"
    health: RecordHealth
    figures: tuple[Figure, ...]
    problems: tuple[tuple[str, str], ...]
    groups: tuple[GroupCard, ...]
    quiet: tuple[str, ...]
    """Groups in which nothing was counted."""
    storing: tuple[tuple[str, str], ...]
    upkeep: tuple[tuple[str, str], ...]


def build_figures(health: RecordHealth) -> tuple[Figure, ...]:
    """Return the strip of figures: what came in, what did not, and what waits."""
    total = {group: sum(health.counts.get(group, {}).values()) for group, _, _ in GROUPS}
    lost = total["dropped"] + health.spool_dropped_records
    turned_away = total["refused"] + total["rejected"]
    waiting = health.collector.waiting_bytes
    return (
        Figure(name="Taken", value=format_count(total["taken"]), detail="acknowledged, on disk"),
        Figure(
            name="Lost",
            value=format_count(lost),
            detail="acknowledged and not kept" if lost else "nothing that was acknowledged",
            is_bad=bool(lost),
        ),
        Figure(
            name="Turned away",
            value=format_count(turned_away),
            detail=f"{format_count(total['refused'])} requests, {format_count(total['rejected'])} spans or records",
        ),
        Figure(
            name="Cut or withheld",
            value=format_count(total["cut"] + total["withheld"] + health.spool_dropped_payloads),
            detail=f"{format_count(total['masked'])} places masked",
        ),
        Figure(
            name="Waiting to be stored",
            value=format_bytes(waiting),
            detail=f"{format_count(health.collector.waiting_logs)} log events wait for their span",
        ),
    )


def build_groups(counts: Mapping[Group, Mapping[str, int]]) -> tuple[GroupCard, ...]:
    """Return the groups in which something was counted, losses first."""
    cards = []
    for group, title, text in GROUPS:
        found = sorted(counts.get(group, {}).items(), key=lambda item: (-item[1], item[0]))
        if not found:
            continue
        most = found[0][1] or 1
        cards.append(
            GroupCard(
                title=title,
                text=text,
                total=sum(n for _, n in found),
                lines=tuple(
                    CountLine(name=name, n=n, pct=round(100 * n / most, 1), href=_find_spans(group, name))
                    for name, n in found[:MAX_NAMES]
                ),
                n_more=max(0, len(found) - MAX_NAMES),
                is_bad=group == "dropped",
                is_open=group in {"dropped", "refused", "rejected"},
            )
        )
    return tuple(cards)


def find_problems(health: RecordHealth) -> tuple[tuple[str, str], ...]:
    """Return what somebody should look at now, each with the part it is about."""
    told: list[tuple[str, str | None]] = [
        ("Storing", health.collector.last_error),
        ("OTLP over gRPC", health.grpc_problem),
        *((f"Sending on to {each.name}", each.last_error) for each in health.forwards),
    ]
    return tuple((part, text) for part, text in told if text)


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/record`."""
    router = APIRouter(include_in_schema=False)

    @router.get("/record")
    @needs(Permission.TRACES_READ, Permission.METRICS_READ)
    def show_record(request: Request) -> Response:
        health = services.record_health()
        groups = build_groups(health.counts)
        page = RecordPage(
            frame=renderer.frame(request, "Health of the record", ACTIVE),
            health=health,
            figures=build_figures(health),
            problems=find_problems(health),
            groups=groups,
            quiet=tuple(title for _, title, _ in GROUPS if title not in {card.title for card in groups}),
            storing=_say_storing(health),
            upkeep=say_upkeep(services.upkeep.report(), now_ns()),
        )
        return renderer.show(page)

    return router


def say_upkeep(report: UpkeepReport, now: int) -> tuple[tuple[str, str], ...]:
    """Return how long what is kept, what went last, and what was erased."""
    state, last = report.retention, report.retention.last
    told = [
        ("span store", format_bytes(report.store_bytes)),
        ("kept", _say_ages(report.policy.usual)),
        *((f"kept of {name}", _say_ages(ages)) for name, ages in sorted(report.policy.projects.items())),
    ]
    if last is not None:
        gone = f"{format_count(last.n_spans)} spans, {format_count(last.n_payloads)} payloads"
        stopped = "" if last.is_done else ", stopped before the end"
        told.append(("last look at ages", f"{format_ago(last.finished_ns, now)}: {gone} went{stopped}"))
        if last.error:
            told.append(("it failed", last.error))
    if state.n_runs:
        told.append(
            (
                "gone since the start",
                f"{format_count(state.n_spans)} spans, {format_count(state.n_payloads)} payloads",
            )
        )
    told.append(("erasures under way", format_count(report.n_waiting_erasures)))
    told.append(("late spans of erased subjects", f"{format_count(report.n_late_dropped)} kept out"))
    return tuple(told)


def _say_ages(ages: Ages) -> str:
    if not ages.payload_days and not ages.span_days:
        return "everything, for good"
    payloads = (
        f"payloads {ages.payload_days} days" if ages.payload_days else "payloads as long as their spans"
    )
    return f"{payloads}, spans {f'{ages.span_days} days' if ages.span_days else 'for good'}"


def _say_storing(health: RecordHealth) -> tuple[tuple[str, str], ...]:
    store = health.collector
    return (
        ("stored since the start", format_count(store.n_stored)),
        ("writers read", format_count(store.n_folders)),
        ("records that could not be read", format_count(store.n_undecodable)),
        ("damaged bytes stepped over", format_bytes(store.n_skipped_bytes)),
        ("payloads not kept for want of disk", format_count(health.spool_dropped_payloads)),
        ("mapping table", f"version {health.mapping_version}" if health.mapping_version else "–"),
        ("OTLP over HTTP", "/v1/traces, /v1/logs and /v1/metrics on this port"),
        ("OTLP over gRPC", health.grpc_address or "off"),
    )


def _find_spans(group: Group, name: str) -> str | None:
    """Return the list of the spans that a count is about, where their attributes say so."""
    if group == "unmapped" and '"' not in name and name.isprintable():
        return link("/traces", {"view": "spans", "range": "30d", "q": f'has:attr."{name}"'})
    if group == "withheld":
        return link("/traces", {"view": "spans", "range": "30d", "q": f'dropped:yes project:"{name}"'})
    return None
