"""The form of a dashboard: texts as people leave them, steps that add, move and take away panels, and the way to what is kept.

Nothing is lost between two steps, whatever is wrong with it: fields stay texts until they are kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import get_args

from penstock.base.errors import InvalidInput
from penstock.spec.measures import DIMENSIONS, MEASURES, Subject
from penstock.traces.measures.dashboards import MAX_PANELS, read_dashboard
from penstock.traces.measures.types import ChartKind, Dashboard, Panel

CHARTS = get_args(ChartKind)
SUBJECTS: tuple[tuple[Subject, str], ...] = (
    ("trace", "traces: what came in"),
    ("call", "model calls"),
    ("span", "all spans"),
)
WINDOWS: tuple[tuple[int, str], ...] = (
    (3600, "an hour"),
    (86_400, "a day"),
    (7 * 86_400, "a week"),
    (30 * 86_400, "30 days"),
)


@dataclass(frozen=True, kw_only=True)
class PanelDraft:
    """One panel as texts."""

    title: str = ""
    chart: str = "line"
    measures: str = ""
    by: str = ""
    subject: str = "call"
    where: str = ""
    limit: str = "8"
    width: str = "1"
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class DashboardDraft:
    """A dashboard as texts."""

    name: str = ""
    title: str = ""
    text: str = ""
    where: str = ""
    window_s: str = "86400"
    version: int = 0
    """That was read; 0 for what is not kept yet."""
    panels: tuple[PanelDraft, ...] = field(default_factory=tuple)


def draft_of(dashboard: Dashboard, *, is_copy: bool = False) -> DashboardDraft:
    """Return a dashboard as texts; a copy has no name yet."""
    return DashboardDraft(
        name="" if is_copy else dashboard.name,
        title=f"{dashboard.title}, mine" if is_copy else dashboard.title,
        text=dashboard.text,
        where=dashboard.where,
        window_s=str(dashboard.window_s),
        version=0 if is_copy else dashboard.version,
        panels=tuple(draft_panel(panel) for panel in dashboard.panels),
    )


def draft_panel(panel: Panel) -> PanelDraft:
    """Return a panel as texts."""
    return PanelDraft(
        title=panel.title,
        chart=panel.chart,
        measures=", ".join(panel.measures),
        by=", ".join(panel.by),
        subject=panel.subject,
        where=panel.where,
        limit=str(panel.limit),
        width=str(panel.width),
        text=panel.text,
    )


def read_draft(form: Mapping[str, str]) -> DashboardDraft:
    """Return what a form holds; panels are numbered from 0 without a gap."""
    panels: list[PanelDraft] = []
    while f"panel-{len(panels)}-title" in form and len(panels) <= MAX_PANELS:
        stem = f"panel-{len(panels)}-"
        names = PanelDraft.__dataclass_fields__
        panels.append(PanelDraft(**{name: form.get(stem + name, "").strip() for name in names}))
    version = form.get("version", "0")
    return DashboardDraft(
        name=form.get("name", "").strip(),
        title=form.get("title", "").strip(),
        text=form.get("text", "").strip(),
        where=form.get("where", "").strip(),
        window_s=form.get("window_s", "86400"),
        version=int(version) if version.isascii() and version.isdigit() and len(version) < 10 else 0,
        panels=tuple(panels),
    )


def take_step(draft: DashboardDraft, step: str) -> DashboardDraft:
    """Return the draft after `add`, `remove-N`, `up-N` or `down-N`; any other step changes nothing."""
    verb, _, number = step.partition("-")
    panels = list(draft.panels)
    if verb == "add":
        panels.append(PanelDraft())
        return replace(draft, panels=tuple(panels))
    at = int(number) if number.isascii() and number.isdigit() and len(number) < 4 else -1
    if not 0 <= at < len(panels):
        return draft
    if verb == "remove":
        del panels[at]
    elif verb in {"up", "down"}:
        to = at - 1 if verb == "up" else at + 1
        if 0 <= to < len(panels):
            panels[at], panels[to] = panels[to], panels[at]
    return replace(draft, panels=tuple(panels))


def to_dashboard(draft: DashboardDraft) -> Dashboard:
    """Return what the draft says; raise `InvalidInput` that names what cannot be read."""
    panels = [_to_panel(panel) for panel in draft.panels]
    content = {
        "title": draft.title,
        "text": draft.text,
        "where": draft.where,
        "window_s": _number(draft.window_s, "window"),
        "panels": panels,
    }
    return read_dashboard(draft.name, content)


def suggest_measures() -> tuple[tuple[str, str], ...]:
    """Return the measures that can be named, with what they are."""
    return tuple((measure.name, measure.title) for measure in MEASURES.values())


def suggest_dimensions() -> tuple[str, ...]:
    """Return the dimensions that can be named."""
    return DIMENSIONS


def _to_panel(draft: PanelDraft) -> dict[str, object]:
    return {
        "title": draft.title,
        "chart": draft.chart,
        "measures": _names(draft.measures),
        "by": _names(draft.by),
        "subject": draft.subject,
        "where": draft.where,
        "limit": _number(draft.limit or "8", f"{draft.title or 'panel'}: limit"),
        "width": _number(draft.width or "1", f"{draft.title or 'panel'}: width"),
        "text": draft.text,
    }


def _names(text: str) -> list[str]:
    return [name for name in (part.strip() for part in text.split(",")) if name]


def _number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise InvalidInput(f"{name.capitalize()} must be a whole number, not {text[:40]!r}.")
    return int(text)
