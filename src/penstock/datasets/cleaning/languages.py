"""Guesses the language of a text from its script and its commonest function words; None where that does not say enough.

Good for telling what a dataset is made of, not for judging one short text.
"""

import re
from collections import Counter
from collections.abc import Mapping

MIN_LETTERS = 12
_WORD = re.compile(r"[^\W\d_]+")
_SCRIPTS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("ja", re.compile("[\u3040-\u30ff]")),
    ("ko", re.compile("[\uac00-\ud7af]")),
    ("zh", re.compile("[\u4e00-\u9fff]")),
    ("th", re.compile("[\u0e00-\u0e7f]")),
    ("ar", re.compile("[\u0600-\u06ff]")),
    ("he", re.compile("[\u0590-\u05ff]")),
    ("el", re.compile("[\u0370-\u03ff]")),
    ("hi", re.compile("[\u0900-\u097f]")),
)
"""One language a script: the commonest of those that use it. Japanese is asked first, since it uses Han too."""
_FUNCTION_WORDS: Mapping[str, frozenset[str]] = {
    language: frozenset(words.split())
    for language, words in {
        "en": "the of and to in is that it for was on are with as at be this have from or by not what how you which do",
        "de": "der die und das ist in den von zu mit sich des auf für nicht ein eine auch es an wie was ich sie werden",
        "fr": "le la les de des et est en que un une pour dans qui ce pas sur au avec il elle vous quel comment plus",
        "es": "el la los las de que y en un una es por con para no se del al como qué cómo su más lo puede",
        "it": "il la di che è e un una per non in con si sono come del della le gli più cosa quanto nel dei questo",
        "pt": "o a os as de que e do da em um uma para com não se por mais como é no na dos qual você",
        "nl": "de het een van en in is dat op te zijn voor met niet aan er om ook als maar hoe wat bij wordt je",
        "sv": "och att det i är som en på för med av den till inte ett om har jag hur vad kan du de",
        "da": "og at det i er som en på for med af den til ikke et om har jeg hvordan hvad kan du de",
        "pl": "i w na z się nie do to jest że jak co o po za przez dla są czy od ich tym",
        "tr": "ve bir bu için ile da de ne nasıl çok olarak gibi en kadar mi daha var olan",
        "ru": "и в не на что с как это по для из от он она но или так же бы к за при",
        "uk": "і в не на що з як це та для від він вона але або так є до при за щоб",
        "vi": "là và của có không được cho một những trong các người với này như thế nào để",
        "id": "yang dan di ini itu untuk dengan tidak dari pada adalah dalam apa bagaimana ke akan bisa",
    }.items()
}


def guess_language(text: str) -> str | None:
    """Return the ISO 639-1 code of the likeliest language of those known here, or None."""
    sample = text[:4000]
    letters = sum(char.isalpha() for char in sample)
    for language, pattern in _SCRIPTS:
        n_found = len(pattern.findall(sample))
        if n_found >= 4 and n_found > (0.1 if language == "ja" else 0.4) * letters:
            return language
    if letters < MIN_LETTERS:
        return None
    words = [word.casefold() for word in _WORD.findall(sample)]
    met = Counter({name: sum(word in known for word in words) for name, known in _FUNCTION_WORDS.items()})
    (best, n_best), (_, n_second) = met.most_common(2)
    return best if n_best >= 2 and n_best > n_second and n_best >= 0.1 * len(words) else None
