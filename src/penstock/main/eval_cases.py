"""Cases of evaluations from versions of datasets and from files, checked as datasets check them, streamed."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from penstock.base.digest import digest_file, short_digest
from penstock.base.ids import new_id
from penstock.datasets.cases import row_to_case
from penstock.datasets.errors import SourceRefused
from penstock.datasets.filters import make_filter
from penstock.datasets.intake import Intake, mend_options, name_of
from penstock.datasets.service import DatasetService
from penstock.datasets.sources import find_files
from penstock.datasets.stored import StoredRows
from penstock.datasets.writing import RowWriter
from penstock.evals.ports import CaseSet
from penstock.spec.cases import Case
from penstock.spec.datasets import DatasetFormat, DatasetRow

DATASET = "dataset:"


class DatasetCases:
    """`evals.ports.CaseSource` over datasets."""

    def __init__(
        self,
        datasets: Callable[[], DatasetService | None],
        hold_folder: Callable[[], AbstractContextManager[Path]],
        *,
        private_root: Path | None = None,
    ) -> None:
        """`hold_folder` gives room for a file's rows while they are read; nothing below `private_root` is read."""
        self._private_root = private_root
        self._datasets = datasets
        self._hold_folder = hold_folder

    def read(self, ref_or_file: str, *, where: Mapping[str, Any], limit: int | None, seed: int) -> CaseSet:
        """Return the cases; see the port. A name without `dataset:` before it is a file when there is one."""
        service = self._datasets()
        path = Path(ref_or_file).expanduser()
        is_path = "/" in ref_or_file or bool(path.suffix)
        is_file = not ref_or_file.startswith(DATASET) and (is_path or path.exists())
        if is_file or service is None:
            path = open_to_reading(path, self._private_root)
            stamp = f"file {short_digest(digest_file(path))}" if path.is_file() else f"folder {path.name}"
            return CaseSet(ref=None, stamp=stamp, cases=self._read_file(path, where, limit, seed))
        version = service.get(ref_or_file)
        form = version.facts.format

        def rows() -> Iterator[DatasetRow]:
            return service.read(version.ref, where or None)

        return CaseSet(ref=version.ref, stamp=version.stamp, cases=_cases(rows, form, limit, seed))

    def _read_file(
        self, path: Path, where: Mapping[str, Any], limit: int | None, seed: int
    ) -> Iterator[Case]:
        """Yield the cases of a file. Its rows are written down once, checked, before the first is given out."""
        name = name_of(path)
        with self._hold_folder() as folder:
            written = folder / f"{new_id('rows')}.zst"
            try:
                intake = Intake(find_files(path, name, None), mend_options(None), name)
                with RowWriter(written) as writer:
                    intake.run(writer)
                    intake.check()
                    index = writer.finish()
                stored = StoredRows(written, index)
                test = make_filter(dict(where) or None)

                def rows() -> Iterator[DatasetRow]:
                    return (row for row in stored.read() if test is None or test(row))

                yield from _cases(rows, intake.plan.form, limit, seed)
            finally:
                written.unlink(missing_ok=True)


def _cases(
    rows: Callable[[], Iterator[DatasetRow]], form: DatasetFormat, limit: int | None, seed: int
) -> Iterator[Case]:
    if limit is None:
        return (row_to_case(row, form) for row in rows())
    chosen = draw(((row.id, row.group) for row in rows()), limit, seed)
    return (row_to_case(row, form) for row in rows() if row.id in chosen)


def open_to_reading(path: Path, private_root: Path | None) -> Path:
    """Return the whole path of a file that may be read; raise `SourceRefused` for one that lies in the home."""
    resolved = path.expanduser().resolve()
    if private_root is not None and resolved.is_relative_to(private_root.resolve()):
        raise SourceRefused(
            f"{path} lies in the home of this installation, which holds its keys.",
            hint="Copy the file to another place.",
        )
    return resolved


def draw(keys: Iterable[tuple[str, str | None]], limit: int, seed: int) -> set[str]:
    """Return the ids of at most `limit` rows: whole groups in an order that `seed` and the group's name decide.

    A group that does not fit any more is passed over for smaller ones; one that is larger than all that is asked for is cut
    when nothing else was drawn. So the draw is stable when rows are added elsewhere.
    """
    groups: dict[str, list[str]] = {}
    for row_id, group in keys:
        groups.setdefault(f"g:{group}" if group is not None else f"r:{row_id}", []).append(row_id)
    order = sorted(groups, key=lambda key: hashlib.sha256(f"{seed}:{key}".encode()).digest())
    chosen: set[str] = set()
    for key in order:
        if len(chosen) + len(groups[key]) <= limit:
            chosen.update(groups[key])
        if len(chosen) == limit:
            break
    return chosen or set(groups[order[0]][:limit] if order else ())
