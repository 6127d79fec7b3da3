"""Words to passages: BM25 by SQLite FTS5, in one read-only file that holds tokens and no text.

Porter stems, accents folded. A query is plain words: no user text reaches FTS5's query language unquoted. A
selection is one byte a row, handed to SQLite as a blob and looked up before a row is scored, so that the best
selected rows are found whatever their share.
"""

import sqlite3
import threading
import urllib.parse
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from penstock.knowledge.index.types import Finding, RowSelection
from penstock.knowledge.index.words import fold, match_any, query_words

MAPPED_BYTES = 4 * 1024**3
"""More than an index of words has: reading it through a mapping takes a third less time than through SQLite's cache."""
_SEARCH = (
    "SELECT rowid, bm25(passages, ?, ?, 1.0) AS score FROM passages"
    " WHERE passages MATCH ? ORDER BY score, rowid LIMIT ?"
)
_SEARCH_SELECTED = _SEARCH.replace("ORDER", "AND substr(?, rowid + 1, 1) = x'01' ORDER")


class LexicalWriter:
    """Writes an index row by row. `finish` makes it fit to search."""

    def __init__(self, path: Path) -> None:
        self.n_rows = 0
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=OFF").close()
        self._database.execute("PRAGMA synchronous=OFF").close()
        self._database.execute(
            "CREATE VIRTUAL TABLE passages USING fts5(title, section, body, content='',"
            " tokenize='porter unicode61 remove_diacritics 2')"
        )
        self._database.execute("BEGIN")

    def add(self, rows: Iterable[tuple[int, str, str, str]]) -> None:
        """Add `(row number, title, section, body)`."""
        insert = "INSERT INTO passages(rowid, title, section, body) VALUES (?, ?, ?, ?)"
        folded = ((number, fold(title), fold(section), fold(body)) for number, title, section, body in rows)
        self.n_rows += self._database.executemany(insert, folded).rowcount

    def finish(self) -> None:
        """Commit, and merge what was written piece by piece."""
        self._database.execute("COMMIT")
        self._database.execute("INSERT INTO passages(passages) VALUES ('optimize')")

    def close(self) -> None:
        """Close the file, finished or not."""
        self._database.close()


def write_lexical(path: Path, rows: Iterable[tuple[int, str, str, str]]) -> int:
    """Write an index of `(row number, title, section, body)` and return how many rows it has."""
    with closing(LexicalWriter(path)) as writer:
        writer.add(rows)
        writer.finish()
        return max(writer.n_rows, 0)


class LexicalIndex:
    """Searches a file that `LexicalWriter` wrote. Safe to share between threads, which search side by side."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._address = f"file:{urllib.parse.quote(str(path))}?mode=ro&immutable=1"
        self._idle: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._closed = False
        with self._connection() as database:
            database.execute("SELECT 1 FROM passages WHERE passages MATCH '\"probe\"' LIMIT 1").fetchall()

    def search(
        self,
        query: str,
        *,
        limit: int,
        title_weight: float = 1.0,
        section_weight: float = 1.0,
        rows: RowSelection | None = None,
    ) -> list[tuple[int, float]]:
        """Return `(row number, BM25)` of the best rows that hold any word of the query; higher is better.

        With a selection, of the best selected ones: `limit` of them, or all that hold a word.
        """
        words = query_words(query)
        if not words or limit < 1 or (rows is not None and rows.count == 0):
            return []
        match = match_any(words)
        narrows = rows is not None and rows.count < len(rows.mask)
        mask = rows.mask.tobytes() if rows is not None and narrows else None
        with self._connection() as database:
            found = database.execute(
                _SEARCH if mask is None else _SEARCH_SELECTED,
                (title_weight, section_weight, match, *(() if mask is None else (mask,)), limit),
            ).fetchall()
        return [(int(row), -float(rank)) for row, rank in found]

    def verify(self, n_rows: int) -> list[Finding]:
        """Check the file's structure and that it holds as many rows as it should."""
        with self._connection() as database:
            try:
                answer = str(database.execute("PRAGMA quick_check(1)").fetchone()[0])
                held = int(database.execute("SELECT count(*) FROM passages_docsize").fetchone()[0])
            except sqlite3.Error as error:
                answer, held = str(error), -1
        if answer != "ok":
            message = f"SQLite finds it damaged: {answer}"
        elif held != n_rows:
            message = f"{held:,} rows, {n_rows:,} expected"
        else:
            return [Finding(check="lexical rows", state="ok", message=f"{held:,} rows")]
        return [Finding(check="lexical rows", state="failed", message=message, advice="Rebuild the index.")]

    def close(self) -> None:
        """Close what no search is using; what one is using is closed after it."""
        with self._lock:
            self._closed = True
            while self._idle:
                self._idle.pop().close()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            database = self._idle.pop() if self._idle else None
        if database is None:
            database = sqlite3.connect(self._address, uri=True, check_same_thread=False)
            database.execute(f"PRAGMA mmap_size = {MAPPED_BYTES}").close()
        try:
            yield database
        finally:
            with self._lock:
                if self._closed or len(self._idle) >= 8:
                    database.close()
                else:
                    self._idle.append(database)

    def __del__(self) -> None:
        for database in getattr(self, "_idle", ()):
            database.close()
