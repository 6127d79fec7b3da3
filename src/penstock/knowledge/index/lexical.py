"""Words to passages: BM25 by SQLite FTS5, in one read-only file that holds tokens and no text.

Porter stems, accents folded. A query is plain words: no user text reaches FTS5's query language unquoted.
"""

import re
import sqlite3
import threading
import urllib.parse
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

MAX_QUERY_WORDS = 64
_WORD = re.compile(r"\w+")
_FUNCTION_WORDS = (
    "a an and are as at be been but by can could did do does for from had has have how i if in into is it its me "
    "my of on or our shall should so some such than that the their them then there these they this those to too "
    "was we were what when where which while who whom whose why will with would you your"
)
_STOP = frozenset(_FUNCTION_WORDS.split())


def write_lexical(path: Path, rows: Iterable[tuple[int, str, str, str]]) -> int:
    """Write an index of `(row number, title, section, body)` and return how many rows it has."""
    n_rows = 0
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode=OFF").close()
        database.execute("PRAGMA synchronous=OFF").close()
        database.execute(
            "CREATE VIRTUAL TABLE passages USING fts5(title, section, body, content='',"
            " tokenize='porter unicode61 remove_diacritics 2')"
        )
        database.execute("BEGIN")
        for row in rows:
            database.execute("INSERT INTO passages(rowid, title, section, body) VALUES (?, ?, ?, ?)", row)
            n_rows += 1
        database.execute("COMMIT")
        database.execute("INSERT INTO passages(passages) VALUES ('optimize')")
    return n_rows


def query_words(query: str) -> list[str]:
    """Return the words of a query that carry it: without function words, unless there are no others."""
    words = list(dict.fromkeys(word.casefold() for word in _WORD.findall(query)))
    return ([word for word in words if word not in _STOP] or words)[:MAX_QUERY_WORDS]


class LexicalIndex:
    """Searches a file that `write_lexical` wrote. Safe to share between threads."""

    def __init__(self, path: Path) -> None:
        address = f"file:{urllib.parse.quote(str(path))}?mode=ro&immutable=1"
        self._database = sqlite3.connect(address, uri=True, check_same_thread=False)
        self._lock = threading.Lock()

    def search(
        self, query: str, *, limit: int, title_weight: float = 1.0, section_weight: float = 1.0
    ) -> list[tuple[int, float]]:
        """Return `(row number, BM25)` of the best rows that hold any word of the query; higher is better."""
        words = query_words(query)
        if not words:
            return []
        match = " OR ".join(f'"{word}"' for word in words)
        with self._lock:
            found = self._database.execute(
                "SELECT rowid, bm25(passages, ?, ?, 1.0) AS rank FROM passages"
                " WHERE passages MATCH ? ORDER BY rank, rowid LIMIT ?",
                (title_weight, section_weight, match, limit),
            ).fetchall()
        return [(int(row), -float(rank)) for row, rank in found]

    def close(self) -> None:
        """Close the file."""
        self._database.close()
