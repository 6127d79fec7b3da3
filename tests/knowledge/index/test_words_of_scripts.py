"""Words are found in whatever form and script they are written."""

import unicodedata
from pathlib import Path

import pytest

from penstock.knowledge.index.lexical import LexicalIndex, write_lexical
from penstock.knowledge.index.words import fold, query_words

BODIES = [
    "Die Straße ist gesperrt.",
    "Ein résumé liegt bei.",
    "Re: sume up what was said.",
    "東京都の天気は晴れです。傘",
    "กรุงเทพมหานครเป็นเมืองหลวง",
    "हिन्दी में लिखा गया",
    "The ﬁnal oﬃce hours, ½ of them.",
    "서울에서 만나요",
]


@pytest.fixture
def index(tmp_path: Path) -> LexicalIndex:
    write_lexical(tmp_path / "words.db", ((row, "", "", body) for row, body in enumerate(BODIES)))
    return LexicalIndex(tmp_path / "words.db")


@pytest.mark.parametrize(
    ("query", "row"),
    [
        ("Straße", 0), ("strasse", 0), ("STRASSE", 0),
        ("résumé", 1), (unicodedata.normalize("NFD", "résumé"), 1), ("resume", 1),
        ("東京", 3), ("天気", 3), ("晴", 3), ("傘", 3), ("京都の天", 3),
        ("เมือง", 4), ("हिन्दी", 5), ("final office", 6), ("서울", 7),
    ],
)  # fmt: skip
def test_a_word_is_found_first(index: LexicalIndex, query: str, row: int) -> None:
    assert index.search(query, limit=1)[0][0] == row


def test_what_is_not_there_is_not_found(index: LexicalIndex) -> None:
    assert index.search("大阪", limit=3) == []


def test_decomposed_documents_are_found_by_composed_questions(tmp_path: Path) -> None:
    body = unicodedata.normalize("NFD", "Überprüfung")
    write_lexical(tmp_path / "words.db", [(0, "", "", body)])
    assert LexicalIndex(tmp_path / "words.db").search("überprüfung", limit=1)


def test_words_of_a_text_ask_for_that_text_again() -> None:
    for body in BODIES:
        words = query_words(body)
        assert set(words) <= set(query_words(" ".join(words)))


def test_plain_text_stays_as_it_is() -> None:
    assert fold("How Long, e.g. E-1042?") == "how long, e.g. e-1042?"
