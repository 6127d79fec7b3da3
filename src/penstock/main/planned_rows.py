"""Collects the rows of a plan: each name once, with its owner, its line, and what is wrong with it."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from penstock.base.errors import suggest
from penstock.base.toml_lines import nearest_line
from penstock.deploy.limit_sections import LimitRuleSettings, PriceSettings
from penstock.deploy.objects import ObjectInvalid, ObjectKind, Owner, StoredObject, parse_object
from penstock.deploy.row_problems import RowProblem
from penstock.deploy.rows import CATALOGUE, limit_row, price_name, price_row, provider_row, route_row
from penstock.deploy.section_problems import KeyPath
from penstock.deploy.sections import ProviderSettings, RouteSettings
from penstock.deploy.variable_rules import VariablePlaces
from penstock.main.found_providers import fill_address, find_providers, missing_variable
from penstock.main.settings import SettingsFile
from penstock.main.settings_problems import Problem, invalid_settings
from penstock.spec.callers import APPS
from penstock.spec.routes import Provider, Route

ENGINE = "engine"
_OWN = frozenset({ENGINE, APPS})
_NOBODY = "http://127.0.0.1:9/v1"
"""Nothing answers there."""
Row = TypeVar("Row")


class PlannedRows:
    """The rows found so far. Sources are added from the weakest to the strongest."""

    def __init__(self, file: SettingsFile, environ: Mapping[str, str]) -> None:
        self.owners: dict[tuple[ObjectKind, str], Owner] = {}
        self.problems: list[Problem] = []
        self.warnings: list[str] = []
        self._file = file
        self._environ = environ
        self._key_places: VariablePlaces | None = None
        self._rows: dict[tuple[ObjectKind, str], Any] = {}
        settings = file.settings
        self._places: dict[tuple[ObjectKind, str], KeyPath] = {
            **{("provider", name): ("providers", name) for name in settings.providers},
            **{("route", name): ("routes", name) for name in settings.routes},
            **{
                ("limit", rule.name): ("limits", "rules", number)
                for number, rule in enumerate(settings.limits.rules)
            },
            **{
                ("price", price_name(price.provider, price.model)): ("prices", number)
                for number, price in enumerate(settings.prices)
            },
        }

    @property
    def providers(self) -> Mapping[str, Provider]:
        """Providers by name."""
        return self.of("provider", Provider)

    def of(self, kind: ObjectKind, row: type[Row]) -> Mapping[str, Row]:
        """Return the rows of one kind by name."""
        found = {name: each for (of, name), each in self._rows.items() if of == kind}
        assert all(isinstance(each, row) for each in found.values())
        return found

    def put(self, kind: ObjectKind, name: str, row: Any, owner: Owner) -> None:
        """Add a row in the place of the one of that name."""
        self._rows[kind, name] = row
        self.owners[kind, name] = owner

    def put_deployed(self, provider: Provider) -> None:
        """Add the provider of a deployment. One that somebody wrote under its name is told as wrong: calls that name
        it would go to another model."""
        if ("provider", provider.name) in self.owners:
            self._complain(
                "provider",
                provider.name,
                f"{provider.name!r} is the name of a deployment's provider",
                "Choose another, or take the deployment away.",
            )
            return
        self.put("provider", provider.name, provider, "built in")

    def stand_in_for_gone(self, prefix: str) -> None:
        """See to it that routes that name the provider of a deployment outlive the deployment, with a warning: it comes
        and goes by commands, and settings that fitted yesterday must not be refused for that.

        The target is left out; where it is the last one, its calls fail as those of a server that is down.
        """
        known = set(self.providers)
        for name, route in self.of("route", Route).items():
            gone = {each.provider for each in route.targets if each.provider.startswith(prefix)}
            gone -= known
            if not gone:
                continue
            left = tuple(each for each in route.targets if each.provider not in gone)
            if left:
                self._rows["route", name] = msgspec.structs.replace(route, targets=left)
            for provider in sorted(gone) if not left else ():
                self.put(
                    "provider", provider, Provider(name=provider, base_url=_NOBODY, auth="none"), "built in"
                )
            self.warnings.append(
                f"the route {name!r} names {', '.join(sorted(gone))}, but no deployment of that name takes traffic: "
                + ("its other targets serve" if left else "its calls fail")
            )

    def warn_of_kept(self, deployed: Mapping[str, str]) -> None:
        """Tell which routes of deployments stand behind those that somebody wrote under the same name."""
        for route, deployment in deployed.items():
            if owner := self.owners.get(("route", route)):
                self.warnings.append(
                    f"the route {route!r} ({owner}) stands before the deployment {deployment!r}, which is not asked "
                    "under it"
                )

    def line(self, kind: ObjectKind, name: str) -> int | None:
        """Return where a row stands in the settings file."""
        place = self._places.get((kind, name))
        return None if place is None else nearest_line(self._file.lines, place)

    def add_found(self) -> None:
        """Add the providers that the environment names."""
        for provider in find_providers(self._environ):
            if variable := missing_variable(provider, self._environ):
                self.warnings.append(
                    f"provider {provider.name!r}: its key is set but {variable} is not, so it is left out"
                )
            else:
                self.put("provider", provider.name, fill_address(provider, self._environ), "environment")

    def add_objects(self, objects: Sequence[StoredObject]) -> None:
        """Add what the control tables hold; names that the file holds too are reported and left to the file."""
        for each in objects:
            if (each.kind, each.name) in self._places:
                self.warnings.append(
                    f"{each.kind} {each.name!r} is in the settings file (line {self.line(each.kind, each.name)}) "
                    f"and in the database; the file wins. Take it out of one of them: penstock {each.kind} delete "
                    f"{each.name}"
                )
                continue
            try:
                section = parse_object(each.kind, each.name, each.content)
            except ObjectInvalid as error:
                self.problems.append(
                    Problem(line=None, where=f"{each.kind} {each.name!r} (database)", message=error.message)
                )
                continue
            self._add(each.kind, each.name, section, "database")

    def add_written(self) -> None:
        """Add what the settings file holds."""
        settings = self._file.settings
        for name, provider in settings.providers.items():
            self._add("provider", name, provider, "settings")
        for name, route in settings.routes.items():
            self._add("route", name, route, "settings")
        for rule in settings.limits.rules:
            self._add("limit", rule.name, rule, "settings")
        for price in settings.prices:
            self._add("price", price_name(price.provider, price.model), price, "settings")

    def placed(self, problem: RowProblem) -> Problem:
        """Return a row's problem as one of the place it was written at."""
        if problem.kind == "limits":
            return self._file.problem(("limits", problem.field or "redis_url_env"), problem.message)
        row = next((each for each in self.owners if each == (problem.kind, problem.name)), None)
        owner = None if row is None else self.owners[row]
        if row is not None and owner == "settings":
            return self._file.problem((*self._places[row], problem.field or ""), problem.message)
        shown = f" ({owner})" if owner else ""
        return Problem(line=None, where=f"{problem.kind} {problem.name!r}{shown}", message=problem.message)

    def refuse(self) -> None:
        """Raise `SettingsInvalid` when something is wrong."""
        if self.problems:
            raise invalid_settings(self._file.path, self.problems)

    def _add(self, kind: ObjectKind, name: str, section: object, owner: Owner) -> None:
        match section:
            case ProviderSettings():
                self._add_provider(name, section, owner)
            case RouteSettings():
                self.put(kind, name, route_row(name, section), owner)
            case LimitRuleSettings():
                self.put(kind, name, limit_row(name, section), owner)
            case PriceSettings():
                self.put(kind, name, price_row(name, section), owner)

    def _add_provider(self, name: str, section: ProviderSettings, owner: Owner) -> None:
        if name in _OWN:
            self._complain(
                "provider", name, f"{name!r} is the name of a built-in provider", "Choose another."
            )
            return
        row = provider_row(name, section)
        if row is None:
            near = suggest(name, CATALOGUE)
            self._complain(
                "provider",
                name,
                "the key 'base_url' is missing",
                near or "Only well-known providers have one.",
            )
            return
        filled = fill_address(row, self._environ)
        if owner == "database":
            self._refuse_variables(name, row, filled)
        self.put("provider", name, filled, owner)

    def _refuse_variables(self, name: str, row: Provider, filled: Provider) -> None:
        settings = self._file.settings
        if self._key_places is None:
            written = (provider_row(each, section) for each, section in settings.providers.items())
            known = (*CATALOGUE.values(), *find_providers(self._environ), *filter(None, written))
            self._key_places = VariablePlaces(known, self._environ)
        own = (settings.storage.control_url_env, settings.limits.redis_url_env)
        for _, message in self._key_places.problems(row, filled, own=own):
            where = f"provider {name!r} (database)"
            self.problems.append(Problem(line=None, where=where, message=message))

    def _complain(self, kind: ObjectKind, name: str, message: str, hint: str) -> None:
        place = self._places.get((kind, name))
        if place is not None:
            self.problems.append(self._file.problem(place, message, hint))
        else:
            where = f"{kind} {name!r} (database)"
            self.problems.append(Problem(line=None, where=where, message=message, hint=hint))
