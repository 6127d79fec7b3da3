"""Turns one frozen dataclass into one page. The template gets `page`, and nothing else.

The frame (navigation, theme, form token) is part of that dataclass, so a page can be tested as data.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import ClassVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import HTMLResponse, StreamingResponse

from penstock.access.declarations import Caller
from penstock.base.clock import iso_from_ns
from penstock.base.clock import now_ns as wall_clock
from penstock.base.digest import short_digest
from penstock.console import formats
from penstock.console.cards import parse_inline

THEMES = ("auto", "light", "dark")
THEME_COOKIE = "penstock_theme"
PIECE_CHARS = 600
"""What is sent at once of a page that comes in pieces; a panel is longer."""


@dataclass(frozen=True, kw_only=True)
class NavItem:
    """One entry of the navigation."""

    label: str
    href: str


NAVIGATION: tuple[tuple[str, tuple[NavItem, ...]], ...] = (
    (
        "Observe",
        (
            NavItem(label="Overview", href="/"),
            NavItem(label="Traces", href="/traces"),
            NavItem(label="Sessions", href="/sessions"),
            NavItem(label="Dashboards", href="/dashboards"),
            NavItem(label="Alerts", href="/alerts"),
        ),
    ),
    (
        "Improve",
        (
            NavItem(label="Playground", href="/playground"),
            NavItem(label="Prompts", href="/prompts"),
            NavItem(label="Datasets", href="/datasets"),
            NavItem(label="Evaluations", href="/evaluations"),
            NavItem(label="Experiments", href="/experiments"),
            NavItem(label="Gates", href="/gates"),
            NavItem(label="Judges", href="/judges"),
        ),
    ),
    ("Ground", (NavItem(label="Knowledge", href="/knowledge"), NavItem(label="Apps", href="/apps"))),
    (
        "Adapt",
        (
            NavItem(label="Tuning runs", href="/tuning"),
            NavItem(label="Models", href="/models"),
            NavItem(label="All assets", href="/assets"),
        ),
    ),
    (
        "Ship",
        (
            NavItem(label="Routes", href="/routes"),
            NavItem(label="Deployments", href="/deployments"),
            NavItem(label="Load tests", href="/load-tests"),
            NavItem(label="Providers", href="/providers"),
            NavItem(label="Jobs", href="/jobs"),
        ),
    ),
    (
        "Govern",
        (
            NavItem(label="Cost", href="/cost"),
            NavItem(label="Keys & access", href="/keys"),
            NavItem(label="Limits", href="/limits"),
            NavItem(label="Settings", href="/configuration"),
        ),
    ),
)


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What surrounds every page."""

    title: str
    active: str
    """`href` of the navigation entry this page belongs to."""
    theme: str
    path: str
    csrf_token: str | None
    key_name: str | None
    version: str
    home_option: str = ""
    """What a command on the page needs to name this home."""
    notice: str | None = None
    """One line about what just happened."""

    @property
    def navigation(self) -> tuple[tuple[str, tuple[NavItem, ...]], ...]:
        """All groups; empty for somebody who is not signed in."""
        return NAVIGATION if self.key_name else ()

    @property
    def next_theme(self) -> str:
        """What the theme button changes to."""
        return THEMES[(THEMES.index(self.theme) + 1) % len(THEMES)]


@dataclass(frozen=True, kw_only=True)
class Page:
    """Base of every page's dataclass."""

    template: ClassVar[str]
    frame: Frame


@dataclass(frozen=True, kw_only=True)
class UnavailablePage(Page):
    """A list of what this process does not do."""

    template: ClassVar[str] = "unavailable.html"
    reason: str


class Renderer:
    """Renders pages; one an application."""

    def __init__(self, *, version: str, home_option: str = "", clock: Callable[[], int] = wall_clock) -> None:
        self._version = version
        self._home_option = home_option
        self._clock = clock
        self._environment = Environment(
            loader=PackageLoader("penstock.console", "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(
            count=formats.format_count,
            ms=formats.format_ms,
            money=formats.format_money,
            size=formats.format_bytes,
            exact=formats.format_exact,
            inline=parse_inline,
            pretty=formats.format_json,
            short=formats.short_id,
            doing=lambda job: formats.name_job(job.kind, job.spec),
            ago=self._time_element,
            until=self._until_element,
        )
        self._environment.globals["asset_url"] = asset_url

    def frame(self, request: Request, title: str, active: str, *, notice: str | None = None) -> Frame:
        """Return the frame of a page for whoever asked."""
        caller: Caller = getattr(request.state, "caller", Caller())
        theme = request.cookies.get(THEME_COOKIE, "auto")
        query = f"?{request.url.query}" if request.url.query else ""
        return Frame(
            title=title,
            active=active,
            theme=theme if theme in THEMES else "auto",
            path=request.url.path + query,
            csrf_token=caller.csrf_token,
            key_name=caller.key.name if caller.key else None,
            version=self._version,
            home_option=self._home_option,
            notice=notice,
        )

    def show(self, page: Page, *, status: int = 200) -> HTMLResponse:
        """Return the page as HTML."""
        return HTMLResponse(self.render(page), status_code=status)

    def stream(self, page: Page) -> StreamingResponse:
        """Return the page as HTML that is sent as it becomes known: for pages with parts that take their time."""
        return StreamingResponse(self._pieces(page), media_type="text/html; charset=utf-8")

    def _pieces(self, page: Page) -> Iterator[str]:
        waiting: list[str] = []
        size = 0
        for piece in self._environment.get_template(page.template).generate(page=page):
            waiting.append(piece)
            size += len(piece)
            if size >= PIECE_CHARS:
                yield "".join(waiting)
                waiting, size = [], 0
        yield "".join(waiting)

    def render(self, page: Page) -> str:
        """Return the page's HTML text."""
        return self._environment.get_template(page.template).render(page=page)

    def _until_element(self, stamp_ns: int | None) -> Markup:
        if stamp_ns is None:
            return escape(formats.DASH)
        return Markup('<time datetime="{}" title="{}">{}</time>').format(
            iso_from_ns(stamp_ns),
            formats.format_exact(stamp_ns),
            formats.format_until(stamp_ns, self._clock()),
        )

    def _time_element(self, stamp_ns: int | None) -> Markup:
        if stamp_ns is None:
            return escape(formats.DASH)
        template = Markup('<time datetime="{}" title="{}">{}</time>')
        return template.format(
            iso_from_ns(stamp_ns),
            formats.format_exact(stamp_ns),
            formats.format_ago(stamp_ns, self._clock()),
        )


@cache
def load_static() -> dict[str, bytes]:
    """Return the console's static files by name, as they were when first asked for.

    What is sent and what `static_version` names are the same bytes, also while an upgrade replaces the files below
    a process that runs: else browsers would keep the old ones under the new name.
    """
    folder = files("penstock.console") / "static"
    return {each.name: each.read_bytes() for each in folder.iterdir() if each.is_file()}


@cache
def static_version() -> str:
    """Return a short digest of all static files: a folder name under which they never change."""
    found = hashlib.sha256()
    for name, body in sorted(load_static().items()):
        found.update(f"{name} {len(body)} ".encode() + body)
    return short_digest(found.hexdigest())


def asset_url(name: str) -> str:
    """Return the URL of a static file, which changes whenever one of them does.

    The version is a folder, not a query: what a module imports by `./` has it too, and is kept by browsers as well.
    """
    return f"/static/{static_version()}/{name}"
