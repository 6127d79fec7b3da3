"""Fetches the row files of a dataset repository from a hub that speaks Hugging Face's API; only when asked to.

The revision is pinned to its commit first, and each file is held against the digest that the hub states.
"""

import json
import re
import shutil
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import IO, Any

import msgspec

from penstock.base.digest import digest_file
from penstock.base.errors import InvalidInput, UpstreamUnavailable
from penstock.datasets.errors import UnreadableSource
from penstock.datasets.types import Tell

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_ROWS = re.compile(r"(?!.*(^|/)\.)[\w./ -]+\.(parquet|jsonl|ndjson|json|csv|tsv)")
_ORDER = ("parquet", "jsonl", "ndjson", "json", "csv", "tsv")
MAX_BYTES = 20 * 1024**3
_TIMEOUT_S = 60.0


class HubAccess(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach the hub."""

    endpoint: str = "https://huggingface.co"
    token: str | None = None


def fetch_repository(name: str, folder: Path, hub: HubAccess, tell: Tell | None = None) -> str:
    """Put the row files of `ORG/NAME[@REVISION]` into `folder` and return `ORG/NAME@COMMIT`.

    Raises `InvalidInput`, `UnreadableSource` and `UpstreamUnavailable`.
    """
    repository, _, revision = name.partition("@")
    if not _REPOSITORY.fullmatch(repository):
        raise InvalidInput(
            f"{repository!r} is no repository.", hint="Write hub:ORG/NAME or hub:ORG/NAME@REVISION."
        )
    told = _info(repository, revision or "main", hub)
    files = _choose(told.get("siblings", []), name)
    commit = str(told["sha"])
    for number, file in enumerate(files):
        if tell is not None:
            tell(number / len(files), f"fetching {file['rfilename']}")
        _fetch(repository, commit, file, folder, hub)
    return f"{repository}@{commit}"


def _info(repository: str, revision: str, hub: HubAccess) -> dict[str, Any]:
    path = f"/api/datasets/{repository}/revision/{urllib.parse.quote(revision, safe='')}?blobs=true"
    with _open(hub, path, repository) as reply:
        try:
            told = json.load(reply)
        except ValueError as error:
            raise UpstreamUnavailable(f"The hub answered no JSON about {repository}.") from error
    if not isinstance(told, dict) or "sha" not in told:
        raise UpstreamUnavailable(f"The hub said nothing usable about {repository}.")
    return told


def _choose(siblings: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    by_suffix: dict[str, list[dict[str, Any]]] = {}
    for file in siblings:
        path = str(file.get("rfilename", ""))
        if _ROWS.fullmatch(path) and ".." not in path and not path.endswith("dataset_infos.json"):
            by_suffix.setdefault(path.rpartition(".")[2], []).append(file)
    suffix = next((each for each in _ORDER if each in by_suffix), None)
    if suffix is None:
        raise UnreadableSource(
            f"hub:{name} holds no Parquet, JSON lines, JSON or CSV file.",
            hint="Repositories that need a script of their own are not run here.",
        )
    files = by_suffix[suffix]
    size = sum(int(file.get("size") or 0) for file in files)
    if size > MAX_BYTES:
        raise UnreadableSource(
            f"hub:{name} has {size / 1e9:,.0f} GB of rows; at most {MAX_BYTES / 1e9:,.0f} are read."
        )
    return files


def _fetch(repository: str, commit: str, file: dict[str, Any], folder: Path, hub: HubAccess) -> None:
    path = str(file["rfilename"])
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    address = f"/datasets/{repository}/resolve/{commit}/{urllib.parse.quote(path)}"
    with _open(hub, address, repository) as reply, target.open("wb") as writing:
        shutil.copyfileobj(reply, writing, 1 << 20)
    stated = file.get("lfs") or {}
    wanted = stated.get("sha256") or stated.get("oid")
    if wanted and digest_file(target) != f"sha256:{wanted}":
        raise UpstreamUnavailable(
            f"{path} of {repository} is not what the hub says it is.", hint="Try again."
        )
    if not wanted and file.get("size") is not None and target.stat().st_size != file["size"]:
        raise UpstreamUnavailable(f"{path} of {repository} came in part only.", hint="Try again.")


def _open(hub: HubAccess, path: str, repository: str) -> IO[bytes]:
    if not hub.endpoint.startswith(("https://", "http://127.0.0.1")):
        raise InvalidInput(f"The hub {hub.endpoint!r} is not reached by https.")
    request = urllib.request.Request(f"{hub.endpoint}{path}")  # noqa: S310 - its scheme was just checked
    if hub.token:
        request.add_unredirected_header("authorization", f"Bearer {hub.token}")
    try:
        reply: IO[bytes] = urllib.request.urlopen(request, timeout=_TIMEOUT_S)  # noqa: S310 - as above
    except urllib.error.HTTPError as error:
        if error.code in {401, 403, 404}:
            raise UnreadableSource(
                f"The hub has no data set {repository} for us (status {error.code})."
            ) from error
        raise UpstreamUnavailable(f"The hub answered {error.code} about {repository}.") from error
    except OSError as error:
        raise UpstreamUnavailable(f"The hub cannot be reached: {error}.") from error
    return reply
