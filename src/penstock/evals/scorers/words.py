"""Words of texts in any script, and the normal forms in which texts are compared.

A word is a run of letters, digits and their marks; scripts that are written without spaces (Han, Kana, Thai, Lao, Khmer,
Burmese) give one word a character with its marks. Without that, Hindi falls apart at each vowel sign and Chinese text is one
word.
"""

import re
import string
import unicodedata
from collections.abc import Callable
from functools import cache
from typing import Literal

from penstock.evals.scorers.porter import stem

Tokenizer = Literal["unicode", "rouge_score", "whitespace"]
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)
_NOT_LATIN_WORD = re.compile(r"[^a-z0-9]+")
_MARKED_BLOCKS = ((0x0300, 0x1E00), (0x20D0, 0x2100), (0x2DE0, 0x2E00), (0xA600, 0xAC00), (0xFE20, 0xFE30))
"""Where combining marks stand in the Basic Multilingual Plane; looking through all of Unicode takes half a second."""
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"


@cache
def _word_pattern() -> re.Pattern[str]:
    marks = "".join(
        chr(code)
        for start, end in _MARKED_BLOCKS
        for code in range(start, end)
        if unicodedata.category(chr(code)).startswith("M")
    )
    marks = re.escape(marks)
    return re.compile(rf"[{_UNSPACED}][{marks}]*(?<=[\w{marks}])|(?:(?![{_UNSPACED}])[\w{marks}])+")


def split_words(text: str) -> list[str]:
    """Return the words of `text`, compatibility forms unified and case folded."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return _word_pattern().findall(folded)


def split_latin_words(text: str) -> list[str]:
    """Return the words as the package `rouge-score` finds them: runs of a-z and 0-9, and nothing in other scripts."""
    return [word for word in _NOT_LATIN_WORD.sub(" ", text.lower()).split(" ") if word]


def tokenizer(kind: Tokenizer, *, stemmed: bool = False) -> Callable[[str], list[str]]:
    """Return the function that splits a text; `stemmed` cuts English endings (Porter) off words of more than three letters."""
    splitters: dict[Tokenizer, Callable[[str], list[str]]] = {
        "unicode": split_words,
        "rouge_score": split_latin_words,
        "whitespace": lambda text: text.split(),
    }
    split = splitters[kind]
    if not stemmed:
        return split
    return lambda text: [stem(word) if len(word) > 3 else word for word in split(text)]


def squad_words(text: str) -> list[str]:
    """Return the words as the SQuAD 1.1 evaluation script counts them: lower case, ASCII punctuation and articles gone."""
    return _ARTICLES.sub(" ", text.lower().translate(_ASCII_PUNCTUATION)).split()


def normalize(
    text: str, *, ignore_case: bool = False, ignore_punctuation: bool = False, ignore_articles: bool = False
) -> str:
    """Return `text` composed (NFC), without space around it and with single spaces inside, and what else is asked."""
    text = unicodedata.normalize("NFC", text)
    if ignore_case:
        text = unicodedata.normalize("NFC", text.casefold())
    if ignore_punctuation:
        text = "".join(char for char in text if not unicodedata.category(char).startswith("P"))
    if ignore_articles:
        text = re.sub(r"\b(?:a|an|the)\b", " ", text, flags=re.IGNORECASE)
    return " ".join(text.split())
