"""Which language a document is in: by its script, or by the small words that every sentence has.

Knows the languages below and no others; what is too short or too mixed to tell is None.
"""

import re
import unicodedata
from collections import Counter

from penstock.knowledge.types import ParsedDocument

SAMPLE_CHARS = 20_000
MIN_WORDS = 12
MIN_SHARE = 0.08
"""Running text has a fifth to a half of such words; lists of names have none."""
MIN_LEAD = 1.25
MIN_DIFFERENT = 3
"""One small word alone ("a") is in too many languages."""
_WORD = re.compile(r"[^\W\d_]+")
_COMMON = {
    "en": "the of and to in is that for it was on are as with be by this from or at an which not have has were but",
    "de": "der die und das ist von zu den mit sich des auf für nicht ein eine dem im auch es an werden aus als wird",
    "fr": "le la les de des et est un une du dans que qui pour pas sur au plus par avec ce il sont ne cette aux en",
    "es": "el la los las de que y en un una es por con no para se del al lo como más su son pero este está",
    "it": "il di che la e in un per è non una con del della sono da i le si nel gli dei più come alla anche al",
    "pt": "o a os as de que e do da em um uma para com não é por no na se dos mais como foi ao ele das são",
    "nl": "de het een van en in is dat op te zijn voor met niet die aan er om ook als bij naar uit wordt deze maar",
    "sv": "och att det som en på är av för med den till inte har om ett var jag men sig de från vid kan ska eller",
    "da": "og at det som en på er af for med den til ikke har om et var jeg men sig de fra ved kan skal eller blev",
    "no": "og at det som en på er av for med den til ikke har om et var jeg men seg de fra ved kan skal eller ble",
    "fi": "ja on ei että se oli hän ovat mutta kun niin joka myös kuin ole sen tai jos mitä tämä voi vain mukaan ne",
    "pl": "i w nie na się z że do to jest jak o ale po co tak za od jego przez dla są tym może być który oraz",
    "cs": "a se v na je že s z do i to ve o k pro jako jsou by po ale od za které jeho tak nebo byl při může podle",
    "tr": "ve bir bu da de için ile çok olarak gibi daha ne var o en kadar olan sonra ama her ya mı değil ise",
    "ro": "și de la în a cu pe care nu o un este din că pentru mai sunt se au fost ca prin sau dar fi lui",
    "hu": "a az és hogy nem is egy van meg de ez volt csak ha mint már vagy lehet azt még el szerint kell után",
}
_WORDS = {language: frozenset(words.split()) for language, words in _COMMON.items()}
_SCRIPTS = {
    "HIRAGANA": "ja", "KATAKANA": "ja", "HANGUL": "ko", "CJK": "zh", "GREEK": "el", "HEBREW": "he", "THAI": "th",
    "ARABIC": "ar", "DEVANAGARI": "hi", "GEORGIAN": "ka", "ARMENIAN": "hy", "BENGALI": "bn", "TAMIL": "ta",
}  # fmt: skip
_UKRAINIAN = frozenset("іїєґ")
_RUSSIAN = frozenset("ыэъё")


def find_language(document: ParsedDocument) -> str | None:
    """Return the language of the document's text, ISO 639-1."""
    pieces: list[str] = []
    length = 0
    for section in document.sections:
        pieces.append(section.text[:SAMPLE_CHARS])
        length += len(section.text)
        if length > SAMPLE_CHARS:
            break
    return language_of(" ".join(pieces)[:SAMPLE_CHARS])


def language_of(text: str) -> str | None:
    """Return the language of a text, None where it cannot be told."""
    letters = [char for char in text if char.isalpha()]
    if len(letters) < 20:
        return None
    scripts = Counter(_script(char) for char in letters[:: max(1, len(letters) // 500)])
    japanese = scripts["HIRAGANA"] + scripts["KATAKANA"]
    total = scripts.total()
    if japanese > 0.1 * total:
        return "ja"
    script, count = scripts.most_common(1)[0]
    if count < 0.6 * total:
        return None
    if script == "CYRILLIC":
        return _cyrillic(text.lower())
    if script == "LATIN":
        return _latin(text.lower())
    return _SCRIPTS.get(script)


def _script(char: str) -> str:
    if char.isascii():
        return "LATIN"
    return unicodedata.name(char, "?").partition(" ")[0]


def _cyrillic(text: str) -> str | None:
    ukrainian, russian = (sum(char in letters for char in text) for letters in (_UKRAINIAN, _RUSSIAN))
    if ukrainian == russian:
        return None
    return "uk" if ukrainian > russian else "ru"


def _latin(text: str) -> str | None:
    words = _WORD.findall(text)
    if len(words) < MIN_WORDS:
        return None
    counts = Counter(words)
    scores = Counter({
        language: sum(counts[word] for word in common) for language, common in _WORDS.items()
    })  # fmt: skip
    (best, first), (_, second) = scores.most_common(2)
    if sum(word in counts for word in _WORDS[best]) < MIN_DIFFERENT:
        return None
    if first < MIN_SHARE * len(words) or first < MIN_LEAD * second:
        return _nordic(text) if {best, scores.most_common(2)[1][0]} <= {"da", "no"} and first else None
    return best


def _nordic(text: str) -> str | None:
    """Danish and Norwegian share their small words: tell them by spellings of one alone."""
    danish = len(re.findall(r"\b(?:af|hvad|efter|også|meget|blev|kunne|sig)\b", text))
    norwegian = len(re.findall(r"\b(?:av|hva|etter|også|mye|ble|kunne|seg)\b", text))
    return None if danish == norwegian else "da" if danish > norwegian else "no"
