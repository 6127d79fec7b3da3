"""Finds the traces that have words, slice by slice: a page of a common word needs the newest few thousand spans only.

Every span is looked at once at most and for all words of a search at the same time: reading the text takes longer than
looking for a word in it. What the same words found a moment ago is taken over (`text_known`). The surprise: `text_hits`
is a temporary table of the cursor, filled as far as pages need it.
"""

from collections.abc import Iterator
from typing import Any

from penstock.spec.search import All, Condition, Either, Negated, Words
from penstock.store.spans.duckdb_file import run
from penstock.store.spans.text_known import MAX_HITS, Known, KnownTexts
from penstock.store.spans.text_sql import text_condition

FIRST_SLICE = 3_000
"""Traces in the first slice."""
GROWTH = 5
_HEX = "replace(trace_id::VARCHAR, '-', '')"
_PACK = (
    f"SELECT place, ('0x' || left({_HEX}, 16))::UBIGINT AS high, ('0x' || right({_HEX}, 16))::UBIGINT AS low, start_ns"  # noqa: S608 - names of ours
    " FROM text_hits"
)
_UNPACK = (
    "INSERT INTO text_hits SELECT place, printf('%016x%016x', high, low)::UUID, start_ns FROM known_hits"
)
_END = 2**63 - 1


def find_words(condition: Condition) -> tuple[Words, ...]:
    """Return the words that a condition on traces asks of any span of them, each once."""
    if isinstance(condition, Words):
        return (condition,)
    if isinstance(condition, Negated):
        return find_words(condition.condition)
    if isinstance(condition, All | Either):
        return tuple(dict.fromkeys(words for part in condition.parts for words in find_words(part)))
    return ()


class TextHits:
    """Which traces have which of `words`, as far as `cover` has looked. For one cursor at a time.

    `mark` is that of `known` from before the cursor's transaction began.
    """

    def __init__(self, cursor: Any, words: tuple[Words, ...], known: KnownTexts, mark: int) -> None:
        self._cursor = cursor
        self._words = words
        self._known = known
        self._mark = mark
        self._low = self._end = self._n_hits = 0
        self.places = {each: place for place, each in enumerate(words)}
        """Words → their number in the table `text_hits`."""
        run(cursor, "CREATE OR REPLACE TEMP TABLE text_hits (place INTEGER, trace_id UUID, start_ns BIGINT)")

    def cover(self, since_ns: int, until_ns: int) -> None:
        """Look at all spans of the traces that started in `[since_ns, until_ns)`."""
        found = self._cursor.execute(
            "SELECT min(first_ns), max(last_ns) FROM traces WHERE start_ns >= ? AND start_ns < ?",
            [since_ns, until_ns],
        ).fetchall()[0]
        if found[0] is None:
            return
        low, end = found[0], found[1] + 1
        if self._low == self._end:
            self._low = self._end = low
            self._take_over(low, end)
        covered = (self._low, self._end)
        if low < self._low:
            self._look(low, self._low)
            self._low = low
        if end > self._end:
            self._look(self._end, end)
            self._end = end
        if covered != (self._low, self._end) and self._n_hits <= MAX_HITS:
            hits = self._cursor.execute(_PACK).fetchnumpy()
            self._known.keep(self._words, Known(self._mark, self._low, self._end, hits))

    def _take_over(self, low: int, end: int) -> None:
        """Begin with what is known of the same words, where it touches `[low, end)`."""
        known = self._known.find(self._words, self._mark)
        if known is None or known.low > end or known.end < low:
            return
        self._low, self._end, self._n_hits = known.low, known.end, known.n_hits
        if known.n_hits:
            self._cursor.register("known_hits", dict(known.hits))
            run(self._cursor, _UNPACK)
            self._cursor.unregister("known_hits")

    def _look(self, low: int, end: int) -> None:
        fragments = [text_condition(each, "spans") for each in self._words]
        values = [value for _, bound in fragments for value in bound]
        window = "FROM spans WHERE start_ns >= ? AND start_ns < ?"
        if len(fragments) == 1:
            found = f"SELECT 0, trace_id, min(start_ns) {window} AND {fragments[0][0]} GROUP BY trace_id"
            bound = [low, end, *values]
        else:  # each word is looked for once in each text: a condition beside the columns would look again
            first = ", ".join(f"min(CASE WHEN {sql} THEN start_ns END)" for sql, _ in fragments)
            found = (
                "SELECT place, trace_id, first_ns FROM (SELECT trace_id,"  # noqa: S608 - names of ours
                f" unnest(range({len(fragments)})) AS place, unnest([{first}]) AS first_ns {window}"
                " GROUP BY trace_id) WHERE first_ns IS NOT NULL"
            )
            bound = [*values, low, end]
        inserted = self._cursor.execute(f"INSERT INTO text_hits {found}", bound).fetchall()
        self._n_hits += inserted[0][0]


def slices_of(
    cursor: Any, table: str, since_ns: int | None, until_ns: int | None, *, is_upward: bool, first: int
) -> Iterator[tuple[int, int]]:
    """Yield windows of starts that cover `[since_ns, until_ns)` in order, the first with about `first` rows."""
    low, end = since_ns or 0, _END if until_ns is None else until_ns
    n_rows = first
    best, way = ("max", "ASC") if is_upward else ("min", "DESC")
    while low < end:
        mark, n_found = cursor.execute(
            f"SELECT {best}(start_ns), count(*) FROM (SELECT start_ns FROM {table}"  # noqa: S608 - names of ours
            f" WHERE start_ns >= ? AND start_ns < ? ORDER BY start_ns {way} LIMIT ?)",
            [low, end, n_rows],
        ).fetchall()[0]
        if n_found < n_rows:
            yield low, end
            return
        if is_upward:
            yield low, mark + 1
            low = mark + 1
        else:
            yield mark, end
            end = mark
        n_rows *= GROWTH
