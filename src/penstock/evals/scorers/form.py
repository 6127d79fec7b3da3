"""Scorers of form that need no reference: length, readability, language, citations; and what an output took: time, money, tokens."""

import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Literal

import msgspec

from penstock.evals.scorers.code import Judge, ScorerKind, Verdict
from penstock.evals.scorers.lexicon import load_lexicon
from penstock.evals.scorers.reading import NoScore, compile_pattern, whole_text
from penstock.evals.scorers.words import split_words
from penstock.spec.cases import Case, Output

MIN_LANGUAGE_LETTERS = 12
_SENTENCE_END = re.compile(r"[.!?…]+(?=[\s\"'”’)\]]|$)|[。！？।]+|\n{2,}")
_LATIN_WORD = re.compile(r"[A-Za-z]+(?:['’][A-Za-z]+)*")
_VOWELS = re.compile(r"[aeiouy]+")


class LengthParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is counted; with a bound the score is 1 within it and 0 outside."""

    unit: Literal["characters", "words", "sentences", "lines", "tokens"] = "words"
    """`tokens`: as the provider counted the answer."""
    minimum: int | None = None
    maximum: int | None = None


def _count_words(text: str) -> int:
    return len(split_words(text))


def _count_lines(text: str) -> int:
    return len(text.splitlines())


def _build_length(parameters: LengthParameters) -> Judge:
    if (
        parameters.minimum is not None
        and parameters.maximum is not None
        and parameters.minimum > parameters.maximum
    ):
        raise ValueError("`minimum` is more than `maximum`: no answer could be so long")

    def judge(case: Case, output: Output) -> Verdict:
        _ = case
        text = whole_text(output)
        if parameters.unit == "tokens":
            n = output.usage.output_tokens if output.usage else None
            if n is None:
                raise NoScore("nobody counted the answer's tokens")
        else:
            n = _COUNTERS[parameters.unit](text)
        if parameters.minimum is None and parameters.maximum is None:
            return Verdict(value=float(n))
        is_within = (parameters.minimum or 0) <= n and (parameters.maximum is None or n <= parameters.maximum)
        return Verdict(value=float(is_within), evidence={"length": n})

    return judge


def _length_facts(parameters: LengthParameters) -> Mapping[str, Any]:
    if parameters.minimum is not None or parameters.maximum is not None:
        return {"scale": "binary", "high": 1.0, "direction": "higher", "unit": None}
    return {"unit": parameters.unit}


def count_sentences(text: str) -> int:
    """Return the number of sentences: pieces between full stops and empty lines that hold a word."""
    return sum(1 for piece in _SENTENCE_END.split(text) if piece and split_words(piece))


_COUNTERS: Mapping[str, Callable[[str], int]] = {
    "characters": len,
    "words": _count_words,
    "sentences": count_sentences,
    "lines": _count_lines,
}


class ReadabilityParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which formula; all three were made for English prose."""

    formula: Literal["flesch", "flesch_kincaid", "ari"] = "flesch"
    """`flesch`: reading ease, higher is easier; `flesch_kincaid` and `ari`: a grade of US schools, higher is harder."""


def _build_readability(parameters: ReadabilityParameters) -> Judge:
    def judge(case: Case, output: Output) -> Verdict:
        _ = case
        text = whole_text(output)
        words = _LATIN_WORD.findall(text)
        n_letters = sum(1 for char in text if char.isalpha())
        if not words:
            raise NoScore("the answer has no words in Latin script")
        if sum(map(len, words)) < n_letters / 2:
            raise NoScore("most of the answer is not in Latin script; these formulas are for English")
        n_words, n_sentences = len(words), max(1, count_sentences(text))
        if parameters.formula == "ari":
            n_chars = sum(1 for word in words for char in word if char.isalnum())
            value = 4.71 * n_chars / n_words + 0.5 * n_words / n_sentences - 21.43
        else:
            n_syllables = sum(map(count_syllables, words))
            per_word, per_sentence = n_syllables / n_words, n_words / n_sentences
            if parameters.formula == "flesch":
                value = 206.835 - 1.015 * per_sentence - 84.6 * per_word
            else:
                value = 0.39 * per_sentence + 11.8 * per_word - 15.59
        return Verdict(value=value, evidence={"words": n_words, "sentences": n_sentences})

    return judge


def count_syllables(word: str) -> int:
    """Return about how many syllables an English word has: groups of vowels, silent endings taken off, at least one."""
    word = word.lower().replace("’", "'").split("'")[0]
    n = len(_VOWELS.findall(word))
    is_silent_e = word.endswith("e") and not word.endswith(("le", "ee"))
    is_silent_ed = len(word) > 3 and word.endswith("ed") and word[-3] not in "tdaeiouy"
    if n > 1 and (is_silent_e or is_silent_ed):
        n -= 1
    return max(1, n)


class LanguageParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which language is asked for."""

    language: str | None = None
    """Code of two letters, such as `de`; None: what the case's metadata says under `language`."""


def _build_language(parameters: LanguageParameters) -> Judge:
    known = set(load_lexicon("languages")) | set(_SCRIPT_LANGUAGES.values())
    if parameters.language is not None and parameters.language not in known:
        raise ValueError(
            f"language {parameters.language!r} is not told apart; known: {', '.join(sorted(known))}"
        )

    def judge(case: Case, output: Output) -> Verdict:
        wanted = parameters.language or case.metadata.get("language")
        if not isinstance(wanted, str):
            raise NoScore("neither the scorer nor the case's metadata names a language")
        found = guess_language(whole_text(output))
        if found is None:
            raise NoScore("the answer is too short, or too mixed, to tell its language")
        return Verdict(value=float(found == wanted), label=found)

    return judge


_SCRIPT_LANGUAGES = {
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "HANGUL": "ko",
    "CJK": "zh",
    "THAI": "th",
    "GREEK": "el",
    "HEBREW": "he",
    "ARABIC": "ar",
    "DEVANAGARI": "hi",
    "BENGALI": "bn",
    "TAMIL": "ta",
}
"""Scripts that mostly stand for one language here; Persian, Urdu, Nepali, Marathi are not told apart from their neighbours."""


def guess_language(text: str) -> str | None:
    """Return the language by its script or, in Latin and Cyrillic script, by its commonest words; None when in doubt."""
    letters = [char for char in text[:20_000] if char.isalpha()]
    scripts: dict[str, int] = {}
    for char in letters:
        script = unicodedata.name(char, "").split(" ")[0].split("-")[0]
        scripts[script] = scripts.get(script, 0) + 1
    if not scripts:
        return None
    if scripts.get("HIRAGANA", 0) + scripts.get("KATAKANA", 0) > len(letters) / 10:
        return "ja"
    script = max(scripts, key=lambda name: scripts[name])
    if script in _SCRIPT_LANGUAGES:
        return _SCRIPT_LANGUAGES[script] if scripts[script] > len(letters) / 2 else None
    if script not in {"LATIN", "CYRILLIC"} or len(letters) < MIN_LANGUAGE_LETTERS:
        return None
    counts: dict[str, int] = {}
    common = _common_words()
    for word in split_words(text[:20_000]):
        for language in common.get(word, ()):
            counts[language] = counts.get(language, 0) + 1
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    if not ranked or (len(ranked) > 1 and ranked[0][1] == ranked[1][1]):
        return None
    return ranked[0][0]


@cache
def _common_words() -> Mapping[str, tuple[str, ...]]:
    languages: dict[str, tuple[str, ...]] = {}
    for language, words in load_lexicon("languages").items():
        for word in words:
            languages[word] = (*languages.get(word, ()), language)
    return languages


class CitationParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a citation is, and what is asked of it."""

    minimum: int = 1
    pattern: str | None = None
    """RE2; marks in the text that count as citations, such as `\\[\\d+\\]`."""
    check_quotes: bool = False
    """Whether the quote of each citation must stand in a retrieved passage; the score is then the share that does."""


def _build_citations(parameters: CitationParameters) -> Judge:
    pattern = None if parameters.pattern is None else compile_pattern(parameters.pattern)

    def judge(case: Case, output: Output) -> Verdict:
        _ = case
        marks = {match.group(0) for match in pattern.finditer(whole_text(output))} if pattern else set()
        n = len(output.citations) + len(marks)
        if not parameters.check_quotes:
            return Verdict(value=float(n >= parameters.minimum), evidence={"citations": n})
        quotes = [str(each["quote"]) for each in output.citations if each.get("quote")]
        if not quotes:
            raise NoScore("no citation quotes anything")
        if not output.passages:
            raise NoScore("the output does not say what was retrieved")
        texts = [" ".join(passage.text.split()) for passage in output.passages]
        wrong = [quote for quote in quotes if not any(" ".join(quote.split()) in text for text in texts)]
        return Verdict(value=1 - len(wrong) / len(quotes), evidence={"not_in_passages": wrong[:5]})

    return judge


class NoParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """There are none."""


class TokensParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tokens are counted."""

    of: Literal["output", "input", "both"] = "output"


def _measurement(read: Callable[[Output], float | None], unknown: str) -> Callable[[Any], Judge]:
    def build(parameters: Any) -> Judge:
        _ = parameters

        def judge(case: Case, output: Output) -> Verdict:
            _ = case
            value = read(output)
            if value is None:
                raise NoScore(unknown)
            return Verdict(value=value, evidence={"is_cached": True} if output.is_cached else {})

        return judge

    return build


def _build_tokens(parameters: TokensParameters) -> Judge:
    def read(output: Output) -> float | None:
        if output.usage is None:
            return None
        counts = {"output": (output.usage.output_tokens,), "input": (output.usage.input_tokens,)}.get(
            parameters.of, (output.usage.output_tokens, output.usage.input_tokens)
        )
        known = [count for count in counts if count is not None]
        return float(sum(known)) if len(known) == len(counts) else None

    return _measurement(read, "nobody counted the tokens")(parameters)


def _build_error_rate(parameters: NoParameters) -> Judge:
    _ = parameters

    def judge(case: Case, output: Output) -> Verdict:
        _ = case
        code = output.error.code if output.error else None
        return Verdict(value=float(output.status == "error"), label=code)

    return judge


def _cost(output: Output) -> float | None:
    return None if output.cost_usd is None else float(output.cost_usd)


_MEASUREMENTS: tuple[tuple[str, str, str, Any, str, Any], ...] = (
    ("latency", "How long the answer took, in milliseconds.", "ms", lambda output: output.latency_ms, "nobody measured how long it took", "latency"),
    ("ttft", "Time to the first piece of the answer, in milliseconds.", "ms", lambda output: output.ttft_ms, "the answer was not streamed, or nobody measured it", "latency"),
    ("cost", "What the answer cost, in US dollars.", "USD", _cost, "no price is known", "cost"),
)  # fmt: skip
KINDS: tuple[ScorerKind[Any], ...] = (
    ScorerKind(
        name="length",
        group="form",
        summary="How long the answer is, or whether its length is within bounds.",
        undefined_when="with `tokens`: nobody counted them",
        parameters=LengthParameters,
        build=_build_length,
        direction="none",
        scale="unbounded",
        high=None,
        adapt=_length_facts,
    ),
    ScorerKind(
        name="readability",
        group="form",
        summary="How easy English prose is to read: Flesch, Flesch-Kincaid, ARI. Syllables are estimated.",
        undefined_when="the answer has no words in Latin script, or is mostly in another",
        parameters=ReadabilityParameters,
        build=_build_readability,
        direction="none",
        scale="unbounded",
        low=None,
        high=None,
    ),
    ScorerKind(
        name="language",
        group="form",
        summary="1 when the answer is in the language asked for, by script and common words.",
        undefined_when="nobody says which language; the answer is too short to tell",
        parameters=LanguageParameters,
        build=_build_language,
        scale="binary",
    ),
    ScorerKind(
        name="citations",
        group="form",
        summary="1 when the answer cites something, or the share of its quotes that stand in what was retrieved.",
        undefined_when="with `check_quotes`: there are no quotes, or no retrieved passages",
        parameters=CitationParameters,
        build=_build_citations,
        scale="binary",
        adapt=lambda parameters: {"scale": "bounded"} if parameters.check_quotes else {},
    ),
    *(
        ScorerKind(
            name=name,
            group="operation",
            summary=summary,
            undefined_when=unknown,
            parameters=NoParameters,
            build=_measurement(read, unknown),
            direction="lower",
            scale="unbounded",
            high=None,
            unit=unit,
            needs=frozenset({need}),
        )
        for name, summary, unit, read, unknown, need in _MEASUREMENTS
    ),
    ScorerKind(
        name="tokens",
        group="operation",
        summary="How many tokens were used, as the provider counted.",
        undefined_when="nobody counted the tokens",
        parameters=TokensParameters,
        build=_build_tokens,
        direction="lower",
        scale="unbounded",
        high=None,
        unit="tokens",
    ),
    ScorerKind(
        name="error_rate",
        group="operation",
        summary="1 when the target failed to answer; its mean is the share of errors.",
        parameters=NoParameters,
        build=_build_error_rate,
        direction="lower",
        scale="binary",
        statuses=frozenset({"ok", "refused", "error"}),
    ),
)
