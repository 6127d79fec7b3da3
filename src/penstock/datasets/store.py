"""Versions of datasets as they are kept: found by reference, opened, and registered from rows that were written.

The surprise: a version is the same when its rows and format are, however they were made; the facts of the first stay, unless another
licence or description is given.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from penstock.base.errors import InvalidInput, NotFound
from penstock.datasets.errors import NewerVersion
from penstock.datasets.ports import Blobs, KeptAsset, KeptVersion, VersionKeeper
from penstock.datasets.stored import StoredRows, open_rows, read_facts
from penstock.datasets.types import DatasetSummary, DatasetVersion
from penstock.datasets.writing import INDEX_FILE, RowWriter, encode_index
from penstock.spec.assets import AssetRef, parse_asset_ref
from penstock.spec.datasets import ROWS_FILE, DatasetFacts

KIND = "dataset"


class DatasetStore:
    """Finds, opens and keeps versions. May be used from any thread."""

    def __init__(
        self, versions: VersionKeeper, blobs: Blobs, hold_folder: Callable[[], AbstractContextManager[Path]]
    ) -> None:
        self._versions, self._blobs, self._hold_folder = versions, blobs, hold_folder
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def find(self, ref: str) -> KeptVersion:
        """Return what a reference names; raise `NotFound`, or `InvalidInput` for a reference to something else."""
        return self._versions.resolve(parse_ref(ref))

    def find_base(self, ref: str) -> KeptVersion:
        """Return what new versions are made from: without a suffix the newest, whatever `prod` names."""
        wanted = parse_ref(ref)
        if wanted.alias is None and wanted.number is None and wanted.digest is None:
            wanted = msgspec.structs.replace(wanted, alias="latest")
        return self._versions.resolve(wanted)

    def find_newest(self, name: str) -> KeptVersion | None:
        """Return the newest version of a dataset, or None when there is none."""
        try:
            return self.find_base(name)
        except NotFound:
            return None

    def check_newest(self, name: str, expected: str | None) -> None:
        """Raise `NewerVersion` when another version than the one of this digest is the newest; None expects nothing."""
        found = None if expected is None else self.find_newest(name)
        if found is not None and found.digest != expected:
            raise NewerVersion(
                f"{label_of(found)} was made while this one was on its way.",
                hint="Start again: what it holds would be lost otherwise.",
            )

    def open(self, version: KeptVersion) -> StoredRows:
        """Return the rows of a version; raise `NoDataset`."""
        return open_rows(version, self._blobs)

    def facts(self, version: KeptVersion) -> DatasetFacts:
        """Return the facts of a version; raise `NoDataset`."""
        return read_facts(version)

    def list_summaries(self) -> list[DatasetSummary]:
        """Return all datasets by name."""
        return [self._summary(asset) for asset in self._versions.list_assets(KIND)]

    def list_versions(self, name: str) -> list[DatasetVersion]:
        """Return the versions that hold rows, newest first; raise `NotFound`."""
        found = self._versions.list_versions(KIND, parse_ref(name).name)
        return [self.describe(version) for version in found if _has_rows(version)]

    def describe(self, version: KeptVersion) -> DatasetVersion:
        """Return a version with its facts and aliases; raise `NoDataset`."""
        aliases = self._versions.aliases(KIND, version.name)
        return DatasetVersion(
            name=version.name,
            number=version.number,
            ref=label_of(version),
            stamp=version.stamp,
            digest=version.digest,
            facts=read_facts(version),
            parents=list(version.parents),
            created_ns=version.created_ns,
            note=version.note,
            aliases=sorted(name for name, number in aliases.items() if number == version.number),
        )

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Keep everybody else of this process from making versions of a dataset meanwhile, so that none is lost."""
        with self._locks[parse_ref(name).name]:
            yield

    @contextmanager
    def draft(self) -> Iterator[RowWriter]:
        """Yield a writer whose rows can be kept; without that they are gone afterwards."""
        with self.folder() as folder, RowWriter(folder / ROWS_FILE) as writer:
            yield writer

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """Yield an empty folder that goes away afterwards."""
        with self._hold_folder() as held, TemporaryDirectory(prefix="dataset-", dir=held) as folder:
            yield Path(folder)

    def keep(
        self, name: str, writer: RowWriter, facts: DatasetFacts, *, parents: Sequence[str], note: str
    ) -> DatasetVersion:
        """Return the version that holds what was written; it is new unless the newest holds the same rows and a
        licence or description that was given is the newest's, too.

        Rows that an older version held become a version of their own: the next change is made from the newest.
        """
        plain = parse_ref(name).name
        index = writer.finish()
        newest, known = self._find_same(plain, facts)
        if known is not None and newest is not None:
            if known.number != newest.number:
                facts = msgspec.structs.replace(facts, restores=known.number, follows=newest.number)
            elif (told := _tell_more(read_facts(newest), facts)) is None:
                return self.describe(newest)
            else:
                facts = told
        artefacts = {
            ROWS_FILE: self._blobs.put_file(writer.path),
            INDEX_FILE: self._blobs.put_bytes(encode_index(index)),
        }
        content: dict[str, Any] = msgspec.to_builtins(facts)
        version = self._versions.register(
            KIND, plain, content, artefacts=artefacts, parents=parents, note=note
        )
        return msgspec.structs.replace(self.describe(version), is_new=True)

    def _find_same(self, name: str, facts: DatasetFacts) -> tuple[KeptVersion | None, KeptVersion | None]:
        """Return the newest version, and the newest of those that hold the same rows."""
        try:
            versions = self._versions.list_versions(KIND, name)
        except NotFound:
            return None, None
        for version in versions:
            content = version.content
            if content.get("rows_digest") == facts.rows_digest and content.get("format") == facts.format:
                return versions[0], version
        return versions[0], None

    def _summary(self, asset: KeptAsset) -> DatasetSummary:
        newest = self._versions.resolve(AssetRef(kind="dataset", name=asset.name, alias="latest"))
        facts: Mapping[str, Any] = newest.content if _has_rows(newest) else {}
        return DatasetSummary(
            name=asset.name,
            latest=asset.latest,
            n_versions=asset.n_versions,
            aliases=dict(asset.aliases),
            created_ns=asset.created_ns,
            updated_ns=asset.updated_ns,
            format=facts.get("format"),
            n_rows=facts.get("n_rows"),
            splits=facts.get("splits", {}),
            description=facts.get("description", ""),
        )


def parse_ref(text: str) -> AssetRef:
    """Return the reference that `NAME`, `NAME@3` or `dataset:NAME@prod` writes; raise `InvalidInput`."""
    ref = parse_asset_ref(text if ":" in text.partition("@")[0] else f"{KIND}:{text}")
    if ref.kind != KIND:
        raise InvalidInput(f"{text!r} names no dataset.", hint="Write NAME, NAME@3 or dataset:NAME@prod.")
    return ref


def label_of(version: KeptVersion) -> str:
    """Return `dataset:NAME@NUMBER`."""
    return f"{KIND}:{version.name}@{version.number}"


def _tell_more(known: DatasetFacts, given: DatasetFacts) -> DatasetFacts | None:
    """Return the facts of the same rows with the licence and the description that were given, or None where these are known."""
    told = msgspec.structs.replace(
        known,
        license=given.license or known.license,
        description=given.description or known.description,
    )
    return None if told == known else told


def _has_rows(version: KeptVersion) -> bool:
    return ROWS_FILE in version.artefacts and INDEX_FILE in version.artefacts
