"""Documents in stores that fsspec opens: object stores (S3, Google, Azure), SFTP, HDFS, SMB, memory.

Each store says in its own words that an object changed; where it says nothing, its objects are read every time.
Addresses of the web are refused here: they have rules of their own, which the kind `web` keeps. So are archives,
caches and whatever else leads on to another place, which nobody would have checked.
"""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import fsspec
import msgspec

from penstock.base.errors import PenstockError
from penstock.knowledge.credentials import Credentials, find_plain, named_secrets
from penstock.knowledge.sources.errors import InvalidSource, ItemUnavailable, MissingReader, SourceUnavailable
from penstock.knowledge.sources.settings import SourceSettings
from penstock.knowledge.sources.tree import Entry, Listing, walk_tree
from penstock.knowledge.sources.types import KnownItem, LeftOut, SourceItem, note_problem

PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "adl": "adlfs",
    "sftp": "paramiko",
    "ssh": "paramiko",
    "hdfs": "pyarrow",
    "smb": "smbprotocol",
}
"""What to install for an address of each scheme, beyond what is here."""
_LOCAL = frozenset({"file", "local"})
SCHEMES = frozenset({*PACKAGES, *_LOCAL, "memory"})
"""Others would lead on to further places by their options: archives, caches, the web."""
_LEADS_ON = frozenset(
    {"fo", "fs", "target_protocol", "target_options", "remote_protocol", "ref_storage_args"}
)
_PLACELESS = frozenset(
    {
        "access_key",
        "account_key",
        "addressing_style",
        "anon",
        "client_id",
        "client_secret",
        "connect_timeout",
        "connection_string",
        "key",
        "passphrase",
        "password",
        "project",
        "read_timeout",
        "region_name",
        "requester_pays",
        "sas_token",
        "secret",
        "secret_key",
        "signature_version",
        "tenant_id",
        "timeout",
        "token",
        "use_ssl",
        "username",
        "version_aware",
        *("client_kwargs", "config_kwargs"),
    }
)
"""Options beside which a secret may stand: none of them says where requests go."""
_WITH_ENDPOINT = frozenset({"s3", "s3a", "gs", "gcs"})
_WITH_ACCOUNT = frozenset({"az", "abfs", "abfss", "adl"})
"""Stores that read `endpoint_url` and `account_name`; a secret is bound to what these say."""
_PLAIN_PLACE = re.compile(r"[a-z0-9]+://(?:[A-Za-z0-9$._-]+@)?[A-Za-z0-9._-]+(?::[0-9]{1,5})?(?:/[^@\\\s]*)?")
"""Every reader of addresses finds the same host in it."""
_OWN_TOKENS = frozenset({"anon", "browser", "cache", "cloud", "google_default"})
_STAMPS = (
    "ETag",
    "etag",
    "md5",
    "md5Hash",
    "generation",
    "version_id",
    "VersionId",
    "content_md5",
    "checksum",
)
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "modified", "created")


class StoreSettings(SourceSettings, frozen=True, kw_only=True):
    """`location` is an address such as `s3://bucket/docs`."""

    options: dict[str, str | int | float | bool | dict[str, str]] = msgspec.field(default_factory=dict)
    """What its file system takes, such as `key`, `secret`, `endpoint_url`, `anon`; credentials as
    `{{secret:NAME}}`."""

    def local_places(self) -> list[str]:
        """Return the folder, where the address is one of this machine."""
        scheme, _, rest = self.location.partition("://")
        return [f"/{rest.lstrip('/')}"] if scheme in _LOCAL else []

    def secret_address(self) -> str:
        """Return its own endpoint where one is named, the host of its account at Azure, else the address."""
        scheme = self.location.partition("://")[0]
        endpoint, account = self.options.get("endpoint_url"), self.options.get("account_name")
        if scheme in _WITH_ENDPOINT and isinstance(endpoint, str):
            return endpoint
        if scheme in _WITH_ACCOUNT and isinstance(account, str):
            return f"https://{account}.blob.core.windows.net"
        return self.location

    def check(self) -> None:
        """Also refuse addresses that are none of a store."""
        super().check()
        scheme, mark, _ = self.location.partition("://")
        if not mark or "::" in self.location:
            raise InvalidSource(
                f"{self.location!r} is no address of a store.", hint="Such as s3://bucket/documents."
            )
        if scheme not in SCHEMES:
            raise InvalidSource(
                f"A store cannot be {scheme}://.",
                hint="The kind `web` reads pages."
                if scheme in {"http", "https"}
                else f"It can be: {', '.join(sorted(SCHEMES))}.",
            )
        self._check_options()
        if "@" in self.location.partition("://")[2].partition("/")[0] and scheme not in {
            "abfs",
            "abfss",
            "adl",
            "az",
        }:
            raise InvalidSource(
                "An address of a store holds no user and password.",
                hint="Name them in `options`, such as --set 'options={password = \"{{secret:sftp}}\"}'.",
            )

    def _check_options(self) -> None:
        for name in self.options:
            if name in _LEADS_ON:
                raise InvalidSource(f"`options` cannot have {name!r}: it leads to a place of another kind.")
        for name in find_plain(self.options):
            if name == "token" and self.options.get(name) in _OWN_TOKENS:
                continue
            raise InvalidSource(
                f"`options` has {name!r} as plain text.",
                hint="Put it into the vault: penstock secret set NAME; then write {{secret:NAME}} in its place.",
            )
        if not named_secrets([json.dumps(self.options)]):
            return
        scheme, _, rest = self.location.partition("://")
        placing = ("endpoint_url",) if scheme in _WITH_ENDPOINT else ()
        if scheme in _WITH_ACCOUNT and "@" not in rest.partition("/")[0]:
            placing = ("account_name",)
        inner = [name for value in self.options.values() if isinstance(value, dict) for name in value]
        strange = [name for name in self.options if name not in {*_PLACELESS, *placing}]
        strange += [name for name in inner if name not in _PLACELESS]
        if not strange and not _PLAIN_PLACE.fullmatch(self.secret_address()):
            strange = [f"{self.secret_address()} as its place"]
        if strange:
            raise InvalidSource(
                f"Beside a secret `options` cannot have {strange[0]!r}.",
                hint="A secret goes to the place that it was entered for alone; `endpoint_url` says another one.",
            )


class StoreSource:
    """Objects below an address."""

    def __init__(self, source_id: str, settings: StoreSettings, credentials: Credentials) -> None:
        self.complete = False
        self.problems: list[str] = []
        self._source_id = source_id
        self._settings = settings
        self._credentials = credentials

    def scan(self, known: Mapping[str, KnownItem]) -> Iterator[SourceItem | LeftOut]:
        """Yield what lies below the address; raise `MissingReader` or `SourceUnavailable`."""
        del known
        files, root = self._open()
        yield from walk_tree(self._source_id, self._list(files, root), self._settings)
        self.complete = not self.problems

    def _open(self) -> tuple[Any, str]:
        location = self._settings.location
        scheme = location.partition("://")[0]
        options = {key: self._fill(value) for key, value in self._settings.options.items()}
        try:
            files, root = fsspec.core.url_to_fs(
                location, skip_instance_cache=scheme != "memory", use_listings_cache=False, **options
            )
        except ImportError as error:
            package = PACKAGES.get(scheme)
            raise MissingReader(
                f"Reading {scheme}:// needs a library that is not installed: {error}.",
                hint=f"Install it: pip install {package}" if package else None,
            ) from error
        except PenstockError:
            raise
        except Exception as error:  # each file system raises what its library does
            raise self._unavailable(error) from error
        return files, str(root).rstrip("/")

    def _fill(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._credentials.fill(value)
        if isinstance(value, dict):
            return {key: self._fill(each) for key, each in value.items()}
        return value

    def _list(self, files: Any, root: str) -> Iterator[Listing]:
        # fsspec's own `walk` passes over errors below the first level, whatever it is told to do with them.
        waiting = [(root, "")]
        while waiting:
            place, path = waiting.pop()
            try:
                listed = files.ls(place, detail=True)
            except Exception as error:  # each file system raises what its library does
                if not path:
                    raise self._unavailable(error) from error
                told = self._told(error)
                note_problem(self.problems, f"{path} cannot be listed: {told}")
                reason = f"cannot be listed: {told}"
                yield Listing(
                    path=path, files={}, left_out=(LeftOut(path=path, reason=reason, is_unreadable=True),)
                )
                continue
            left_out: list[LeftOut] = []
            entries: dict[str, Entry] = {}
            folders: list[tuple[str, str]] = []
            for info in listed:
                own = str(info["name"]).rstrip("/")
                name = own.rpartition("/")[2]
                if info.get("type") != "directory":
                    if name and (path or own != place):
                        entries[name] = self._entry(files, info)
                elif own == place:  # some stores list a folder within itself
                    continue
                elif against := _reason_against(name, info):
                    left_out.append(LeftOut(path=f"{path}{name}/", reason=against))
                else:
                    folders.append((own, f"{path}{name}/"))
            yield Listing(path=path, files=entries, left_out=tuple(left_out))
            waiting.extend(sorted(folders, reverse=True))

    def _entry(self, files: Any, info: Mapping[str, Any]) -> Entry:
        name = str(info["name"])
        size = info.get("size")
        short = name.rpartition("/")[2]
        return Entry(
            size_bytes=int(size) if size is not None else None,
            token=make_token(info),
            modified_ns=_modified_ns(info),
            read=lambda: self._read(files, name),
            reason=_reason_against(short, info),
        )

    def _read(self, files: Any, name: str) -> bytes:
        try:
            # One byte more than the limit shows that it is too large, whatever the listing said.
            return bytes(files.cat_file(name, start=0, end=self._settings.max_bytes + 1))
        except Exception as error:  # see above
            raise ItemUnavailable(f"It cannot be fetched: {self._told(error)}.") from error

    def _unavailable(self, error: Exception) -> SourceUnavailable:
        return SourceUnavailable(f"{self._settings.location} cannot be listed: {self._told(error)}.")

    def _told(self, error: Exception) -> str:
        return self._credentials.hide(f"{type(error).__name__}: {error}".strip())[:500]


def _reason_against(name: str, info: Mapping[str, Any]) -> str | None:
    if info.get("islink") or info.get("type") == "link":
        return "symbolic links are not followed"
    return "hidden" if name.startswith(".") else None


def make_token(info: Mapping[str, Any]) -> str | None:
    """Return what shows that an object is the same, or None when its store says nothing but a size."""
    told = [f"{key}={info[key]}" for key in (*_STAMPS, *_TIMES) if info.get(key)]
    if not told:
        return None
    return " ".join([f"size={info.get('size')}", *told])


def _modified_ns(info: Mapping[str, Any]) -> int | None:
    for key in _TIMES:
        value = info.get(key)
        if isinstance(value, datetime):
            moment = value if value.tzinfo else value.replace(tzinfo=UTC)
            return int(moment.timestamp() * 1_000_000) * 1000
        if isinstance(value, int | float) and value > 0:
            return int(value * 1_000_000) * 1000
    return None
