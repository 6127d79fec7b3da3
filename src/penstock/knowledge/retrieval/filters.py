"""Which rows a search may find: what was demanded of documents, and who asks.

Access fails closed: a document with readers is found only by a principal that is named among them, exactly; nobody
told means nobody. Only `principals=None`, for those who keep the base, sees everything. What is noted of a search is
computed from what its principals may see, so that no note tells of the rest.
"""

import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from penstock.base.errors import suggest
from penstock.knowledge.index.types import IndexDocument, RowSelection
from penstock.knowledge.retrieval.conditions import BUILT_IN, compile_condition, list_fields, read_field
from penstock.knowledge.retrieval.filter_json import read_json_filter
from penstock.knowledge.retrieval.filter_text import read_text_filter
from penstock.knowledge.retrieval.types import SearchedIndex
from penstock.spec.knowledge import EVERYONE, ChosenScope, Condition

KEPT_SELECTIONS = 16
KEPT_READERSHIPS = 8
Mask = NDArray[np.bool_]


def read_filter(value: str | dict[str, Any]) -> Condition:
    """Return the condition that a text (`language:de modified:>2026-01-01 -tag:draft`) or a JSON filter in the shape
    of OpenAI's vector stores says. Raises `BadFilter`, which points at the place. An empty text demands nothing."""
    if isinstance(value, str):
        if value.lstrip().startswith("{"):
            return read_json_filter(value)
        return read_text_filter(value)
    return read_json_filter(value)


def may_read(readers: Sequence[str] | None, principals: Sequence[str] | None) -> bool:
    """Return whether somebody with these principals may find a document with these readers."""
    if principals is None or readers is None:
        return True
    return EVERYONE in readers or not set(readers).isdisjoint(p for p in principals if p.strip())


@dataclass(frozen=True, kw_only=True)
class Selected:
    """What a scope leaves of an index. `rows` is None when it leaves everything."""

    rows: RowSelection | None
    count: int
    """Rows that may be found."""
    n_readable: int
    """Rows that the principals may see, before conditions."""
    is_filtered: bool = False
    """Whether there were conditions; that readers left something out is not told."""
    notes: tuple[str, ...] = ()


def make_selection(index: SearchedIndex, scope: ChosenScope) -> RowSelection | None:
    """Return the rows that a scope may find; None for all of them."""
    return select_rows(index, scope).rows


@dataclass(frozen=True, kw_only=True)
class Readership:
    """Which documents share their readers, so that a caller is held against each kind of readers once."""

    kinds: tuple[tuple[str, ...] | None, ...]
    kind_of: NDArray[np.int32]
    """Of each document, the number of its kind."""

    def readable(self, principals: Sequence[str] | None) -> Mask:
        """Return one truth value a document."""
        open_to = np.array([may_read(readers, principals) for readers in self.kinds], dtype=bool)
        return open_to[self.kind_of] if len(self.kinds) else np.zeros(0, dtype=bool)


def read_readership(documents: Sequence[IndexDocument]) -> Readership:
    """Return the readers of an index's documents."""
    numbers: dict[tuple[str, ...] | None, int] = {}
    kind_of = np.zeros(len(documents), dtype=np.int32)
    for number, document in enumerate(documents):
        readers = document.properties.readers
        key = None if readers is None else tuple(readers)
        kind_of[number] = numbers.setdefault(key, len(numbers))
    return Readership(kinds=tuple(numbers), kind_of=kind_of)


def select_rows(index: SearchedIndex, scope: ChosenScope, readership: Readership | None = None) -> Selected:
    """Return the rows that a scope may find, and what is to be noted of it."""
    n_rows = len(index.places)
    if scope.principals is None and not scope.conditions:
        return Selected(rows=None, count=n_rows, n_readable=n_rows)
    documents = index.documents
    readable = (readership or read_readership(documents)).readable(scope.principals)
    if not scope.conditions and readable.all():
        return Selected(rows=None, count=n_rows, n_readable=n_rows)
    tests = [compile_condition(condition) for condition in scope.conditions]
    mask = readable.copy()
    for number in np.flatnonzero(readable) if tests else ():
        document = documents[int(number)]
        mask[number] = all(test(document) for test in tests)
    rows = index.select(mask)
    n_readable = rows.count if not scope.conditions else index.select(readable).count
    notes = _note_unknown(documents, readable, scope.conditions)
    return Selected(
        rows=rows,
        count=rows.count,
        n_readable=n_readable,
        is_filtered=bool(scope.conditions),
        notes=tuple(notes),
    )


def _note_unknown(
    documents: Sequence[IndexDocument], readable: Mask, conditions: Sequence[Condition]
) -> list[str]:
    """Name each field that no readable document has. Computed from those alone: a note must not tell of others."""
    asked = [field for field in dict.fromkeys(list_fields(conditions)) if field not in BUILT_IN]
    if not asked:
        return []
    visible = [documents[int(number)] for number in np.flatnonzero(readable)]
    notes = []
    for field in asked:
        if any(read_field(document, field) is not None for document in visible):
            continue
        names = {name for document in visible for name in document.properties.values}
        hint = suggest(field, sorted({*names, *BUILT_IN}))
        notes.append(f"no document has a property {field!r}" + (f" ({hint.rstrip('.')})" if hint else ""))
    return notes


class SelectionCache:
    """Remembers the newest selections: the same scope over the same open index is worked out once."""

    def __init__(self, limit: int = KEPT_SELECTIONS) -> None:
        self._limit = limit
        self._kept: OrderedDict[tuple[int, bytes], tuple[weakref.ref[Any], Selected]] = OrderedDict()
        self._readerships: OrderedDict[int, tuple[weakref.ref[Any], Readership]] = OrderedDict()
        self._lock = Lock()

    def select(self, index: SearchedIndex, scope: ChosenScope) -> Selected:
        """Return `select_rows(index, scope)`."""
        if scope.principals is None and not scope.conditions:
            return select_rows(index, scope)
        key = (id(index), msgspec.msgpack.encode(scope))
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None and kept[0]() is index:
                self._kept.move_to_end(key)
                return kept[1]
        selected = select_rows(index, scope, self._readership(index))
        with self._lock:
            self._kept[key] = (weakref.ref(index), selected)
            self._kept.move_to_end(key)
            while len(self._kept) > self._limit:
                self._kept.popitem(last=False)
        return selected

    def _readership(self, index: SearchedIndex) -> Readership:
        with self._lock:
            kept = self._readerships.get(id(index))
        if kept is not None and kept[0]() is index:
            return kept[1]
        made = read_readership(index.documents)
        with self._lock:
            self._readerships[id(index)] = (weakref.ref(index), made)
            while len(self._readerships) > KEPT_READERSHIPS:
                self._readerships.popitem(last=False)
        return made
