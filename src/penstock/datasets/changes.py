"""New versions from old ones: each reads one or more versions row by row and writes what comes out.

Every change is a step in the facts of the version that it makes, after the steps of the version it was made from.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from penstock.base.errors import InvalidInput, suggest
from penstock.datasets.convert import convert_row
from penstock.datasets.errors import ClashingIds, InvalidRows, TornGroup, UnknownRow, WrongFormat
from penstock.datasets.filters import make_filter
from penstock.datasets.formats import pick
from penstock.datasets.id_table import IdTable
from penstock.datasets.normalise import check_row
from penstock.datasets.ports import KeptVersion
from penstock.datasets.splitting import assign, assign_by_label, check_shares, place_of
from penstock.datasets.store import DatasetStore, label_of
from penstock.datasets.types import MAX_PROBLEMS, DatasetVersion, RowEdit, RowProblem
from penstock.datasets.writing import RowWriter, merge_counts
from penstock.spec.datasets import DatasetFacts, DatasetFormat, DatasetRow

Where = str | Mapping[str, Any] | None
_OWN_NAMES = {"by": ("group", "id"), "stratify": ("tags",)}
"""What rows can be kept together by, or dealt out within, beside their fields and their metadata."""
_MAX_NAMES = 1000


class Change:
    """Makes one version from others."""

    def __init__(self, store: DatasetStore, base: KeptVersion, note: str = "") -> None:
        self.store, self.base, self.note = store, base, note
        self.facts: DatasetFacts = store.facts(base)

    def read(self) -> Iterator[DatasetRow]:
        """Yield the rows of the base."""
        return self.store.open(self.base).read()

    def keep(
        self,
        rows: Iterable[DatasetRow],
        step: Mapping[str, Any],
        *,
        name: str | None = None,
        form: DatasetFormat | None = None,
        sources: Sequence[Mapping[str, Any]] = (),
        are_known: bool = False,
    ) -> DatasetVersion:
        """Return the version that holds these rows, made by this step. `are_known` are fields that were checked before."""
        with self.store.draft() as writer:
            what = f"dataset:{name or self.base.name}"
            write_rows(writer, rows, None if are_known else form or self.facts.format, what)
            counted = {"n_before": self.facts.n_rows, "n_after": writer.n_rows}
            facts = writer.facts(
                form or self.facts.format,
                sources=[*self.facts.sources, *sources],
                steps=[*self.facts.steps, {**step, "of": label_of(self.base), **counted}],
                left_out=self.facts.left_out,
                licence=self.facts.license,
                description=self.facts.description,
            )
            return self.store.keep(
                name or self.base.name, writer, facts, parents=[self.base.digest], note=self.note
            )


def write_rows(writer: RowWriter, rows: Iterable[DatasetRow], form: DatasetFormat | None, what: str) -> None:
    """Write rows that code made, checked as rows of `form` (None: they were checked before); raise `InvalidRows` when any is wrong, after having looked at all of them."""
    problems: list[RowProblem] = []
    n_problems = 0
    for number, row in enumerate(rows, 1):
        place = f"row {number}" + (f" ({row.id})" if row.id else "")
        written: DatasetRow | RowProblem = row if form is None else check_row(row, form, place)
        if isinstance(written, DatasetRow):
            written = writer.add(written, place)
        if isinstance(written, RowProblem):
            n_problems += 1
            if len(problems) < MAX_PROBLEMS:
                problems.append(written)
    if n_problems:
        raise InvalidRows(what, problems, n_problems)


def append_rows(
    change: Change, rows: Iterable[DatasetRow], source: Mapping[str, Any] | None
) -> DatasetVersion:
    """Return a version with these rows at the end; raise `ClashingIds` for an id that is there already."""
    ids = IdTable()

    def both() -> Iterator[DatasetRow]:
        for number, row in enumerate(change.read()):
            ids.add(row.id, number)
            yield row
        for row in rows:
            if row.id and ids.add(row.id, 0) is not None:
                raise ClashingIds(
                    f"The id {row.id!r} is in {label_of(change.base)} already.",
                    hint="Give the new row another id, or change the old one with an edit.",
                    row=row.id,
                )
            yield row

    return change.keep(both(), {"step": "append"}, sources=[source] if source else ())


def edit_rows(change: Change, edit: RowEdit) -> DatasetVersion:
    """Return a version with rows set and deleted by id."""
    given = {row.id: row for row in edit.set}
    gone = set(edit.delete)
    if not given and not gone:
        raise InvalidInput("Nothing is to be changed.", hint="Give rows to set, or ids to delete.")
    if "" in given or len(given) != len(edit.set):
        raise InvalidInput("Rows to set need ids that differ.", param="set")
    if both := gone & set(given):
        raise InvalidInput(f"The row {min(both)!r} is to be set and deleted.", param="delete")
    done: set[str] = set()

    def changed() -> Iterator[DatasetRow]:
        for row in change.read():
            if row.id in gone:
                done.add(row.id)
            elif row.id in given:
                done.add(row.id)
                yield given[row.id]
            else:
                yield row
        if missing := gone - done:
            raise UnknownRow(f"{label_of(change.base)} has no row {min(missing)!r}.", row=min(missing))
        for row_id, row in given.items():
            if row_id not in done:
                yield row

    return change.keep(changed(), {"step": "edit", "n_set": len(given), "n_deleted": len(gone)})


def tag_rows(change: Change, add: Sequence[str], remove: Sequence[str], where: Where) -> DatasetVersion:
    """Return a version whose matching rows have these tags more or less."""
    if not add and not remove:
        raise InvalidInput("Name tags to add or to remove.", param="add")
    test = make_filter(where)

    def tagged() -> Iterator[DatasetRow]:
        for row in change.read():
            if test is not None and not test(row):
                yield row
                continue
            kept = [tag for tag in row.tags if tag not in remove]
            yield msgspec.structs.replace(row, tags=list(dict.fromkeys((*kept, *add))))

    return change.keep(
        tagged(),
        {"step": "tag", "add": list(add), "remove": list(remove), "where": where or ""},
        are_known=True,
    )


def split_rows(
    change: Change,
    shares: Mapping[str, float],
    *,
    by: str | None,
    stratify: str | None,
    seed: int,
    keep: bool,
) -> DatasetVersion:
    """Return a version whose rows are assigned to splits, whole groups together.

    With `keep` a group goes where those of its rows are that have a split; raises `TornGroup` where they disagree.
    """
    checked = check_shares(shares)
    key_of = _key_reader(by)
    for option, name in (("by", by), ("stratify", stratify)):
        if name is not None and name not in _OWN_NAMES[option]:
            _need_value(change, option, name)
    pinned = _kept_splits(change, key_of) if keep else {}
    if stratify is None:
        decide = assign(checked, seed)
    else:
        pairs = ((key, _label(row, stratify)) for row in change.read() if (key := key_of(row)) not in pinned)
        decide = assign_by_label(pairs, checked, seed).__getitem__

    def assigned() -> Iterator[DatasetRow]:
        for row in change.read():
            key = key_of(row)
            yield msgspec.structs.replace(row, split=pinned[key] if key in pinned else decide(key))

    step: dict[str, Any] = {"step": "split", "shares": checked, "by": by or "group", "seed": seed}
    if stratify is not None:
        step["stratify"] = stratify
    if keep:
        step["keep"] = True
    return change.keep(assigned(), step, are_known=True)


def _need_value(change: Change, option: str, name: str) -> None:
    """Raise `InvalidInput` where no row has a value of this name: nothing would be kept together, and nobody told."""
    known: dict[str, None] = {}
    for row in change.read():
        if _value(row, name) is not None:
            return
        if len(known) < _MAX_NAMES:
            known.update(dict.fromkeys((*row.metadata, *row.fields)))
    raise InvalidInput(
        f"No row of {label_of(change.base)} has {name!r}, in its fields or its metadata.",
        hint=suggest(name, (*known, *_OWN_NAMES[option])),
        param=option,
    )


def _kept_splits(change: Change, key_of: Callable[[DatasetRow], str]) -> dict[str, str]:
    """Return key to the split that its rows have already; raise `TornGroup` where they have several."""
    kept: dict[str, str] = {}
    for row in change.read():
        if row.split is None:
            continue
        split = kept.setdefault(key_of(row), row.split)
        if split != row.split:
            raise TornGroup(
                f"Row {row.id!r} is in the split {row.split!r}, others of its group are in {split!r}.",
                hint="Put them into one split by an edit, or split without --keep.",
                row=row.id,
            )
    return kept


def filter_rows(change: Change, where: Where, name: str | None) -> DatasetVersion:
    """Return a version with the matching rows alone."""
    test = make_filter(where)
    if test is None:
        raise InvalidInput(
            "The filter asks for nothing.", hint="Such as split:test or lang:de.", param="where"
        )
    return change.keep(
        filter(test, change.read()), {"step": "filter", "where": where}, name=name, are_known=True
    )


def sample_rows(change: Change, n: int, seed: int, name: str | None) -> DatasetVersion:
    """Return a version with whole groups, drawn by `seed` until there are `n` rows; the last group is left out where it
    would bring more."""
    if n < 1:
        raise InvalidInput("A sample needs at least one row.", param="n")
    sizes: dict[str, int] = {}
    for row in change.read():
        key = row.group or f"\x00{row.id}"
        sizes[key] = sizes.get(key, 0) + 1
    drawn: set[str] = set()
    n_drawn = 0
    for key in sorted(sizes, key=lambda each: (place_of(each, seed), each)):
        if n_drawn + sizes[key] <= n:
            drawn.add(key)
            n_drawn += sizes[key]
        if n_drawn == n:
            break
    if not drawn:
        raise InvalidInput(
            f"No whole group fits into a sample of {n}.",
            hint="Groups stay together: ask for more rows.",
            param="n",
        )
    rows = (row for row in change.read() if (row.group or f"\x00{row.id}") in drawn)
    return change.keep(rows, {"step": "sample", "n": n, "seed": seed}, name=name, are_known=True)


def convert_rows(change: Change, form: DatasetFormat, name: str | None) -> DatasetVersion:
    """Return a version with the rows told in another format."""
    of = change.facts.format
    if of == form:
        raise WrongFormat(f"{label_of(change.base)} is in the format {form} already.")
    rows = (convert_row(row, of, form) for row in change.read())
    return change.keep(rows, {"step": "convert", "from": of, "to": form}, name=name, form=form)


def merge_versions(
    store: DatasetStore, name: str, bases: Sequence[KeptVersion], *, prefix: bool, note: str
) -> DatasetVersion:
    """Return a version with the rows of several, in order; raise `WrongFormat` or `ClashingIds`."""
    if len(bases) < 2:
        raise InvalidInput("Name at least two datasets to merge.", param="refs")
    known = [store.facts(base) for base in bases]
    forms = {facts.format for facts in known}
    if len(forms) > 1:
        raise WrongFormat(
            f"These datasets have the formats {', '.join(sorted(forms))}.",
            hint="Convert them to one first: penstock dataset convert NAME FORMAT.",
        )
    ids = IdTable()
    labels = [label_of(base) for base in bases]
    names = [base.name for base in bases]
    marks = [
        label.partition(":")[2] if names.count(base.name) > 1 else base.name
        for base, label in zip(bases, labels, strict=True)
    ]

    def merged() -> Iterator[DatasetRow]:
        for place, base in enumerate(bases):
            for row in store.open(base).read():
                renamed = _prefixed(row, marks[place]) if prefix else row
                before = ids.add(renamed.id, place)
                if before is not None:
                    raise ClashingIds(
                        f"The id {renamed.id!r} is in {labels[before]} and in {labels[place]}.",
                        hint="Name each version once."
                        if prefix
                        else "Put the name of its dataset before each id with --prefix.",
                        row=renamed.id,
                    )
                yield renamed

    licences = {facts.license for facts in known}
    with store.draft() as writer:
        write_rows(writer, merged(), known[0].format, f"dataset:{name}")
        facts = writer.facts(
            known[0].format,
            sources=[source for facts in known for source in facts.sources],
            steps=[{"step": "merge", "of": labels, "prefix": prefix, "n_after": writer.n_rows}],
            left_out=merge_counts([facts.left_out for facts in known]),
            licence=licences.pop()
            if len(licences) == 1
            else " AND ".join(sorted(filter(None, licences))) or None,
            description=known[0].description,
        )
        return store.keep(name, writer, facts, parents=[base.digest for base in bases], note=note)


def _prefixed(row: DatasetRow, mark: str) -> DatasetRow:
    """Return a row whose id and group are of one dataset alone: two datasets that count their users from 1 have no user in common."""
    group = None if row.group is None else f"{mark}/{row.group}"
    return msgspec.structs.replace(row, id=f"{mark}/{row.id}", group=group)


def _key_reader(by: str | None) -> Any:
    """Return the function from a row to the key that keeps rows together: its group, a field, or itself."""
    if by in {None, "group"}:
        return lambda row: f"g\x00{row.group}" if row.group is not None else f"r\x00{row.id}"
    if by == "id":
        return lambda row: f"r\x00{row.id}"

    def key(row: DatasetRow) -> str:
        value = _value(row, str(by))
        return (
            f"r\x00{row.id}"
            if value is None
            else f"v\x00{msgspec.json.encode(value, order='sorted').decode()}"
        )

    return key


def _value(row: DatasetRow, name: str) -> Any:
    value = pick(row.metadata, name.removeprefix("metadata."))
    return pick(row.fields, name.removeprefix("field.")) if value is None else value


def _label(row: DatasetRow, name: str) -> str:
    if name == "tags":
        return ",".join(sorted(row.tags))
    return msgspec.json.encode(_value(row, name), order="sorted").decode()
