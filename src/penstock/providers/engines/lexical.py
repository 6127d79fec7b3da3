"""The embedder that needs no weights: words and character n-grams hashed into 384 signed buckets.

It finds shared words and shared pieces of words, and knows nothing of meaning: `car` and `automobile` are
strangers to it. It stands in where no embedding weights are on the machine, under its own name `lexical`.
Method: the hashing trick with signs (Weinberger et al. 2009) over words and 3–5-grams (as in fastText).
"""

import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

DIMS = 384
NAME = "lexical"
VERSION = "lexical@1"
DESCRIPTION = "Lexical hashing embedder: finds shared words and word pieces, knows nothing of meaning."

_WORD = re.compile(r"\w+")
_STOP_WORDS = (
    "a an and are as at be but by can do does for from had has have how i if in is it its may me my not of on or "
    "our should so than that the their them then there these they this to was we were what when where which who "
    "why will with would you your"
)
_STOP = frozenset(_STOP_WORDS.split())
_WORD_WEIGHT, _STOP_WEIGHT, _GRAM_WEIGHT = 1.0, 0.15, 0.35


def tokenize_words(text: str) -> list[str]:
    """Return the case-folded words of `text` without accents."""
    plain = unicodedata.normalize("NFKD", text)
    return _WORD.findall("".join(char for char in plain if not unicodedata.combining(char)).casefold())


def embed_texts(texts: Sequence[str]) -> NDArray[np.float32]:
    """Return one row of 384 per text, L2-normalised; a text without words gives a row of zeros.

    Deterministic across processes and machines (CRC-32, not Python's hash).
    """
    rows = np.zeros((len(texts), DIMS), dtype=np.float32)
    for row, text in zip(rows, texts, strict=True):
        for feature, weight in _weigh_features(text).items():
            code = zlib.crc32(feature.encode())
            row[code % DIMS] += weight if code >> 31 else -weight
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    np.divide(rows, norms, out=rows, where=norms > 0)
    return rows


def _weigh_features(text: str) -> dict[str, float]:
    features: dict[str, float] = {}
    for word, count in Counter(tokenize_words(text)).items():
        damped = 1.0 + float(np.log(count))
        if word in _STOP:
            features[f"w:{word}"] = _STOP_WEIGHT * damped
            continue
        features[f"w:{word}"] = _WORD_WEIGHT * damped
        padded = f"<{word}>"
        grams = [padded[i : i + n] for n in (3, 4, 5) for i in range(len(padded) - n + 1)]
        for gram in grams:
            features[f"g:{gram}"] = (
                features.get(f"g:{gram}", 0.0) + _GRAM_WEIGHT * damped / max(len(grams), 1) ** 0.5
            )
    return features
