"""Scorers that look for something in a text: the very answer, a pattern, words, a number, or how far it is from the answer."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from penstock.evals.scorers.code import Judge, ScorerKind, Verdict
from penstock.evals.scorers.distances import count_edits
from penstock.evals.scorers.reading import (
    NoScore,
    Reading,
    compile_pattern,
    read_expected,
    read_references,
    read_text,
)
from penstock.evals.scorers.words import normalize, split_words
from penstock.spec.cases import Case, Output

NO_REFERENCE = "the case has no expected answer, or one that is an object"
MAX_EDIT_CHARS = 50_000
_GAPS = "\u00a0\u2009\u202f'’"


def _number_pattern(decimal_mark: str, *, is_spaced: bool) -> re.Pattern[str]:
    """Return the pattern of a number that is no part of a word, a version or a date: `1,234.5`, `.25`, `-3e8`."""
    mark, thousands = re.escape(decimal_mark), _GAPS + ("," if decimal_mark == "." else ".") + " " * is_spaced
    return re.compile(
        rf"(?<![\w.,])(?>[-+−]?(?:(?:\d{{1,3}}(?:[{thousands}]\d{{3}})+(?!\d)|\d+)(?:{mark}\d+)?|{mark}\d+)"
        rf"(?:[eE][-+]?\d{{1,4}})?)(?!{mark}?\d)"
        rf"|(?<=\d)[-−](?=\d)"
    )


_NUMBERS = {
    (mark, is_spaced): _number_pattern(mark, is_spaced=is_spaced)
    for mark in ".,"
    for is_spaced in (False, True)
}


class TextParameters(Reading, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Reading, and in which normal form texts are compared."""

    ignore_case: bool = False
    ignore_punctuation: bool = False
    ignore_articles: bool = False
    """English `a`, `an`, `the`. What would be nothing without them (or without punctuation) keeps them."""

    def normalizer(self) -> Callable[[str], str]:
        """Return the function that brings a text into the form in which it is compared."""
        return lambda text: normalize(
            text,
            ignore_case=self.ignore_case,
            ignore_punctuation=self.ignore_punctuation,
            ignore_articles=self.ignore_articles,
        )

    def sought(self, text: str, wanted: str) -> "Sought":
        """Return both texts in normal form. An expected text of which nothing would remain keeps what makes it up."""
        clean = self.normalizer()
        if (form := clean(wanted)) or not wanted.strip():
            return Sought(text=clean(text), wanted=form)
        # "A" with articles left out, "!!!" without punctuation: with nothing to look for, everything would do
        kept = msgspec.structs.replace(self, ignore_articles=False)
        is_article = bool(kept.normalizer()(wanted))
        if not is_article:
            kept = msgspec.structs.replace(kept, ignore_punctuation=False)
        clean = kept.normalizer()
        return Sought(text=clean(text), wanted=clean(wanted), is_article=is_article)


class Sought(msgspec.Struct, frozen=True, kw_only=True):
    """Two texts in the form in which they are compared."""

    text: str
    wanted: str
    is_article: bool = False
    """Whether what is wanted is but an article, which within a text counts as a word of its own alone."""


def _texts_to_find(values: Sequence[str], case: Case, parameters: Reading) -> list[str]:
    """Return the texts to look for; an empty one stands in every text and says nothing."""
    wanted = [each for each in (values or read_references(case, parameters)) if each.strip()]
    if not wanted:
        raise NoScore("the expected text is empty, and every text holds that")
    return wanted


def extractor_of(reading: Reading) -> Any:
    """Return the compiled `extract`, or None."""
    return compile_pattern(reading.extract) if reading.extract is not None else None


def _build_exact(parameters: TextParameters) -> Judge:
    clean, extractor = parameters.normalizer(), extractor_of(parameters)

    def judge(case: Case, output: Output) -> Verdict:
        text = read_text(output, parameters, extractor)
        pairs = (parameters.sought(text, each) for each in read_references(case, parameters))
        is_met = any(pair.text == pair.wanted for pair in pairs)
        return Verdict(value=float(is_met), evidence={"found": clean(text)[:200]})

    return judge


class RegexParameters(Reading, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pattern of RE2; None: what the case expects is the pattern."""

    pattern: str | None = None
    match: Literal["search", "full"] = "search"
    ignore_case: bool = False


def _build_regex(parameters: RegexParameters) -> Judge:
    extractor = extractor_of(parameters)
    fixed = (
        None
        if parameters.pattern is None
        else compile_pattern(parameters.pattern, ignore_case=parameters.ignore_case)
    )

    def judge(case: Case, output: Output) -> Verdict:
        try:
            patterns = (
                [fixed]
                if fixed is not None
                else [
                    compile_pattern(each, ignore_case=parameters.ignore_case)
                    for each in read_references(case, parameters)
                ]
            )
        except ValueError as error:
            raise NoScore(str(error)) from error
        text = read_text(output, parameters, extractor)
        for pattern in patterns:
            match = pattern.fullmatch(text) if parameters.match == "full" else pattern.search(text)
            if match is not None:
                return Verdict(value=1.0, evidence={"match": match.group(0)[:200], "at": match.start()})
        return Verdict(value=0.0)

    return judge


class ContainsParameters(TextParameters, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Texts to look for; empty: what the case expects."""

    values: tuple[str, ...] = ()
    mode: Literal["any", "all", "share"] = "any"
    """`share`: the share of the texts that are found."""
    whole_words: bool = False
    """Whether a text must stand between the borders of words."""


def _build_contains(parameters: ContainsParameters) -> Judge:
    extractor = extractor_of(parameters)
    _refuse_empty(parameters.values)

    def judge(case: Case, output: Output) -> Verdict:
        wanted = _texts_to_find(parameters.values, case, parameters)
        text = read_text(output, parameters, extractor)
        found = [each for each in wanted if holds(each, text)]
        share = len(found) / len(wanted)
        value = {"any": float(bool(found)), "all": float(share == 1), "share": share}[parameters.mode]
        missing = [each for each in wanted if each not in found]
        return Verdict(value=value, evidence={"found": found[:20], "missing": missing[:20]})

    def holds(wanted: str, text: str) -> bool:
        pair = parameters.sought(text, wanted)
        return _holds(pair.text, pair.wanted, whole_words=parameters.whole_words or pair.is_article)

    return judge


def _refuse_empty(values: Sequence[str]) -> None:
    if any(not each.strip() for each in values):
        raise ValueError("one of `values` is empty, and every text holds that")


def _holds(text: str, wanted: str, *, whole_words: bool) -> bool:
    if not whole_words:
        return wanted in text
    at = text.find(wanted)
    while at >= 0:
        end = at + len(wanted)
        before, after = text[at - 1 : at] if at else "", text[end : end + 1]
        if not before.isalnum() and not after.isalnum():
            return True
        at = text.find(wanted, at + 1)
    return False


class AffixParameters(TextParameters, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Texts of which one must stand there; empty: what the case expects."""

    values: tuple[str, ...] = ()


def _affix_builder(
    is_there: Callable[[str, str], bool], rest_of: Callable[[str, str], str]
) -> Callable[[AffixParameters], Judge]:
    def build(parameters: AffixParameters) -> Judge:
        extractor = extractor_of(parameters)
        _refuse_empty(parameters.values)

        def judge(case: Case, output: Output) -> Verdict:
            text = read_text(output, parameters, extractor)
            pairs = (
                parameters.sought(text, each) for each in _texts_to_find(parameters.values, case, parameters)
            )
            return Verdict(value=float(any(map(holds, pairs))))

        def holds(pair: Sought) -> bool:
            if not is_there(pair.text, pair.wanted):
                return False
            return not pair.is_article or not rest_of(pair.text, pair.wanted).isalnum()

        return judge

    return build


class NumericParameters(Reading, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How near a number must be: within `absolute`, or within `relative` of the expected one."""

    absolute: float = 0.0
    relative: float = 1e-9
    pick: Literal["first", "last", "only"] = "last"
    """Which number of the text is the answer; `only`: with several numbers there is none."""
    decimal_mark: Literal[".", ","] = "."
    spaced: bool = False
    """Whether plain spaces stand between thousands, as in `10 000`; else these are two numbers."""


def _build_numeric(parameters: NumericParameters) -> Judge:
    if parameters.absolute < 0 or parameters.relative < 0:
        raise ValueError("a tolerance is not negative")
    extractor = extractor_of(parameters)

    def judge(case: Case, output: Output) -> Verdict:
        expected = read_expected(case, parameters)
        wanted = [
            _as_number(each, parameters) for each in (expected if isinstance(expected, list) else [expected])
        ]
        known = [number for number in wanted if number is not None]
        if not known:
            raise NoScore("the case's expected answer is no number")
        numbers = _list_numbers(
            read_text(output, parameters, extractor), parameters.decimal_mark, is_spaced=parameters.spaced
        )
        if not numbers or (parameters.pick == "only" and len(numbers) > 1):
            reason = "there is no number in the answer" if not numbers else "there are several numbers in it"
            return Verdict(
                value=0.0,
                reason=reason,
                evidence={"found": [number for number in numbers[:20] if math.isfinite(number)]},
            )
        found = numbers[0 if parameters.pick == "first" else -1]
        if not math.isfinite(found):
            return Verdict(value=0.0, reason="the number in the answer is too large to be one")
        nearest = min(known, key=lambda number: abs(number - found))
        is_near = abs(found - nearest) <= max(parameters.absolute, parameters.relative * abs(nearest))
        evidence = {"found": found, "expected": nearest, "difference": found - nearest}
        return Verdict(value=float(is_near), evidence=evidence)

    return judge


def _as_number(value: Any, parameters: NumericParameters) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value) if math.isfinite(value) else None
    numbers = find_numbers(str(value), parameters.decimal_mark, is_spaced=parameters.spaced)
    return numbers[-1] if numbers else None


def find_numbers(text: str, decimal_mark: str = ".", *, is_spaced: bool = False) -> list[float]:
    """Return the finite numbers of a text, in order; marks between thousands are taken out."""
    return [
        number for number in _list_numbers(text, decimal_mark, is_spaced=is_spaced) if math.isfinite(number)
    ]


def _list_numbers(text: str, decimal_mark: str, *, is_spaced: bool) -> list[float]:
    """Return all numbers, those that are too large as infinite ones."""
    found = []
    for match in _NUMBERS[decimal_mark, is_spaced].finditer(text):
        digits = re.sub(f"[ {_GAPS}]", "", match[0]).replace("−", "-")
        digits = digits.replace("," if decimal_mark == "." else ".", "").replace(decimal_mark, ".")
        if digits not in {"-", ""}:
            found.append(float(digits))
    return found


class EditParameters(TextParameters, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is counted."""

    unit: Literal["characters", "words"] = "characters"
    measure: Literal["likeness", "edits"] = "likeness"
    """`edits`: how many insertions, deletions and substitutions it takes, fewer being better."""


def _build_levenshtein(parameters: EditParameters) -> Judge:
    extractor = extractor_of(parameters)

    def split(text: str, wanted: str) -> tuple[Sequence[str], Sequence[str]]:
        if parameters.unit == "words":
            words = split_words(text), split_words(wanted)
            if any(words):
                return words
        pair = parameters.sought(text, wanted)  # also where neither text has a word, so that + is not -
        if max(len(pair.text), len(pair.wanted)) > MAX_EDIT_CHARS:
            raise NoScore(f"a text is longer than {MAX_EDIT_CHARS:,} characters; count words instead")
        return pair.text, pair.wanted

    def judge(case: Case, output: Output) -> Verdict:
        text = read_text(output, parameters, extractor)
        best, edits = -math.inf, 0
        for each in read_references(case, parameters):
            found, wanted = split(text, each)
            n = count_edits(found, wanted)
            longer = max(len(found), len(wanted))
            likeness = 1.0 if longer == 0 else 1 - n / longer
            if (-n if parameters.measure == "edits" else likeness) > best:
                best, edits = (-float(n) if parameters.measure == "edits" else likeness), n
        return Verdict(
            value=float(edits) if parameters.measure == "edits" else best, evidence={"edits": edits}
        )

    return judge


def _binary_or_share(parameters: ContainsParameters) -> dict[str, Any]:
    changes: dict[str, Any] = {"scale": "bounded" if parameters.mode == "share" else "binary"}
    if parameters.values:
        changes["needs"] = frozenset()
    return changes


KINDS: tuple[ScorerKind[Any], ...] = (
    ScorerKind(
        name="exact",
        group="text",
        summary="1 when the answer is one of the expected ones, spaces and Unicode forms aside.",
        undefined_when=NO_REFERENCE,
        parameters=TextParameters,
        build=_build_exact,
        scale="binary",
        needs=frozenset({"expected"}),
    ),
    ScorerKind(
        name="regex",
        group="text",
        summary="1 when the pattern (RE2) is found in the answer.",
        undefined_when="without a pattern the case has none either",
        parameters=RegexParameters,
        build=_build_regex,
        scale="binary",
        needs=frozenset({"expected"}),
        adapt=lambda parameters: {} if parameters.pattern is None else {"needs": frozenset()},
    ),
    ScorerKind(
        name="contains",
        group="text",
        summary="1 when the answer holds any (or all) of the texts.",
        undefined_when="without `values`: " + NO_REFERENCE,
        parameters=ContainsParameters,
        build=_build_contains,
        scale="binary",
        needs=frozenset({"expected"}),
        adapt=_binary_or_share,
    ),
    *(
        ScorerKind(
            name=name,
            group="text",
            summary=f"1 when the answer {words} one of the texts.",
            undefined_when="without `values`: " + NO_REFERENCE,
            parameters=AffixParameters,
            build=_affix_builder(is_there, rest_of),
            scale="binary",
            needs=frozenset({"expected"}),
            adapt=lambda parameters: {"needs": frozenset()} if parameters.values else {},
        )
        for name, words, is_there, rest_of in (
            ("starts_with", "begins with", str.startswith, lambda text, wanted: text[len(wanted) :][:1]),
            ("ends_with", "ends with", str.endswith, lambda text, wanted: text[: -len(wanted)][-1:]),
        )
    ),
    ScorerKind(
        name="numeric",
        group="text",
        summary="1 when the number in the answer is near enough to the expected one.",
        undefined_when="the case expects no number",
        parameters=NumericParameters,
        build=_build_numeric,
        scale="binary",
        needs=frozenset({"expected"}),
    ),
    ScorerKind(
        name="levenshtein",
        group="text",
        summary="Likeness to the nearest expected answer: 1 − edits ÷ length of the longer text.",
        undefined_when=NO_REFERENCE + f"; a text longer than {MAX_EDIT_CHARS:,} characters",
        parameters=EditParameters,
        build=_build_levenshtein,
        needs=frozenset({"expected"}),
        adapt=lambda parameters: (
            {"direction": "lower", "scale": "unbounded", "high": None, "unit": "edits"}
            if parameters.measure == "edits"
            else {}
        ),
    ),
)
