"""Scorers that count what words two texts share: token F1 (SQuAD), ROUGE (Lin 2004), METEOR (Banerjee and Lavie 2005, 2007).

The default tokenizer knows every script; `tokenizer = "rouge_score"` gives the numbers of that package, which scores Hindi or
Chinese texts 0 even beside themselves. Of several acceptable answers the best one counts.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Literal

from penstock.evals.scorers.code import Judge, ScorerKind, Verdict
from penstock.evals.scorers.distances import count_common, find_common
from penstock.evals.scorers.matching import NO_REFERENCE, extractor_of
from penstock.evals.scorers.porter import stem
from penstock.evals.scorers.reading import NoScore, Reading, read_references, read_text
from penstock.evals.scorers.words import Tokenizer, normalize, split_words, squad_words, tokenizer
from penstock.spec.cases import Case, Output

Shares = tuple[float, float]
"""Precision and recall."""
Measure = Literal["f1", "precision", "recall"]
MAX_LINE_LOOKS = 1_000_000
"""Words times lines of the other text that ROUGE-Lsum goes through: some seconds."""


class TokenParameters(Reading, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How texts become words, and which of the three numbers is the score."""

    tokenizer: Literal["unicode", "squad"] = "unicode"
    """`squad`: as the script of SQuAD 1.1 counts, for texts in Latin script with spaces."""
    measure: Measure = "f1"


class RougeParameters(Reading, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How texts become words, and which of the three numbers is the score."""

    tokenizer: Tokenizer = "unicode"
    stemmer: bool = False
    """Cuts English endings off (Porter)."""
    measure: Measure = "f1"


class MeteorParameters(Reading, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Weights as in the paper of 2005: alpha between precision and recall, beta and gamma of the penalty for order."""

    tokenizer: Tokenizer = "unicode"
    alpha: float = 0.9
    beta: float = 3.0
    gamma: float = 0.5


def f_measure(precision: float, recall: float) -> float:
    """Return the harmonic mean; 0 where both are 0."""
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _build_token_f1(parameters: TokenParameters) -> Judge:
    extractor = extractor_of(parameters)
    split = squad_words if parameters.tokenizer == "squad" else split_words

    def judge(case: Case, output: Output) -> Verdict:
        text = read_text(output, parameters, extractor)
        found = Counter(split(text))
        n_found = found.total()
        best: Shares = (0.0, 0.0)
        best_value = -1.0
        for each in read_references(case, parameters):
            wanted = Counter(split(each))
            n_wanted = wanted.total()
            if not n_found or not n_wanted:
                # without words on either side it is right only when both are the same: nothing, or the same signs
                is_same = n_found == n_wanted and normalize(text, ignore_case=True) == normalize(
                    each, ignore_case=True
                )
                shares = (float(is_same),) * 2
            else:
                n_shared = (found & wanted).total()
                shares = (n_shared / n_found, n_shared / n_wanted)
            if (value := _pick(shares, parameters.measure)) > best_value:
                best, best_value = shares, value
        return Verdict(value=best_value, evidence={"precision": best[0], "recall": best[1]})

    return judge


def _pick(shares: Shares, measure: Measure) -> float:
    return {"precision": shares[0], "recall": shares[1]}.get(measure, f_measure(*shares))


def _rouge_builder(
    compare: Callable[[str, str, Callable[[str], list[str]]], Shares],
) -> Callable[[RougeParameters], Judge]:
    def build(parameters: RougeParameters) -> Judge:
        extractor = extractor_of(parameters)
        # a text is split once, though it is looked at several times
        split = lru_cache(maxsize=32)(tokenizer(parameters.tokenizer, stemmed=parameters.stemmer))

        def judge(case: Case, output: Output) -> Verdict:
            text = read_text(output, parameters, extractor)
            references = [each for each in read_references(case, parameters) if split(each)]
            if not references:
                raise NoScore("the expected answer has no words")
            shares = max(
                (compare(each, text, split) for each in references),
                key=lambda each: _pick(each, parameters.measure),
            )
            evidence = {"precision": shares[0], "recall": shares[1]}
            return Verdict(value=_pick(shares, parameters.measure), evidence=evidence)

        return judge

    return build


def _shares(n_shared: int, n_found: int, n_wanted: int) -> Shares:
    return (n_shared / n_found if n_found else 0.0, n_shared / n_wanted if n_wanted else 0.0)


def _ngram_rouge(size: int) -> Callable[[str, str, Callable[[str], list[str]]], Shares]:
    def count(words: Sequence[str]) -> Counter[tuple[str, ...]]:
        return Counter(zip(*(words[at:] for at in range(size)), strict=False))

    def compare(reference: str, text: str, split: Callable[[str], list[str]]) -> Shares:
        wanted, found = count(split(reference)), count(split(text))
        return _shares((wanted & found).total(), found.total(), wanted.total())

    return compare


def _rouge_l(reference: str, text: str, split: Callable[[str], list[str]]) -> Shares:
    wanted, found = split(reference), split(text)
    return _shares(count_common(wanted, found), len(found), len(wanted))


def _rouge_lsum(reference: str, text: str, split: Callable[[str], list[str]]) -> Shares:
    """Return the summary-level shares: lines are sentences, and the union of their common subsequences counts (Lin 2004, 3.2)."""
    wanted = [split(line) for line in reference.split("\n") if line]
    found = [split(line) for line in text.split("\n") if line]
    n_looks = sum(map(len, wanted)) * len(found) + sum(map(len, found)) * len(wanted)
    if n_looks > MAX_LINE_LOOKS:
        raise NoScore("the texts have too many lines to be compared line by line; use rouge_l")
    left_wanted = Counter(word for line in wanted for word in line)
    left_found = Counter(word for line in found for word in line)
    n_wanted, n_found = left_wanted.total(), left_found.total()
    if not n_wanted or not n_found:
        return 0.0, 0.0
    n_shared = 0
    for line in wanted:
        union = sorted({place for other in found for place in find_common(line, other)})
        for place in union:
            word = line[place]
            if left_wanted[word] > 0 and left_found[word] > 0:
                n_shared += 1
                left_wanted[word] -= 1
                left_found[word] -= 1
    return _shares(n_shared, n_found, n_wanted)


def _build_meteor(parameters: MeteorParameters) -> Judge:
    extractor = extractor_of(parameters)
    split = tokenizer(parameters.tokenizer)

    def judge(case: Case, output: Output) -> Verdict:
        found = [word.lower() for word in split(read_text(output, parameters, extractor))]
        wanted = [
            words
            for each in read_references(case, parameters)
            if (words := [word.lower() for word in split(each)])
        ]
        if not wanted:
            raise NoScore("the expected answer has no words")
        results = [_meteor(found, words, parameters) for words in wanted]
        value, n_matches, n_chunks = max(results)
        return Verdict(value=value, evidence={"matches": n_matches, "chunks": n_chunks})

    return judge


def _meteor(
    found: Sequence[str], wanted: Sequence[str], parameters: MeteorParameters
) -> tuple[float, int, int]:
    pairs = _align(found, wanted)
    if not pairs:
        return 0.0, 0, 0
    precision, recall = len(pairs) / len(found), len(pairs) / len(wanted)
    mean = precision * recall / (parameters.alpha * precision + (1 - parameters.alpha) * recall)
    n_chunks = 1 + sum(
        1 for before, after in itertools.pairwise(pairs) if after != (before[0] + 1, before[1] + 1)
    )
    penalty = parameters.gamma * (n_chunks / len(pairs)) ** parameters.beta
    return (1 - penalty) * mean, len(pairs), n_chunks


def _align(found: Sequence[str], wanted: Sequence[str]) -> list[tuple[int, int]]:
    """Return pairs of places of equal words, then of equal stems, by place in `found`.

    From the end on, each word takes the last free equal one, as `nltk` does; METEOR 1.5 looks for the fewest crossings.
    """
    pairs: list[tuple[int, int]] = []
    left, right = list(range(len(found))), list(range(len(wanted)))
    for form in (str, stem):
        places: dict[str, list[int]] = {}
        for place in right:
            places.setdefault(form(wanted[place]), []).append(place)
        taken = [(place, free.pop()) for place in reversed(left) if (free := places.get(form(found[place])))]
        pairs += taken
        used_left, used_right = {pair[0] for pair in taken}, {pair[1] for pair in taken}
        left = [place for place in left if place not in used_left]
        right = [place for place in right if place not in used_right]
    return sorted(pairs)


_ROUGE = (
    ("rouge_1", "Words shared with the expected text (ROUGE-1).", _ngram_rouge(1)),
    ("rouge_2", "Pairs of neighbouring words shared with the expected text (ROUGE-2).", _ngram_rouge(2)),
    ("rouge_l", "Longest common subsequence of words, over the whole text (ROUGE-L).", _rouge_l),
    (
        "rouge_lsum",
        "Longest common subsequences line by line, their union (ROUGE-Lsum); sentences are lines.",
        _rouge_lsum,
    ),
)
KINDS: tuple[ScorerKind[Any], ...] = (
    ScorerKind(
        name="token_f1",
        group="text",
        summary="Words shared with the expected answer: harmonic mean of precision and recall (SQuAD).",
        undefined_when=NO_REFERENCE,
        parameters=TokenParameters,
        build=_build_token_f1,
        needs=frozenset({"expected"}),
    ),
    *(
        ScorerKind(
            name=name,
            group="text",
            summary=summary,
            undefined_when=NO_REFERENCE + ", or one without words",
            parameters=RougeParameters,
            build=_rouge_builder(compare),
            needs=frozenset({"expected"}),
        )
        for name, summary, compare in _ROUGE
    ),
    ScorerKind(
        name="meteor",
        group="text",
        summary="Aligned words and stems with a penalty for broken order (METEOR of 2005, without synonyms).",
        undefined_when=NO_REFERENCE + ", or one without words",
        parameters=MeteorParameters,
        build=_build_meteor,
        needs=frozenset({"expected"}),
    ),
)
