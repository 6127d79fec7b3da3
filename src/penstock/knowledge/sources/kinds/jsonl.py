"""Documents that are records of a file of JSON lines: one document a record, its fields named in the settings."""

import glob
import gzip
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

import msgspec

from penstock.base.errors import InvalidInput
from penstock.knowledge.sources.errors import UnreadableProperties
from penstock.knowledge.sources.kinds.files import check_pattern, find_files, fixed_part, is_behind_link
from penstock.knowledge.sources.patterns import reason_against
from penstock.knowledge.sources.records import RecordSettings, make_record
from penstock.knowledge.sources.types import KnownItem, LeftOut, SourceItem, note_problem

MAX_LINE_BYTES = 64 * 1024 * 1024
MAX_STRANGE = 1000
"""After so many lines that are no documents, a file is not read on."""


class JsonlSettings(RecordSettings, frozen=True, kw_only=True):
    """`location` is a file or a pattern; files that end in `.gz` are unpacked."""

    watch: bool = False
    """Look for changes every few seconds, and take them up by themselves."""

    def local_places(self) -> list[str]:
        """Return the file, or the folder that the pattern begins in."""
        return [fixed_part(self.location)]

    def check(self) -> None:
        """Also refuse a pattern that leads up again."""
        super().check()
        check_pattern(self.location)


class JsonlSource:
    """Records of files of JSON lines."""

    def __init__(
        self, source_id: str, settings: JsonlSettings, *, clock: Callable[[], int] = time.time_ns
    ) -> None:
        self.complete = False
        self.problems: list[str] = []
        self._source_id = source_id
        self._settings = settings
        self._clock = clock

    def scan(self, known: Mapping[str, KnownItem]) -> Iterator[SourceItem | LeftOut]:
        """Yield one document a record; a line that is no record leaves the scan incomplete. Raises `InvalidInput`."""
        del known
        files = list(find_files(self._settings.location))
        if not files:
            raise InvalidInput(f"There is no file {self._settings.location!r}.")
        for name, place in files:
            if glob.has_magic(self._settings.location) and is_behind_link(place, name):
                yield LeftOut(path=name, reason="symbolic links are not followed")
                continue
            try:
                with _open(place) as file:
                    yield from self._read(name, file)
            except (OSError, EOFError) as error:
                self.problems.append(f"{name} cannot be read to its end: {error}")
        self.complete = not self.problems

    def _read(self, name: str, file: IO[bytes]) -> Iterator[SourceItem | LeftOut]:
        number = n_strange = 0
        while line := file.readline(MAX_LINE_BYTES):
            number += 1
            if not line.strip():
                continue
            found = self._take(f"{name}:{number}", line)
            n_strange += isinstance(found, LeftOut) and found.path == f"{name}:{number}"
            if n_strange > MAX_STRANGE:
                self.problems.append(
                    f"{name} has more than {MAX_STRANGE:,} lines that are no records; it was read to line {number:,}"
                )
                return
            yield found

    def _take(self, where: str, line: bytes) -> SourceItem | LeftOut:
        try:
            record = _decode(line)
        except ValueError as error:
            note_problem(self.problems, f"{where} is no record: {error}")
            return LeftOut(path=where, reason=f"no record: {error}", is_unreadable=True)
        return self._make(where, record)

    def _make(self, where: str, record: dict[str, Any]) -> SourceItem | LeftOut:
        try:
            found = make_record(self._source_id, record, self._settings, where=where)
        except UnreadableProperties as error:
            note_problem(self.problems, error.message)
            return LeftOut(path=where, reason=error.message, is_unreadable=True)
        if isinstance(found, SourceItem):
            reason = reason_against(found.path, self._settings.include, self._settings.exclude)
            return found if reason is None else LeftOut(path=found.path, reason=reason)
        return found


def _decode(line: bytes) -> dict[str, Any]:
    try:
        record = msgspec.json.decode(line.removeprefix(b"\xef\xbb\xbf"))
    except msgspec.DecodeError:
        try:
            record = json.loads(line)  # takes NaN, which some writers leave
        except RecursionError:
            raise ValueError("nested too deeply") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(record, dict):
        raise ValueError("not an object")
    return record


def _open(place: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(place, "rb")) if place.suffix == ".gz" else place.open("rb")
