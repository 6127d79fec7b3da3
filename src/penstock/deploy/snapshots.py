"""Builds, writes and reads snapshots: the only way configuration reaches a gateway.

A snapshot is valid as a whole or refused as a whole, with everything that is wrong. Its digest is over the
JSON itself, so a program with other defaults or more fields still proves the file it was given.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from penstock.base.clock import now_ns as wall_clock
from penstock.base.digest import digest_json
from penstock.base.files import write_atomic
from penstock.deploy.errors import SnapshotDamaged, SnapshotInvalid, SnapshotMissing
from penstock.deploy.rules import find_problems
from penstock.spec.limits import LimitRule
from penstock.spec.routes import KeyRow, PriceRow, Provider, Route
from penstock.spec.snapshot import Limits, Snapshot

MAX_BYTES = 64 * 1024 * 1024
FILE_MODE = 0o600
"""Holds the digests of keys; nobody else's business."""


def draft_snapshot(
    *,
    providers: Iterable[Provider],
    routes: Iterable[Route],
    keys: Iterable[KeyRow],
    limits: Limits | None = None,
    limit_rules: Iterable[LimitRule] = (),
    prices: Iterable[PriceRow] = (),
    secrets: Mapping[str, str] | None = None,
    redis_url_env: str | None = None,
    clock: Callable[[], int] = wall_clock,
) -> Snapshot:
    """Return these rows in their order, not yet proven right and without a digest."""
    return Snapshot(
        digest="",
        written_ns=clock(),
        providers=tuple(sorted(providers, key=lambda provider: provider.name)),
        routes=tuple(sorted(routes, key=lambda route: route.name)),
        keys=tuple(sorted(keys, key=lambda key: key.id)),
        limits=limits or Limits(),
        limit_rules=tuple(sorted(limit_rules, key=lambda rule: rule.name)),
        prices=tuple(sorted(prices, key=lambda price: (price.provider, price.model))),
        secrets=dict(sorted((secrets or {}).items())),
        redis_url_env=redis_url_env,
    )


def build_snapshot(
    *,
    providers: Iterable[Provider],
    routes: Iterable[Route],
    keys: Iterable[KeyRow],
    limits: Limits | None = None,
    limit_rules: Iterable[LimitRule] = (),
    prices: Iterable[PriceRow] = (),
    secrets: Mapping[str, str] | None = None,
    redis_url_env: str | None = None,
    clock: Callable[[], int] = wall_clock,
) -> Snapshot:
    """Return the snapshot of these rows; raises `SnapshotInvalid` with every problem found.

    Rows are sorted, so the same rows in any order have the same digest.
    """
    return finish_snapshot(
        draft_snapshot(
            providers=providers,
            routes=routes,
            keys=keys,
            limits=limits,
            limit_rules=limit_rules,
            prices=prices,
            secrets=secrets,
            redis_url_env=redis_url_env,
            clock=clock,
        )
    )


def finish_snapshot(draft: Snapshot) -> Snapshot:
    """Return the draft with its digest; raises `SnapshotInvalid` with every problem found."""
    if problems := find_problems(draft):
        raise SnapshotInvalid(problems)
    digest = _digest(msgspec.to_builtins(draft))
    if digest is None:
        raise SnapshotInvalid(["it holds text that is no Unicode"])
    return msgspec.structs.replace(draft, digest=digest)


def follow_on(snapshot: Snapshot, former: Snapshot | None) -> Snapshot:
    """Return the snapshot as one written after the former, also where the clock was set back meanwhile: which of two is
    newer is told by when they were written."""
    if former is None or snapshot.written_ns > former.written_ns:
        return snapshot
    return msgspec.structs.replace(snapshot, written_ns=former.written_ns + 1)


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Put the snapshot in the place of the one before: a reader sees the old one or the new one, whole.

    Raises `SnapshotInvalid` when it was not built by `build_snapshot`, or changed since.
    """
    problems = find_problems(snapshot)
    if snapshot.digest != _digest(msgspec.to_builtins(snapshot)):
        problems.append("its digest does not fit its content")
    if problems:
        raise SnapshotInvalid(problems)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, msgspec.json.format(msgspec.json.encode(snapshot), indent=1), mode=FILE_MODE)


def read_snapshot(path: Path) -> Snapshot:
    """Return the snapshot in `path`, proven whole.

    Raises `SnapshotMissing`, `SnapshotDamaged` (no JSON, wrong shape, wrong digest) and `SnapshotInvalid`.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise SnapshotMissing(
            f"There is no snapshot at {path}.", hint="`penstock up` writes one.", path=str(path)
        ) from error
    except OSError as error:
        raise SnapshotDamaged(f"{path} cannot be read: {error.strerror}.", path=str(path)) from error
    return parse_snapshot(data, source=str(path))


def parse_snapshot(data: bytes, *, source: str) -> Snapshot:
    """Return the snapshot that `data` holds; `source` names it in errors. Raises as `read_snapshot`."""
    if len(data) > MAX_BYTES:
        raise _damaged(source, f"it is larger than {MAX_BYTES} bytes")
    if not data.strip():
        raise _damaged(source, "it is empty")
    try:
        raw = json.loads(data)
    except json.JSONDecodeError as error:
        raise _damaged(
            source, f"it is no JSON: line {error.lineno}, column {error.colno}: {error.msg}"
        ) from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise _damaged(source, f"it is no JSON: {type(error).__name__}") from error
    try:
        snapshot = msgspec.convert(raw, Snapshot)
    except msgspec.ValidationError as error:
        raise _damaged(source, f"it is no snapshot: {error}") from error
    if _digest(raw) != snapshot.digest:
        raise _damaged(source, "its digest does not fit its content; it was edited or cut")
    if problems := find_problems(snapshot):
        raise SnapshotInvalid(problems)
    return snapshot


def _digest(values: dict[str, Any]) -> str | None:
    try:
        return digest_json({key: item for key, item in values.items() if key not in {"digest", "written_ns"}})
    except ValueError:  # NaN, infinity, lone surrogates: what no snapshot holds has no digest
        return None


def _damaged(source: str, reason: str) -> SnapshotDamaged:
    return SnapshotDamaged(
        f"The snapshot {source} is damaged: {reason}.",
        hint="`penstock up` and every change of routes or keys write a new one.",
        source=source,
    )
