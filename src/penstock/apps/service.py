"""Apps as registered things: made from declarations, listed, compared, moved and taken out of service.

The registry keeps the versions; `prod` answers under the app's name and other aliases under NAME@ALIAS. Nothing is ever
deleted from the registry: a deleted app is a version that says so, and a rollback of `prod` brings the app back.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from penstock.apps.declaring import diff_declarations, make_declaration
from penstock.apps.errors import NoSuchApp, WrongDeclaration
from penstock.apps.shelf import ReadFilter
from penstock.apps.types import STYLES, AppDeclaration, declaration_content
from penstock.base.errors import NotFound, suggest
from penstock.spec.assets import AssetRef, parse_asset_ref

KIND = "app"
PROD = "prod"


class KeptVersion(Protocol):
    """A version as the registry keeps it; `registry.types.Version` is one."""

    @property
    def name(self) -> str: ...
    @property
    def number(self) -> int: ...
    @property
    def content(self) -> dict[str, Any]: ...
    @property
    def created_ns(self) -> int: ...
    @property
    def note(self) -> str: ...


class Versions(Protocol):
    """What is read of the registry."""

    def resolve(self, ref: AssetRef | str) -> KeptVersion:
        """Return the version that a reference names."""

    def list_versions(self, kind: str, name: str) -> Sequence[KeptVersion]:
        """Return the versions of an asset, newest first."""

    def aliases(self, kind: str, name: str) -> Mapping[str, int]:
        """Return alias to version number."""

    def list_assets(self, kind: str | None = None) -> Sequence[Any]:
        """Return the assets of a kind."""


class Registering(Protocol):
    """What is changed in the registry."""

    def register(self, kind: str, name: str, content: dict[str, Any], *, note: str = "") -> KeptVersion:
        """Return the version that holds this content."""

    def move_alias(
        self,
        kind: str,
        name: str,
        alias: str,
        number: int,
        *,
        actor: str,
        evidence: dict[str, Any] | None = None,
        reason: str | None = None,
        override_reason: str | None = None,
        is_own_check: bool = False,
    ) -> Any:
        """Point an alias at a version and return the move."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """What a declaration may name, as it stands now; None where that is not known."""

    bases: Callable[[], Collection[str] | None]
    routes: Callable[[], Collection[str] | None]
    prompt_variables: Callable[[str], Collection[str]]
    """Raises `NotFound` for a prompt that is not there."""


@dataclass(frozen=True, kw_only=True)
class AppVersion:
    """One version of an app."""

    name: str
    number: int
    aliases: tuple[str, ...]
    declaration: AppDeclaration
    is_by_hand: bool
    """Whether somebody declared it; others are made by the first ingest of a base."""
    is_deleted: bool
    note: str
    created_ns: int
    warnings: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """`helpdesk@3`."""
        return f"{self.name}@{self.number}"


@dataclass(frozen=True, kw_only=True)
class Changed:
    """What a change made, and the alias that was moved with it."""

    version: AppVersion
    is_new: bool
    move: Any | None


class AppService:
    """Declared apps of one home. Blocking; safe from several threads."""

    def __init__(self, registry: Any, *, places: Places, read_filter: ReadFilter) -> None:
        """`registry` is a `Versions` and a `Registering`."""
        self._versions: Versions = registry
        self._registering: Registering = registry
        self._places = places
        self._read_filter = read_filter

    def check(self, told: Mapping[str, Any], *, file: str = "it") -> tuple[AppDeclaration, list[str]]:
        """Return the declaration and what it names that is not there; raise `WrongDeclaration`."""
        app = make_declaration(told, file=file, read_filter=self._read_filter)
        return app, self._find_missing(app)

    def create(
        self,
        told: Mapping[str, Any],
        *,
        actor: str,
        note: str = "",
        reason: str | None = None,
        file: str = "it",
    ) -> Changed:
        """Register a declaration; the same again is the same version. Raises `WrongDeclaration`.

        An app's first version answers at once. A later one does when `reason` says why, else once its alias is moved.
        """
        app, warnings = self.check(told, file=file)
        content = {"declaration": declaration_content(app), "by_hand": True}
        return self._register(app.name, content, warnings, actor=actor, note=note, reason=reason)

    def delete(self, name: str, *, actor: str, reason: str) -> Changed:
        """Take an app out of service: nothing answers under its name from then on. Raises `NoSuchApp`."""
        live = self.get(name)
        if live.is_deleted:
            raise NoSuchApp(f"The app {name!r} was deleted already.")
        content = {
            "declaration": declaration_content(live.declaration),
            "by_hand": True,
            "is_deleted": True,
        }
        return self._register(live.name, content, [], actor=actor, note=f"deleted: {reason}", reason=reason)

    def move(
        self,
        reference: str,
        alias: str,
        *,
        actor: str,
        evidence: dict[str, Any] | None = None,
        reason: str | None = None,
    ) -> Any:
        """Point an alias at a version and return the move. `prod` needs evidence, or a reason to go without."""
        version = self.get(reference)
        return self._registering.move_alias(
            KIND,
            version.name,
            alias,
            version.number,
            actor=actor,
            evidence=evidence,
            reason=reason,
            override_reason=None if evidence else reason,
        )

    def get(self, reference: str) -> AppVersion:
        """Return the version that `NAME`, `NAME@ALIAS` or `NAME@NUMBER` names; raise `NoSuchApp`."""
        wanted = parse_asset_ref(f"{KIND}:{reference.removeprefix(f'{KIND}:')}")
        try:
            version = self._versions.resolve(wanted)
        except NotFound as error:
            known = [asset.name for asset in self._versions.list_assets(KIND)]
            if wanted.name in known:
                raise
            raise NoSuchApp(f"There is no app {wanted.name!r}.", hint=suggest(wanted.name, known)) from error
        return self._describe(version, self._versions.aliases(KIND, version.name))

    def list_apps(self) -> list[AppVersion]:
        """Return of each app the version that answers, by name; deleted ones are left out."""
        found = [self.get(asset.name) for asset in self._versions.list_assets(KIND)]
        return [version for version in found if not version.is_deleted]

    def list_versions(self, name: str) -> list[AppVersion]:
        """Return the versions of an app, newest first."""
        live = self.get(name)
        aliases = self._versions.aliases(KIND, live.name)
        return [self._describe(each, aliases) for each in self._versions.list_versions(KIND, live.name)]

    def diff(self, before: str, after: str) -> list[dict[str, Any]]:
        """Return what differs between two versions, a row a member."""
        return diff_declarations(self.get(before).declaration, self.get(after).declaration)

    def _register(
        self,
        name: str,
        content: dict[str, Any],
        warnings: Sequence[str],
        *,
        actor: str,
        note: str,
        reason: str | None,
    ) -> Changed:
        known = {version.number for version in self._known_versions(name)}
        version = self._registering.register(KIND, name, content, note=note)
        move = None
        aliases = self._versions.aliases(KIND, name)
        if PROD not in aliases or (reason and aliases[PROD] != version.number):
            move = self._registering.move_alias(
                KIND,
                name,
                PROD,
                version.number,
                actor=actor,
                evidence=None if reason else {"declared": {"warnings": list(warnings)}},
                reason=reason,
                override_reason=reason,
                is_own_check=PROD not in aliases and not reason,
            )
            aliases = self._versions.aliases(KIND, name)
        described = self._describe(version, aliases)
        described = AppVersion(**{**vars(described), "warnings": tuple(warnings)})
        return Changed(version=described, is_new=version.number not in known, move=move)

    def _known_versions(self, name: str) -> Sequence[KeptVersion]:
        try:
            return self._versions.list_versions(KIND, name)
        except NotFound:
            return []

    def _describe(self, version: KeptVersion, aliases: Mapping[str, int]) -> AppVersion:
        return AppVersion(
            name=version.name,
            number=version.number,
            aliases=tuple(sorted(alias for alias, number in aliases.items() if number == version.number)),
            declaration=read_content(version.content, version.name),
            is_by_hand=bool(version.content.get("by_hand")),
            is_deleted=bool(version.content.get("is_deleted")),
            note=version.note,
            created_ns=version.created_ns,
        )

    def _find_missing(self, app: AppDeclaration) -> list[str]:
        """Return what the declaration names and is not there (yet), as clauses."""
        missing = [
            _missing("knowledge base", app.knowledge, self._places.bases()),
            _missing("model", app.model, self._places.routes()),
        ]
        others = {
            app.answer_fallback,
            *(getattr(app, step).model for step in ("rewrite", "expand", "filter", "check")),
        }
        others |= {getattr(app, step).fallback for step in ("rewrite", "expand", "filter", "check")}
        missing += [_missing("model", name, self._places.routes()) for name in sorted(filter(None, others))]
        if app.prompt not in STYLES:
            missing.append(self._find_wrong_prompt(app.prompt))
        return [each for each in missing if each is not None]

    def _find_wrong_prompt(self, reference: str) -> str | None:
        try:
            variables = set(self._places.prompt_variables(reference))
        except NotFound:
            return f"there is no {reference}"
        lacking = {"question", "sources"} - variables
        return (
            f"{reference} has no variable {' and no variable '.join(map(repr, sorted(lacking)))}"
            if lacking
            else None
        )


def read_content(content: Mapping[str, Any], name: str) -> AppDeclaration:
    """Return the declaration that a registered version holds; raise `WrongDeclaration` for what is none."""
    try:
        return msgspec.convert(content["declaration"], AppDeclaration)
    except (KeyError, msgspec.ValidationError) as error:
        raise WrongDeclaration([f"its registered content is damaged ({error})"], file=f"app:{name}") from None


def _missing(what: str, name: str, known: Collection[str] | None) -> str | None:
    if known is None or name in known or ("/" in name and f"{name.partition('/')[0]}/*" in known):
        return None
    near = suggest(name, known)
    return f"there is no {what} {name!r}" + (f", {near[0].lower()}{near[1:]}" if near else "")
