"""Keys and what they may do: made, changed, rotated with an overlap, revoked. A key's text is on one page, once."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar
from urllib.parse import urlencode

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from penstock.access.declarations import actor_of, needs
from penstock.access.keys import check_routes
from penstock.access.permissions import GRANTABLE_SCOPES, Permission
from penstock.access.types import KeyInfo, KeyState
from penstock.base.clock import now_ns
from penstock.base.errors import InvalidInput, PenstockError
from penstock.console.limit_use import RuleUse, list_use, use_of_key
from penstock.console.objects import read_rule
from penstock.console.ranges import HOUR_NS
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.store.spans.ledger_types import CostQuery, CostRow

ACTIVE = "/keys"
OVERLAPS = (("3600", "an hour"), ("86400", "a day"), ("604800", "a week"), ("0", "no time: end it at once"))
_WEEK_NS = 7 * 24 * HOUR_NS
_DAY_NS = 24 * HOUR_NS


@dataclass(frozen=True, kw_only=True)
class KeyLine:
    """One key with its last seven days."""

    key: KeyInfo
    state: KeyState
    billed: CostRow | None


@dataclass(frozen=True, kw_only=True)
class KeysPage(Page):
    """All keys; right after a creation also the new one's text."""

    template: ClassVar[str] = "keys.html"
    lines: tuple[KeyLine, ...]
    new_key: str | None
    new_name: str | None
    old_until_ns: int | None
    """After a rotation: until when the text before works."""
    routes: tuple[str, ...]
    """Names to choose from for a key that may call a few of them only."""
    gateway_url: str
    scopes: tuple[str, ...] = GRANTABLE_SCOPES
    problem: str | None = None
    hint: str | None = None
    fields: tuple[tuple[str, str], ...] = ()

    def said(self, name: str) -> str:
        """Return what was entered in a field before something was wrong."""
        return dict(self.fields).get(name, "")


@dataclass(frozen=True, kw_only=True)
class KeyPage(Page):
    """One key: what it may do, how much it uses, and the forms that change it."""

    template: ClassVar[str] = "key.html"
    line: KeyLine
    routes: tuple[str, ...]
    used: tuple[tuple[str, str, float], ...]
    """Of its own limits in this minute: words, use and limit, percent."""
    rules: tuple[RuleUse, ...]
    """Rules that count this key."""
    expires_on: str
    fields: tuple[tuple[str, str], ...]
    overlaps: tuple[tuple[str, str], ...] = OVERLAPS
    scopes: tuple[str, ...] = GRANTABLE_SCOPES
    problem: str | None = None
    hint: str | None = None

    def said(self, name: str) -> str:
        """Return what a field says."""
        return dict(self.fields).get(name, "")


def read_limit(text: str, what: str) -> int | None:
    """Return the limit, None for an empty field; raise `InvalidInput`."""
    text = text.strip().replace(",", "")
    if not text:
        return None
    if not text.isascii() or not text.isdigit():
        raise InvalidInput(f"{what} must be a whole number.", hint="Leave it empty for no limit.")
    return int(text)


def read_routes(text: str) -> tuple[str, ...] | None:
    """Return the names between commas or spaces, None when there are none: the key may call all."""
    return tuple(text.replace(",", " ").split()) or None


def read_expiry(text: str) -> int | None:
    """Return the end of a day in UTC, None for an empty field; raise `InvalidInput`."""
    if not text.strip():
        return None
    try:
        day = datetime.fromisoformat(text.strip()).replace(tzinfo=UTC)
    except ValueError as error:
        raise InvalidInput("An expiry is a date, written YYYY-MM-DD.") from error
    return int(day.timestamp()) * 1_000_000_000 + _DAY_NS


def write_fields(key: KeyInfo) -> dict[str, str]:
    """Return the fields of the form that changes a key."""
    return {
        "name": key.name,
        "scope": key.scopes[0] if key.scopes else "call",
        "project": key.project,
        "user": key.user or "",
        "routes": ", ".join(key.routes or ()),
        "requests_per_minute": str(key.requests_per_minute or ""),
        "tokens_per_minute": str(key.tokens_per_minute or ""),
        "expires": _write_day(key.expires_ns),
    }


def read_values(fields: dict[str, str]) -> dict[str, Any]:
    """Return the values of a posted form; raise `InvalidInput`."""
    return {
        "name": fields.get("name", "").strip(),
        "scopes": (fields.get("scope", "call"),),
        "project": fields.get("project", "").strip() or "default",
        "user": fields.get("user", "").strip() or None,
        "routes": read_routes(fields.get("routes", "")),
        "requests_per_minute": read_limit(fields.get("requests_per_minute", ""), "Requests per minute"),
        "tokens_per_minute": read_limit(fields.get("tokens_per_minute", ""), "Tokens per minute"),
        "expires_ns": read_expiry(fields.get("expires", "")),
    }


def find_changes(before: KeyInfo, form: dict[str, str]) -> dict[str, Any]:
    """Return what a posted form changes of a key; raise `InvalidInput`."""
    values = read_values(form)
    if form.get("expires", "") == _write_day(before.expires_ns):
        del values["expires_ns"]  # a date names a whole day, the key may know the hour
    if form.get("scope") == (before.scopes[0] if before.scopes else None):
        del values["scopes"]
    return {name: value for name, value in values.items() if value != getattr(before, name)}


class KeyPages:
    """Draws the list and the page of one key."""

    def __init__(self, services: ConsoleServices, renderer: Renderer) -> None:
        self._services = services
        self._renderer = renderer

    def known_routes(self) -> tuple[str, ...]:
        """Return the routes a key can be limited to."""
        snapshot = self._services.read_snapshot()
        return tuple(route.name for route in snapshot.routes) if snapshot else ()

    def list(
        self,
        request: Request,
        *,
        notice: str | None = None,
        new: tuple[str, str] | None = None,
        old_until_ns: int | None = None,
        error: PenstockError | None = None,
    ) -> Response:
        """Return the list, with a new key's text or what was wrong."""
        now = now_ns()
        window = CostQuery(since_ns=now - _WEEK_NS, until_ns=now)
        billed = {row.group["key"]: row for row in self._services.costs.sum_costs(window, ["key"]).rows}
        lines = [
            KeyLine(key=key, state=key.state_at(now), billed=billed.get(key.id))
            for key in self._services.keys.list()
        ]
        lines.sort(key=lambda each: (each.state != "active", each.key.id))
        page = KeysPage(
            frame=self._renderer.frame(request, "Keys & access", ACTIVE, notice=notice),
            lines=tuple(lines),
            new_key=new[0] if new else None,
            new_name=new[1] if new else None,
            old_until_ns=old_until_ns,
            routes=self.known_routes(),
            gateway_url=self._services.gateway_url,
            problem=error.message if error else None,
            hint=error.hint if error else None,
            fields=tuple(request.state.caller.form.items()) if error else (),
        )
        return self._renderer.show(page, status=error.status if error else 200)

    def one(
        self, request: Request, key_id: str, *, notice: str | None = None, error: PenstockError | None = None
    ) -> Response:
        """Return the page of one key."""
        key, now = self._services.keys.get(key_id), now_ns()
        query = CostQuery(since_ns=now - _WEEK_NS, until_ns=now, key=key_id)
        counters = self._services.live.counters() or ()
        rules = [
            rule
            for view in self._services.configuration.list("limit")
            if (rule := read_rule(view)).scope == "key" and rule.match in {None, key_id}
        ]
        mine = [each for each in counters if each.key.endswith(key_id)]
        page = KeyPage(
            frame=self._renderer.frame(request, f"Key {key.name}", ACTIVE, notice=notice),
            line=KeyLine(
                key=key,
                state=key.state_at(now),
                billed=self._services.costs.sum_costs(query, []).total,
            ),
            routes=self.known_routes(),
            used=_own_use(key, use_of_key(counters, key_id, now_s=now / 1e9)),
            rules=list_use(rules, mine, {key.id: key.name}, now_s=now / 1e9),
            expires_on=_write_day(key.expires_ns),
            fields=tuple((request.state.caller.form if error else write_fields(key)).items()),
            problem=error.message if error else None,
            hint=error.hint if error else None,
        )
        return self._renderer.show(page, status=error.status if error else 200)


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/keys` and below."""
    router = APIRouter(include_in_schema=False)
    pages = KeyPages(services, renderer)

    @router.get("/keys")
    @needs(Permission.KEYS_READ, Permission.COST_READ)
    def list_keys(request: Request, notice: str | None = None) -> Response:
        return pages.list(request, notice=notice)

    @router.get("/keys/{key_id}")
    @needs(Permission.KEYS_READ, Permission.COST_READ, Permission.CONFIG_READ)
    def show_key(request: Request, key_id: str, notice: str | None = None) -> Response:
        return pages.one(request, key_id, notice=notice)

    @router.post("/keys/{key_id}/revoke")
    @needs(Permission.KEYS_WRITE)
    def revoke_key(request: Request, key_id: str) -> Response:
        info = services.keys.revoke(key_id)
        services.publish_snapshot(actor_of(request.state.caller), f"revoke key {info.name} ({key_id})")
        return _back("/keys", f"The key {info.name} is revoked.")

    _add_forms(router, services, pages)
    return router


def _add_forms(router: APIRouter, services: ConsoleServices, pages: KeyPages) -> None:
    def check_names(values: dict[str, Any]) -> None:
        if known := pages.known_routes():
            check_routes(values.get("routes") or (), known)

    def publish(request: Request, note: str) -> None:
        services.publish_snapshot(actor_of(request.state.caller), note)

    @router.post("/keys")
    @needs(Permission.KEYS_WRITE, Permission.KEYS_READ, Permission.COST_READ)
    def create_key(request: Request) -> Response:
        try:
            values = read_values(dict(request.state.caller.form))
            check_names(values)
            made = services.keys.create(**values)
        except PenstockError as error:
            return pages.list(request, error=error)
        publish(request, f"create key {values['name']} ({made.id})")
        # not a redirect: the text must not be in any URL or history
        return pages.list(request, new=(made.key, values["name"]))

    @router.post("/keys/{key_id}")
    @needs(Permission.KEYS_WRITE, Permission.KEYS_READ, Permission.COST_READ, Permission.CONFIG_READ)
    def edit_key(request: Request, key_id: str) -> Response:
        try:
            changes = find_changes(services.keys.get(key_id), dict(request.state.caller.form))
            check_names(changes)
            if changes:
                services.keys.edit(key_id, **changes)
        except PenstockError as error:
            return pages.one(request, key_id, error=error)
        if not changes:
            return _back(f"/keys/{key_id}", "Nothing was changed.")
        publish(request, f"edit key {services.keys.get(key_id).name} ({key_id})")
        changed = ", ".join(name.replace("_ns", "").replace("_", " ") for name in changes)
        return _back(f"/keys/{key_id}", f"Changed: {changed}. Gateways know it within a second.")

    @router.post("/keys/{key_id}/rotate")
    @needs(Permission.KEYS_WRITE, Permission.KEYS_READ, Permission.COST_READ, Permission.CONFIG_READ)
    def rotate_key(request: Request, key_id: str) -> Response:
        overlap = request.state.caller.form.get("overlap_s", "0")
        try:
            if overlap not in dict(OVERLAPS):
                raise InvalidInput("An overlap is one of those that are offered.")
            made = services.keys.rotate(key_id, overlap_s=float(overlap))
        except PenstockError as error:
            return pages.one(request, key_id, error=error)
        info = services.keys.get(key_id)
        publish(request, f"rotate key {info.name} ({key_id})")
        return pages.list(request, new=(made.key, info.name), old_until_ns=info.previous_until_ns)


def _back(path: str, notice: str) -> Response:
    return RedirectResponse(f"{path}?{urlencode({'notice': notice})}", status_code=303)


def _write_day(expires_ns: int | None) -> str:
    if expires_ns is None:
        return ""
    return f"{datetime.fromtimestamp((expires_ns - 1) / 1e9, tz=UTC):%Y-%m-%d}"


def _own_use(key: KeyInfo, used: dict[str, int]) -> tuple[tuple[str, str, float], ...]:
    limits = (("requests", key.requests_per_minute), ("tokens", key.tokens_per_minute))
    return tuple(
        (unit, f"{used.get(unit, 0):,} of {limit:,}", round(min(100.0, 100 * used.get(unit, 0) / limit), 1))
        for unit, limit in limits
        if limit
    )
