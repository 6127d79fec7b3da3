"""The registry: assets, immutable versions, aliases that move with evidence, and lineage.

Knows nothing of what the versions hold. The surprise: a version's digest is over kind, name, content and
artefacts but not over its parents; registering the same again returns the first version with the parents it
was registered with. Where descent is part of what a version is, put the parents' digests into the content.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import Enum
from typing import Any, Protocol

from sqlalchemy import Connection, Engine

from penstock.base.clock import now_ns as wall_clock
from penstock.base.errors import InvalidInput, PolicyError
from penstock.base.json_text import clean_text, decode_json, digest_text, encode_json
from penstock.registry import queries
from penstock.registry.errors import (
    AliasMoved,
    AmbiguousDigest,
    MissingArtefact,
    NothingToRollBack,
    ProtectedAlias,
    UnknownAlias,
    UnknownAsset,
    UnknownDigest,
    UnknownVersion,
)
from penstock.registry.types import AliasMove, Asset, Lineage, Version
from penstock.spec.assets import AssetRef, parse_asset_ref

MAX_CONTENT_BYTES = 1024 * 1024
MAX_NUMBER = 2**31 - 1
PROTECTED_ALIASES = frozenset({"prod"})
_FILE_NAME = re.compile(r"[\w .+@=-]{1,100}(/[\w .+@=-]{1,100}){0,9}")
LATEST = "latest"
"""Not an alias: always the highest number. Nothing can be moved there."""


class Blobs(Protocol):
    """What the registry asks of the blob store."""

    def exists(self, digest: str) -> bool:
        """Return whether the blob is there."""
        ...


CheckEvidence = Callable[[str, str, Mapping[str, Any]], dict[str, Any]]
"""Given an asset (`prompt:triage`), a version's stamp and evidence, returns the evidence as it was found in the store;
raises a `PolicyError` unless it proves that very version. What proves it is not the registry's matter."""

CheckTarget = Callable[[Version], None]
"""Given the version that an alias is about to name, raises a `PenstockError` when what it names is no more there, such
as the generation of a knowledge base. What is needed for it is not the registry's matter."""


class Unchecked(Enum):
    """The default of `expected_number`: the mover does not say what it saw."""

    ANY = "any"


class Registry:
    """Versions and aliases on the control tables. Every method may be called from any thread."""

    def __init__(
        self,
        engine: Engine,
        blobs: Blobs,
        *,
        protected_aliases: Collection[str] = PROTECTED_ALIASES,
        check_evidence: CheckEvidence | None = None,
        check_target: CheckTarget = lambda _: None,
        clock: Callable[[], int] = wall_clock,
    ) -> None:
        self._engine = engine
        self._blobs = blobs
        self._protected = frozenset(protected_aliases)
        self._check_evidence = check_evidence
        self._check_target = check_target
        self._clock = clock

    def register(
        self,
        kind: str,
        name: str,
        content: dict[str, Any],
        *,
        artefacts: Mapping[str, str] | None = None,
        parents: Sequence["Version | AssetRef | str"] = (),
        note: str = "",
    ) -> Version:
        """Return the version that holds this content and these artefacts, registering it if it is new.

        `artefacts` maps file names to digests of blobs that must be in the store; `parents` are versions,
        references or whole digests. Content is a JSON object of at most 1 MiB.
        Raises `InvalidInput`, `TooLarge`, `MissingArtefact`, `UnknownDigest`.
        """
        _check_name(kind, name)
        files = dict(artefacts or {})
        for file, digest in files.items():
            _check_file_name(file)
            if not self._blobs.exists(digest):
                raise MissingArtefact(
                    f"artefact {file!r} of {kind}:{name} names {digest}, which is not in the blob store.",
                    asset=f"{kind}:{name}",
                    artefact=file,
                    digest=digest,
                )
        if not isinstance(content, dict):
            raise InvalidInput(f"The content of {kind}:{name} must be a JSON object.")
        text = encode_json(content, what=f"The content of {kind}:{name}", max_bytes=MAX_CONTENT_BYTES)
        files_text = encode_json(files, what=f"The artefacts of {kind}:{name}", max_bytes=MAX_CONTENT_BYTES)
        identity = {
            "kind": kind,
            "name": name,
            "content": decode_json(text),
            "artefacts": decode_json(files_text),
        }
        digest = digest_text(encode_json(identity, what="The version"))
        with self._engine.begin() as connection:
            known = queries.get_by_digest(connection, digest)
            if known is not None:
                return known
            edges = self._find_parents(connection, parents)
            now_ns = self._clock()
            queries.add_asset(connection, kind, name, now_ns)
            known = queries.get_by_digest(connection, digest)  # somebody may have come first until we held it
            if known is not None:
                return known
            values = {
                "kind": kind,
                "name": name,
                "number": (queries.latest_number(connection, kind, name) or 0) + 1,
                "digest": digest,
                "content": text,
                "artefacts": files_text,
                "note": clean_text(note),
                "created_ns": now_ns,
            }
            queries.insert_version(connection, values, edges)
            version = queries.get_by_digest(connection, digest)
        assert version is not None
        return version

    def resolve(self, ref: AssetRef | str) -> Version:
        """Return the version that `ref` names now.

        Without a suffix that is alias `prod`, or the highest number where there is no `prod`; `@latest` is
        always the highest number. Raises `UnknownAsset`, `UnknownAlias`, `UnknownVersion`, `AmbiguousDigest`.
        """
        wanted = parse_asset_ref(ref) if isinstance(ref, str) else ref
        with self._engine.connect() as connection:
            return self._resolve(connection, wanted)

    def get_by_digest(self, digest: str) -> Version:
        """Return the version with this whole digest, of whatever asset; raises `UnknownDigest`."""
        with self._engine.connect() as connection:
            version = queries.get_by_digest(connection, digest)
        if version is None:
            raise UnknownDigest(f"no version has the digest {digest}.", digest=digest)
        return version

    def list_assets(self, kind: str | None = None) -> list[Asset]:
        """Return all assets, or those of one kind, by kind and name."""
        with self._engine.connect() as connection:
            return queries.list_assets(connection, kind)

    def list_versions(self, kind: str, name: str) -> list[Version]:
        """Return the versions of an asset, newest first; raises `UnknownAsset`."""
        with self._engine.connect() as connection:
            versions = queries.list_versions(connection, kind, name)
            if not versions:
                raise _unknown_asset(connection, kind, name)
        return versions

    def aliases(self, kind: str, name: str) -> dict[str, int]:
        """Return alias to version number; raises `UnknownAsset`."""
        with self._engine.connect() as connection:
            if queries.latest_number(connection, kind, name) is None:
                raise _unknown_asset(connection, kind, name)
            return queries.list_aliases(connection, kind, name)

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
        expected_number: int | Unchecked | None = Unchecked.ANY,
        is_own_check: bool = False,
    ) -> AliasMove:
        """Point `alias` at version `number` and return the recorded move.

        A protected alias needs `evidence` (what was compared, and how it came out) or an `override_reason`. Evidence
        that was handed in is checked, for whichever alias, where the registry was given a check, and kept as the check
        has found it; an override keeps why the evidence was refused, none of the evidence itself. `is_own_check` says
        that this program itself has just made it (the parity of a model, the report of an ingest). Never set it for
        others.
        `expected_number` is where the caller saw the alias (None: nowhere); if it stands elsewhere by now,
        nothing happens and `AliasMoved` is raised. Moving to where it stands already records nothing and
        returns the move that brought it there.
        Raises `UnknownAsset`, `UnknownVersion`, `ProtectedAlias`, `AliasMoved`, `InvalidInput`, what the check of
        evidence raises, a `PolicyError`, and what the check of the target raises.
        """
        _check_alias(kind, name, alias)
        is_override = False
        kept = evidence or None
        if not (is_own_check and evidence):
            kept, refusal = self._look_at(kind, name, alias, number, evidence)
            if refusal is not None and not (self.protects(alias) and (override_reason or "").strip()):
                raise refusal
            is_override = refusal is not None
        text = encode_json(kept, what="The evidence", max_bytes=MAX_CONTENT_BYTES) if kept else None
        with self._engine.begin() as connection:
            _hold(connection, kind, name)
            _require_number(connection, kind, name, number)
            current = queries.list_aliases(connection, kind, name).get(alias)
            _check_expected(kind, name, alias, current, expected_number)
            if current == number:
                standing = queries.last_move(connection, kind, name, alias)
                assert standing is not None
                return standing
            self._require_whole(connection, kind, name, number)
            queries.set_alias(connection, kind, name, alias, number, is_new=current is None)
            return self._record(
                connection,
                kind=kind,
                name=name,
                alias=alias,
                from_number=current,
                to_number=number,
                actor=actor,
                evidence=text,
                reason=override_reason if is_override else (reason or override_reason),
                is_override=is_override,
                undoes=None,
            )

    def rollback_alias(
        self,
        kind: str,
        name: str,
        alias: str,
        *,
        actor: str,
        reason: str | None = None,
        expected_number: int | Unchecked | None = Unchecked.ANY,
    ) -> AliasMove:
        """Take back the newest move that still stands, and return the rollback, itself a recorded move.

        Needs no evidence, protected or not: the way back must always be open. Each further rollback goes one
        move further back. Raises `UnknownAsset`, `UnknownAlias`, `AliasMoved`, `NothingToRollBack`, and what the
        check of the target raises.
        """
        with self._engine.begin() as connection:
            _hold(connection, kind, name)
            aliases = queries.list_aliases(connection, kind, name)
            if alias not in aliases:
                raise UnknownAlias(asset=f"{kind}:{name}", alias=alias, known=aliases)
            _check_expected(kind, name, alias, aliases[alias], expected_number)
            standing = queries.last_standing_move(connection, kind, name, alias)
            if standing is None or standing.from_number is None:
                raise NothingToRollBack(
                    f"alias {alias!r} of {kind}:{name} has no earlier target.",
                    hint="Move it to the version you want.",
                    asset=f"{kind}:{name}",
                    alias=alias,
                )
            self._require_whole(connection, kind, name, standing.from_number)
            queries.set_alias(connection, kind, name, alias, standing.from_number, is_new=False)
            return self._record(
                connection,
                kind=kind,
                name=name,
                alias=alias,
                from_number=aliases[alias],
                to_number=standing.from_number,
                actor=actor,
                evidence=None,
                reason=reason,
                is_override=False,
                undoes=standing.id,
            )

    def history(
        self, kind: str, name: str, alias: str | None = None, *, limit: int = 1000
    ) -> list[AliasMove]:
        """Return the moves of one alias, or of all aliases of the asset, newest first.

        Raises `UnknownAsset`, `UnknownAlias`.
        """
        with self._engine.connect() as connection:
            if queries.latest_number(connection, kind, name) is None:
                raise _unknown_asset(connection, kind, name)
            moves = queries.list_moves(connection, kind, name, alias, limit)
            if not moves and alias is not None:
                known = queries.list_aliases(connection, kind, name)
                raise UnknownAlias(asset=f"{kind}:{name}", alias=alias, known=known)
        return moves

    def overrides(self, *, limit: int = 100) -> list[AliasMove]:
        """Return the moves of protected aliases that a reason stood for in the place of evidence, newest first."""
        with self._engine.connect() as connection:
            return queries.list_overrides(connection, limit)

    def is_artefact(self, digest: str) -> bool:
        """Return whether a version keeps the blob of this digest, as an artefact or by naming it."""
        with self._engine.connect() as connection:
            return queries.names_digest(connection, digest)

    def lineage(self, version: Version | AssetRef | str) -> Lineage:
        """Return everything the version was made from and everything made from it."""
        digest = version.digest if isinstance(version, Version) else self.resolve(version).digest
        with self._engine.connect() as connection:
            up = queries.walk_lineage(connection, digest, upward=True)
            down = queries.walk_lineage(connection, digest, upward=False)
            around = {digest, *(node.digest for node in up), *(node.digest for node in down)}
            edges = queries.list_edges(connection, around)
        return Lineage(digest=digest, up=tuple(up), down=tuple(down), edges=tuple(edges))

    def protects(self, alias: str) -> bool:
        """Return whether an alias of this name moves on evidence alone, or on an override."""
        return alias in self._protected

    def _look_at(
        self, kind: str, name: str, alias: str, number: int, evidence: dict[str, Any] | None
    ) -> tuple[dict[str, Any] | None, PolicyError | None]:
        """Return the evidence as it is kept, and why the alias may not move on it, or None where it may."""
        asset = f"{kind}:{name}"
        if not evidence:
            return None, ProtectedAlias(asset=asset, alias=alias) if self.protects(alias) else None
        if self._check_evidence is None:
            return evidence, None
        with self._engine.connect() as connection:
            if queries.latest_number(connection, kind, name) is None:
                raise _unknown_asset(connection, kind, name)
            _require_number(connection, kind, name, number)
            version = queries.get_version(connection, kind, name, number)
        assert version is not None
        try:
            return self._check_evidence(asset, version.stamp, evidence), None
        except PolicyError as refusal:
            return {
                "kind": "override",
                "refused": {"code": refusal.code, "message": refusal.message},
            }, refusal

    def _require_whole(self, connection: Connection, kind: str, name: str, number: int) -> None:
        version = queries.get_version(connection, kind, name, number)
        if version is not None:
            self._check_target(version)

    def _resolve(self, connection: Connection, ref: AssetRef) -> Version:
        kind, name, asset = ref.kind, ref.name, f"{ref.kind}:{ref.name}"
        latest = queries.latest_number(connection, kind, name)
        if latest is None:
            raise _unknown_asset(connection, kind, name)
        if ref.digest is not None:
            found = queries.find_by_prefix(connection, kind, name, ref.digest)
            if len(found) > 1:
                raise AmbiguousDigest(
                    f"{len(found)} versions of {asset} begin with {ref.digest}.",
                    hint="Write more of the digest.",
                    asset=asset,
                )
            if not found:
                raise UnknownVersion(asset=asset, version=ref.digest, latest=latest)
            return found[0]
        number = latest if ref.alias in {None, LATEST} else None
        if ref.number is not None:
            number = ref.number
        elif ref.alias != LATEST:
            aliases = queries.list_aliases(connection, kind, name)
            number = aliases.get(ref.alias or "prod", number)
            if number is None:
                raise UnknownAlias(asset=asset, alias=ref.alias or "prod", known=aliases)
        assert number is not None
        version = queries.get_version(connection, kind, name, number) if number <= MAX_NUMBER else None
        if version is None:
            raise UnknownVersion(asset=asset, version=str(number), latest=latest)
        return version

    def _find_parents(self, connection: Connection, parents: Sequence[Version | AssetRef | str]) -> list[str]:
        found: list[str] = []
        for parent in parents:
            if isinstance(parent, Version):
                digest = parent.digest
            elif isinstance(parent, AssetRef) or not parent.startswith("sha256:"):
                wanted = parse_asset_ref(parent) if isinstance(parent, str) else parent
                digest = self._resolve(connection, wanted).digest
            else:
                digest = parent
            if queries.get_by_digest(connection, digest) is None:
                raise UnknownDigest(f"no version has the digest {digest}.", digest=digest)
            if digest not in found:
                found.append(digest)
        return found

    def _record(self, connection: Connection, *, actor: str, reason: str | None, **values: Any) -> AliasMove:
        move_id = queries.insert_move(
            connection,
            {
                **values,
                "actor": clean_text(actor)[:200],
                "reason": clean_text(reason) if reason else None,
                "moved_ns": self._clock(),
            },
        )
        return queries.get_move(connection, move_id)


def _check_name(kind: str, name: str) -> None:
    ref = parse_asset_ref(f"{kind}:{name}")
    if (ref.kind, ref.name) != (kind, name) or ref.alias or ref.number is not None or ref.digest:
        raise InvalidInput(f"{kind}:{name} is not an asset.", hint="Give kind and name without a suffix.")


def _check_file_name(file: str) -> None:
    """Raise unless whoever writes artefacts to a folder by their names stays inside of it."""
    if any(part in {"", ".", ".."} for part in file.split("/")) or not _FILE_NAME.fullmatch(file):
        raise InvalidInput(
            f"{file[:200]!r} cannot be the name of an artefact.",
            hint="Name it as a file below a folder: letters, digits, dots, dashes, underscores, parted by slashes.",
        )


def _check_alias(kind: str, name: str, alias: str) -> None:
    _check_name(kind, name)
    if alias == LATEST:
        raise InvalidInput("`latest` always names the highest number and cannot be moved.", alias=alias)
    if parse_asset_ref(f"{kind}:{name}@{alias}").alias != alias:
        raise InvalidInput(f"{alias!r} cannot be an alias: it would read as a number or digest.", alias=alias)


def _hold(connection: Connection, kind: str, name: str) -> None:
    if not queries.lock_asset(connection, kind, name):
        raise _unknown_asset(connection, kind, name)


def _require_number(connection: Connection, kind: str, name: str, number: int) -> None:
    latest = queries.latest_number(connection, kind, name) or 0
    if not 1 <= number <= latest:  # numbers have no gaps: nothing is ever deleted
        raise UnknownVersion(asset=f"{kind}:{name}", version=str(number), latest=latest)


def _check_expected(
    kind: str, name: str, alias: str, current: int | None, expected: int | Unchecked | None
) -> None:
    if isinstance(expected, Unchecked) or current == expected:
        return
    shown = "nowhere" if current is None else f"at version {current}"
    wanted = "nowhere" if expected is None else f"at version {expected}"
    raise AliasMoved(
        f"alias {alias!r} of {kind}:{name} stands {shown}, not {wanted}.",
        hint="Look at its history, then decide again.",
        asset=f"{kind}:{name}",
        alias=alias,
        current=current,
        expected=expected,
    )


def _unknown_asset(connection: Connection, kind: str, name: str) -> UnknownAsset:
    return UnknownAsset(asset=f"{kind}:{name}", known=queries.list_names(connection, kind))
