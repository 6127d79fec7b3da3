"""All SQL of the registry, for SQLite and PostgreSQL alike. Transactions are the caller's."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, func, insert, literal, or_, select, text, update

from penstock.base.json_text import decode_json
from penstock.registry.types import AliasMove, Asset, LineageNode, Version
from penstock.store.control.tables.registry import (
    alias_moves,
    asset_aliases,
    asset_versions,
    assets,
    version_parents,
)

_ADD_ASSET = text(
    "INSERT INTO assets (kind, name, created_ns) VALUES (:kind, :name, :created_ns) ON CONFLICT DO NOTHING"
)


def lock_asset(connection: Connection, kind: str, name: str) -> bool:
    """Hold the asset until the transaction ends, so that its versions and aliases change one by one."""
    query = select(assets.c.name).where(assets.c.kind == kind, assets.c.name == name).with_for_update()
    return connection.execute(query).first() is not None


def add_asset(connection: Connection, kind: str, name: str, created_ns: int) -> None:
    """Add the asset unless it is there, and hold it."""
    connection.execute(_ADD_ASSET, {"kind": kind, "name": name, "created_ns": created_ns})
    lock_asset(connection, kind, name)


def latest_number(connection: Connection, kind: str, name: str) -> int | None:
    """Return the highest version number, or None when there is no such asset."""
    query = select(func.max(asset_versions.c.number)).where(_of(asset_versions, kind, name))
    return connection.execute(query).scalar()


def list_names(connection: Connection, kind: str) -> list[str]:
    """Return `kind:name` of every asset of a kind."""
    query = select(assets.c.name).where(assets.c.kind == kind).order_by(assets.c.name)
    return [f"{kind}:{name}" for name in connection.execute(query).scalars()]


def insert_version(connection: Connection, values: dict[str, Any], parents: Sequence[str]) -> None:
    """Add a version and its edges. Parents must be there already, so that no cycle can be written."""
    connection.execute(insert(asset_versions).values(**values))
    for position, parent in enumerate(parents):
        connection.execute(
            insert(version_parents).values(child=values["digest"], parent=parent, position=position)
        )


def get_version(connection: Connection, kind: str, name: str, number: int) -> Version | None:
    """Return one version by its number."""
    return _one(connection, and_(_of(asset_versions, kind, name), asset_versions.c.number == number))


def get_by_digest(connection: Connection, digest: str) -> Version | None:
    """Return one version by its whole digest, of whatever asset."""
    return _one(connection, asset_versions.c.digest == digest)


def find_by_prefix(connection: Connection, kind: str, name: str, prefix: str) -> list[Version]:
    """Return the versions of an asset whose digest begins with `prefix`, at most ten."""
    condition = and_(_of(asset_versions, kind, name), asset_versions.c.digest.startswith(prefix))
    return _versions(connection, condition, limit=10)


def list_versions(connection: Connection, kind: str, name: str) -> list[Version]:
    """Return all versions of an asset, newest first."""
    return _versions(connection, _of(asset_versions, kind, name))


def list_assets(connection: Connection, kind: str | None) -> list[Asset]:
    """Return assets by kind and name, with their aliases."""
    versions, aliases = asset_versions, asset_aliases
    query = (
        select(
            assets.c.kind,
            assets.c.name,
            assets.c.created_ns,
            func.count().label("n_versions"),
            func.max(versions.c.number).label("latest"),
            func.max(versions.c.created_ns).label("updated_ns"),
        )
        .join(versions, and_(versions.c.kind == assets.c.kind, versions.c.name == assets.c.name))
        .group_by(assets.c.kind, assets.c.name, assets.c.created_ns)
        .order_by(assets.c.kind, assets.c.name)
    )
    named = select(aliases).order_by(aliases.c.alias)
    if kind is not None:
        query, named = query.where(assets.c.kind == kind), named.where(aliases.c.kind == kind)
    found: dict[tuple[str, str], dict[str, int]] = {}
    for row in connection.execute(named):
        found.setdefault((row.kind, row.name), {})[row.alias] = row.number
    return [
        Asset(**row._mapping, aliases=found.get((row.kind, row.name), {}))  # noqa: SLF001 - documented name
        for row in connection.execute(query)
    ]


def list_aliases(connection: Connection, kind: str, name: str) -> dict[str, int]:
    """Return alias to version number of one asset."""
    query = select(asset_aliases.c.alias, asset_aliases.c.number).where(_of(asset_aliases, kind, name))
    return {row.alias: row.number for row in connection.execute(query.order_by(asset_aliases.c.alias))}


def set_alias(connection: Connection, kind: str, name: str, alias: str, number: int, *, is_new: bool) -> None:
    """Point the alias at a version. The caller holds the asset."""
    if is_new:
        row = insert(asset_aliases).values(kind=kind, name=name, alias=alias, number=number)
        connection.execute(row)
        return
    change = update(asset_aliases).where(_of(asset_aliases, kind, name), asset_aliases.c.alias == alias)
    connection.execute(change.values(number=number))


def insert_move(connection: Connection, values: dict[str, Any]) -> int:
    """Record a move and return its id. The caller holds the asset, so ids follow the order of moves."""
    move_id = connection.execute(
        insert(alias_moves).values(**values).returning(alias_moves.c.id)
    ).scalar_one()
    return int(move_id)


def get_move(connection: Connection, move_id: int) -> AliasMove:
    """Return one recorded move."""
    return _move(connection.execute(select(alias_moves).where(alias_moves.c.id == move_id)).one())


def last_move(connection: Connection, kind: str, name: str, alias: str) -> AliasMove | None:
    """Return the newest move of the alias, rollbacks included."""
    query = select(alias_moves).where(_of(alias_moves, kind, name), alias_moves.c.alias == alias)
    row = connection.execute(query.order_by(alias_moves.c.id.desc()).limit(1)).one_or_none()
    return _move(row) if row is not None else None


def last_standing_move(connection: Connection, kind: str, name: str, alias: str) -> AliasMove | None:
    """Return the newest move that is no rollback and was not rolled back."""
    undone = select(alias_moves.c.undoes).where(
        _of(alias_moves, kind, name), alias_moves.c.alias == alias, alias_moves.c.undoes.is_not(None)
    )
    query = select(alias_moves).where(
        _of(alias_moves, kind, name),
        alias_moves.c.alias == alias,
        alias_moves.c.undoes.is_(None),
        alias_moves.c.id.not_in(undone),
    )
    row = connection.execute(query.order_by(alias_moves.c.id.desc()).limit(1)).one_or_none()
    return _move(row) if row is not None else None


def list_moves(
    connection: Connection, kind: str, name: str, alias: str | None, limit: int
) -> list[AliasMove]:
    """Return recorded moves of one alias or of all of the asset's, newest first."""
    query = select(alias_moves).where(_of(alias_moves, kind, name))
    if alias is not None:
        query = query.where(alias_moves.c.alias == alias)
    return [_move(row) for row in connection.execute(query.order_by(alias_moves.c.id.desc()).limit(limit))]


def list_overrides(connection: Connection, limit: int) -> list[AliasMove]:
    """Return the moves of protected aliases without evidence, of all assets, newest first."""
    query = select(alias_moves).where(alias_moves.c.is_override.is_(True))
    return [_move(row) for row in connection.execute(query.order_by(alias_moves.c.id.desc()).limit(limit))]


def walk_lineage(connection: Connection, digest: str, *, upward: bool) -> list[LineageNode]:
    """Return every version that can be reached along the edges, nearest first, without the start."""
    here, there = (version_parents.c.child, version_parents.c.parent)
    if not upward:
        here, there = there, here
    walk = select(literal(digest).label("digest"), literal(0).label("distance")).cte("walk", recursive=True)
    # UNION drops a (version, distance) that was seen before, so diamonds cost no more than their width.
    walk = walk.union(select(there, walk.c.distance + 1).where(here == walk.c.digest))
    query = (
        select(
            asset_versions.c.kind,
            asset_versions.c.name,
            asset_versions.c.number,
            asset_versions.c.digest,
            func.min(walk.c.distance).label("distance"),
        )
        .join(walk, walk.c.digest == asset_versions.c.digest)
        .where(walk.c.distance > 0)
        .group_by(
            asset_versions.c.kind, asset_versions.c.name, asset_versions.c.number, asset_versions.c.digest
        )
        .order_by("distance", asset_versions.c.kind, asset_versions.c.name, asset_versions.c.number)
    )
    return [LineageNode(**row._mapping) for row in connection.execute(query)]  # noqa: SLF001 - documented name


def list_edges(connection: Connection, digests: Iterable[str]) -> list[tuple[str, str]]:
    """Return (child, parent) for every edge between two of the given versions."""
    among = set(digests)
    found: list[tuple[str, str]] = []
    ordered = sorted(among)
    for start in range(0, len(ordered), 500):  # well below the parameter limit of either database
        part = ordered[start : start + 500]
        query = select(version_parents.c.child, version_parents.c.parent).where(
            version_parents.c.child.in_(part)
        )
        found += [(row.child, row.parent) for row in connection.execute(query) if row.parent in among]
    return sorted(found)


def _of(table: Any, kind: str, name: str) -> Any:
    return and_(table.c.kind == kind, table.c.name == name)


def names_digest(connection: Connection, digest: str) -> bool:
    """Return whether a version keeps or names the blob of this digest."""
    query = select(asset_versions.c.number).where(
        or_(asset_versions.c.artefacts.contains(digest), asset_versions.c.content.contains(digest))
    )
    return connection.execute(query.limit(1)).first() is not None


def _one(connection: Connection, condition: Any) -> Version | None:
    found = _versions(connection, condition, limit=1)
    return found[0] if found else None


def _versions(connection: Connection, condition: Any, *, limit: int | None = None) -> list[Version]:
    query = select(asset_versions).where(condition).order_by(asset_versions.c.number.desc()).limit(limit)
    rows = connection.execute(query).all()
    edges = (
        select(version_parents)
        .join(asset_versions, asset_versions.c.digest == version_parents.c.child)
        .where(condition)
        .order_by(version_parents.c.child, version_parents.c.position)
    )
    parents: dict[str, list[str]] = {}
    for edge in connection.execute(edges) if rows else ():
        parents.setdefault(edge.child, []).append(edge.parent)
    return [
        Version(
            kind=row.kind,
            name=row.name,
            number=row.number,
            digest=row.digest,
            content=decode_json(row.content),
            artefacts=decode_json(row.artefacts),
            parents=tuple(parents.get(row.digest, ())),
            created_ns=row.created_ns,
            note=row.note,
        )
        for row in rows
    ]


def _move(row: Row[Any]) -> AliasMove:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's documented name for the mapping view
    values["evidence"] = decode_json(values["evidence"]) if values["evidence"] is not None else None
    return AliasMove(**values)
