"""What people do with deployments: ask for one, change it, take it away, look.

Nothing is started here. What is asked for is written down, and the reconciler makes it so, step by step.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine

from penstock.base.clock import now_ns as wall_clock
from penstock.base.errors import suggest
from penstock.deploy.deployments import queries
from penstock.deploy.deployments.errors import (
    DeploymentInvalid,
    DeploymentTaken,
    NoWayBack,
    RouteTaken,
    UnknownDeployment,
)
from penstock.deploy.deployments.ports import Gateways, ModelVersions, Seats
from penstock.deploy.deployments.queries import Stored
from penstock.deploy.deployments.row_rules import find_asked_problems
from penstock.deploy.deployments.rows import LiveDeployment, provider_names, route_name
from penstock.deploy.deployments.types import DeploymentEvent, PinnedModel, SeatState, Standing
from penstock.spec.assets import AssetRef, parse_asset_ref
from penstock.spec.tuning import DeploymentRecord, DeploymentSpec

MAX_NAME_CHARS = 48
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?")
_ROUTE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")
MAX_REPLICAS = 16
CHANGEABLE = frozenset(
    {"model", "weight", "replicas", "context_length", "slots", "threads", "adapters", "strict_adapters", "follow"}
)  # fmt: skip
"""What a deployment can be given anew; the rest is another deployment."""


@dataclass(frozen=True, kw_only=True)
class DeploymentPage:
    """Deployments by name."""

    rows: tuple[DeploymentRecord, ...]
    next_cursor: str | None
    total: int


@dataclass(frozen=True, kw_only=True)
class EventPage:
    """Events, newest first (or oldest first after a cursor)."""

    rows: tuple[DeploymentEvent, ...]
    next_cursor: int | None


@dataclass(frozen=True, kw_only=True)
class EngineView:
    """One process of a deployment."""

    seat: str
    role: str
    """serving, coming or leaving"""
    state: SeatState
    told: Mapping[str, Any] | None
    """`models` with their counts, as the process tells them; None when it does not."""

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens generated in a second of work on one reply, since the process started; None before the first."""
        models = (self.told or {}).get("models", ())
        busy_s = sum(each["busy_s"] for each in models)
        return sum(each["completion_tokens"] for each in models) / busy_s if busy_s else None


class DeploymentService:
    """Use-cases on deployments. May be called from any thread."""

    def __init__(
        self,
        engine: Engine,
        versions: ModelVersions,
        seats: Seats,
        gateways: Gateways,
        *,
        ask_engine: Callable[[str], Mapping[str, Any] | None] = lambda _: None,
        clock: Callable[[], int] = wall_clock,
    ) -> None:
        self._engine = engine
        self._versions = versions
        self._seats = seats
        self._gateways = gateways
        self._ask_engine = ask_engine
        self._clock = clock

    def deploy(self, spec: DeploymentSpec, *, actor: str) -> DeploymentRecord:
        """Ask for a deployment; one of that name and model is changed to be like this one.

        Returns at once with the state `starting`, or that of what serves meanwhile. Raises `DeploymentInvalid`,
        `DeploymentTaken`, `RouteTaken`, and what resolving the model raises.
        """
        self._check(spec)
        model = self._versions.pin(spec.model)
        adapters = [self._versions.pin(each) for each in spec.adapters]
        self._check_rows(spec, model, adapters)
        self._versions.check_servable(spec, model, adapters)
        with self._engine.begin() as connection:
            self._check_route(connection, spec)
            known = queries.get_deployment(connection, spec.name, for_update=True)
            if known is not None and not known.standing.is_going:
                return self._change(connection, known, spec, actor, f"is to serve {model.label}")
            now = self._clock()
            item = Stored(
                name=spec.name,
                state="starting",
                spec=spec,
                standing=Standing() if known is None else replace_standing(known.standing, is_going=False),
                epoch=1 if known is None else known.epoch + 1,
                created_ns=now,
                updated_ns=now,
            )
            (queries.insert_deployment if known is None else queries.update_deployment)(connection, item)
            self._note(connection, spec.name, "created", f"is to serve {model.label}", actor, spec=spec)
        return self.get(spec.name)

    def swap(self, name: str, changes: dict[str, Any], *, actor: str) -> DeploymentRecord:
        """Change what a deployment serves, or how, without a call that fails. Raises like `deploy`."""
        wrong = sorted(set(changes) - CHANGEABLE)
        if wrong:
            raise DeploymentInvalid(
                f"{', '.join(wrong)} of a deployment cannot be changed.",
                hint=suggest(wrong[0], CHANGEABLE)
                or f"What can: {', '.join(sorted(CHANGEABLE))}. Deploy under another name for the rest.",
            )
        with self._engine.connect() as connection:
            known = self._require(connection, name)
        spec = convert_spec({**msgspec.to_builtins(known.spec), **changes})
        return self.deploy(spec, actor=actor)

    def roll_back(self, name: str, *, actor: str) -> DeploymentRecord:
        """Serve what was served before, with its adapters, by digest, whatever aliases say; it no longer follows one.

        Raises `NoWayBack`.
        """
        with self._engine.connect() as connection:
            known = self._require(connection, name)
        previous = known.standing.previous
        if previous is None:
            raise NoWayBack(f"The deployment {name!r} has served nothing else before.", deployment=name)
        changes = {
            "model": previous.label,
            "follow": False,
            "adapters": [each.label for each in known.standing.previous_adapters],
            "context_length": known.standing.previous_context,
        }
        return self.swap(name, changes, actor=actor)

    def delete(self, name: str, *, actor: str) -> DeploymentRecord:
        """Take it away: its route first, then its processes when no call needs them. Its events stay."""
        with self._engine.begin() as connection:
            known = self._require(connection, name, for_update=True)
            if not known.standing.is_going:
                item = replace(
                    known,
                    state="draining",
                    standing=replace_standing(known.standing, is_going=True),
                    epoch=known.epoch + 1,
                    updated_ns=self._clock(),
                )
                queries.update_deployment(connection, item)
                self._note(connection, name, "deleted", "is to go", actor)
        return self.get(name)

    def get(self, name: str) -> DeploymentRecord:
        """Return one; raises `UnknownDeployment`."""
        with self._engine.connect() as connection:
            return self._record(self._require(connection, name))

    def list(self, *, after: str = "", limit: int = 100) -> DeploymentPage:
        """Return deployments by name; the cursor is the last name."""
        with self._engine.connect() as connection:
            every = queries.list_deployments(connection)
        found = [each for each in every if each.name > after]
        rows = tuple(self._record(each) for each in found[:limit])
        cursor = rows[-1].name if len(found) > limit else None
        return DeploymentPage(rows=rows, next_cursor=cursor, total=len(every))

    def events(
        self, name: str, *, before: int | None = None, after: int | None = None, limit: int = 100
    ) -> EventPage:
        """Return what happened to a deployment, also to one that is gone."""
        with self._engine.connect() as connection:
            rows = queries.list_events(connection, name, before=before, after=after, limit=limit)
            if not rows and before is None and after is None:
                self._require(connection, name)
        cursor = rows[-1].id if len(rows) == limit else None
        return EventPage(rows=tuple(rows), next_cursor=cursor)

    def engines(self, name: str) -> Sequence[EngineView]:
        """Return the processes of a deployment with what each has done since it started; asks them."""
        with self._engine.connect() as connection:
            standing = self._require(connection, name).standing
        views = []
        for role, seats in (
            ("serving", standing.serving.seats if standing.serving else ()),
            ("coming", standing.coming.seats if standing.coming else ()),
            ("leaving", [seat for each in standing.leaving for seat in each.seats]),
        ):
            for seat in seats:
                state = self._seats.look(seat)
                told = self._ask_engine(state.url) if state.url and state.status == "ready" else None
                views.append(EngineView(seat=seat, role=role, state=state, told=told))
        return views

    def live(self) -> Sequence[LiveDeployment]:
        """Return those that take traffic, with the addresses of their processes as they are now."""
        with self._engine.connect() as connection:
            stored = queries.list_deployments(connection)
        return live_deployments(stored, lambda child: self._seats.look(child).url)

    # -- inside

    def _change(
        self, connection: Connection, known: Stored, spec: DeploymentSpec, actor: str, text: str
    ) -> DeploymentRecord:
        asset = asset_of(spec.model)
        if asset != asset_of(known.spec.model) or spec.engine != known.spec.engine:
            raise DeploymentTaken(
                f"The deployment {spec.name!r} serves {asset_of(known.spec.model)} with the engine "
                f"{known.spec.engine!r}; it cannot become {asset} with {spec.engine!r}.",
                hint="Give the new one another name with --name.",
                deployment=spec.name,
            )
        item = replace(known, spec=spec, epoch=known.epoch + 1, updated_ns=self._clock())
        queries.update_deployment(connection, item)
        self._note(connection, spec.name, "changed", text, actor, spec=spec)
        return self._record(item)

    def _check(self, spec: DeploymentSpec) -> None:
        for field, fine, told in (
            ("name", 1 <= len(spec.name) <= MAX_NAME_CHARS, f"must have 1 to {MAX_NAME_CHARS} characters"),
            ("replicas", 1 <= spec.replicas <= MAX_REPLICAS, f"must be 1 to {MAX_REPLICAS}"),
            ("weight", 1 <= spec.weight <= 10_000, "must be 1 to 10000"),
            (
                "context_length",
                spec.context_length is None or spec.context_length >= 16,
                "must be 16 or more",
            ),
            ("slots", spec.slots is None or 1 <= spec.slots <= 256, "must be 1 to 256"),
            ("threads", spec.threads is None or 1 <= spec.threads <= 256, "must be 1 to 256"),
        ):
            if not fine:
                raise DeploymentInvalid(
                    f"{field} of a deployment {told}.", param=field, value=getattr(spec, field)
                )
        if not _NAME.fullmatch(spec.name):
            raise DeploymentInvalid(
                f"{spec.name!r} is no name of a deployment.",
                hint="Use lower-case letters, digits, dot, dash, underscore.",
                param="name",
            )
        if spec.route is not None and not _ROUTE.fullmatch(spec.route):
            raise DeploymentInvalid(
                f"{spec.route!r} cannot be the route of a deployment.",
                hint="Use letters, digits, dots, dashes, slashes, underscores.",
                param="route",
            )
        if spec.engine == "server" and not spec.url:
            raise DeploymentInvalid(
                "A server needs its address.", hint="Give --url http://HOST:PORT/v1.", param="url"
            )
        if spec.engine == "embedded" and (spec.url or spec.served_name):
            raise DeploymentInvalid("url and served_name are for engines of the kind `server` and `vllm`.")
        if spec.engine == "server" and (spec.replicas > 1 or spec.adapters):
            raise DeploymentInvalid(
                "Replicas and adapters of a server that runs elsewhere are its own matter.",
                hint="Deploy each address under a name of its own, with one --route for all.",
            )

    def _check_rows(self, spec: DeploymentSpec, model: PinnedModel, adapters: Sequence[PinnedModel]) -> None:
        """Refuse what would be no valid row: in a snapshot it would stand in the way of everybody's."""
        if found := find_asked_problems(spec, model, adapters):
            raise DeploymentInvalid(
                f"{spec.name!r} cannot be deployed like this: {'; '.join(each.message for each in found)}.",
                hint="An address is http://HOST:PORT/v1; a key goes into a sealed secret that --secret names.",
            )

    def _check_route(self, connection: Connection, spec: DeploymentSpec) -> None:
        route = route_name(spec)
        owner = self._gateways.route_owner(route)
        if owner is not None:
            raise RouteTaken(
                f"The route {route!r} is kept elsewhere ({owner}).",
                hint=f"Name the provider engine-{spec.name} as a target there, or choose another --route.",
                route=route,
            )
        for provider in provider_names(spec.name, spec.replicas + len(spec.adapters)):
            # a provider of somebody's answers to all its models under this name
            if kept := self._gateways.route_owner(f"{provider}/*"):
                raise RouteTaken(
                    f"There is a provider {provider!r} already ({kept}), as the deployment's would be called.",
                    hint="Deploy under another --name, or rename that provider.",
                    provider=provider,
                )
        for other in queries.list_deployments(connection):
            if other.name == spec.name or route_name(other.spec) != route or other.standing.is_going:
                continue
            if asset_of(other.spec.model) != asset_of(spec.model):
                raise RouteTaken(
                    f"The route {route!r} is the deployment {other.name!r}'s, which serves {other.spec.model}.",
                    hint="A route is shared by deployments of one version only.",
                    route=route,
                )

    def _require(self, connection: Connection, name: str, *, for_update: bool = False) -> Stored:
        found = queries.get_deployment(connection, name, for_update=for_update)
        if found is None:
            raise UnknownDeployment(name, [each.name for each in queries.list_deployments(connection)])
        return found

    def _record(self, item: Stored) -> DeploymentRecord:
        standing = item.standing
        serving = standing.serving
        shown = serving or standing.coming
        address, states = None if serving is None else serving.url, []
        if serving is not None and serving.seats:
            states = [self._seats.look(seat) for seat in serving.seats]
            address = states[0].url
        return DeploymentRecord(
            name=item.name,
            spec=item.spec,
            state=item.state,
            version=None if serving is None else serving.model.label,
            digest=None if serving is None else serving.model.digest,
            address=address,
            proof=None if shown is None else shown.proof,
            error=standing.error,
            created_ns=item.created_ns,
            updated_ns=item.updated_ns,
            swaps=standing.swaps,
            previous=None if standing.previous is None else standing.previous.label,
            coming=None if standing.coming is None else standing.coming.model.label,
            is_settled=standing.applied == item.epoch and standing.coming is None and not standing.leaving,
            route=route_name(item.spec),
            n_processes=len(states),
            n_ready=sum(each.status == "ready" for each in states),
            n_restarts=sum(each.n_restarts for each in states),
        )

    def _note(
        self, connection: Connection, name: str, kind: str, text: str, actor: str, **detail: Any
    ) -> None:
        queries.insert_event(
            connection,
            name,
            kind,
            text,
            detail=msgspec.to_builtins(detail),
            actor=actor,
            at_ns=self._clock(),
        )


def live_deployments(stored: Sequence[Stored], find_url: Callable[[str], str | None]) -> list[LiveDeployment]:
    """Return those that take traffic; one of which no process has an address yet is left out."""
    live = []
    for each in stored:
        serving = each.standing.serving
        if serving is None or each.standing.is_going:
            continue
        urls = [serving.url] if serving.url else [find_url(seat) for seat in serving.seats]
        n_base = len(urls) - (len(serving.adapters) if serving.is_strict else 0)
        if any(urls[:n_base]):
            live.append(LiveDeployment(spec=each.spec, generation=serving, urls=tuple(urls)))
    return live


def replace_standing(standing: Standing, **changes: Any) -> Standing:
    """Return `standing` with some members changed."""
    return msgspec.structs.replace(standing, **changes)


def asset_of(reference: str) -> str:
    """Return `model:NAME` of a reference; raises `DeploymentInvalid` for what is no model."""
    ref: AssetRef = parse_asset_ref(reference)
    if ref.kind != "model":
        raise DeploymentInvalid(f"{reference!r} is no model.", hint="Write model:NAME@ALIAS.", param="model")
    return f"model:{ref.name}"


def convert_spec(value: Any) -> DeploymentSpec:
    """Return the specification that JSON says; raises `DeploymentInvalid`."""
    try:
        return msgspec.convert(value, DeploymentSpec)
    except msgspec.ValidationError as error:
        raise DeploymentInvalid(f"The deployment cannot be read: {error}.") from error
