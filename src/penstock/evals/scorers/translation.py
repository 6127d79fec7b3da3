"""BLEU, chrF and TER over `sacrebleu`, whose numbers they are: 0 to 100, figures over the corpus and not means of sentences.

A score's value is the sentence's own (BLEU: with effective order); its `statistics` are sacrebleu's counts, and the figure is
computed from their sum. One difference: where nothing could be counted (BLEU of answers that are all shorter than four words,
TER without reference words) the figure is undefined and not 0.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import msgspec
import numpy as np
from numpy import float64, uint32
from numpy.typing import NDArray

from penstock.evals.scorers.code import Judge, ScorerKind, Verdict
from penstock.evals.scorers.matching import NO_REFERENCE, extractor_of
from penstock.evals.scorers.reading import NoScore, Reading, read_references, read_text
from penstock.spec.cases import Case, Output

MAX_TER_WORDS = 100
"""TER tries out shifts of phrases: two unlike texts of 100 words take seconds, of 500 minutes."""


class BleuParameters(Reading, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """sacrebleu's; its defaults."""

    tokenize: Literal["13a", "intl", "zh", "char", "none"] = "13a"
    lowercase: bool = False
    smooth: Literal["exp", "none"] = "exp"
    max_order: int = 4


class ChrfParameters(Reading, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """sacrebleu's; its defaults. `word_order = 2` is chrF++."""

    char_order: int = 6
    word_order: int = 0
    beta: int = 2
    lowercase: bool = False
    whitespace: bool = False


class TerParameters(Reading, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """sacrebleu's; its defaults."""

    normalized: bool = False
    no_punct: bool = False
    asian_support: bool = False
    case_sensitive: bool = False
    max_words: int = MAX_TER_WORDS
    """Longer texts have no score."""


def _divide(upper: NDArray[float64], lower: NDArray[float64]) -> NDArray[float64]:
    """Return the quotient, NaN where the divisor is 0."""
    shape = np.broadcast(upper, lower).shape
    share: NDArray[float64] = np.divide(upper, lower, out=np.full(shape, np.nan), where=lower != 0)
    return share


@dataclass(frozen=True, kw_only=True)
class BleuFigure:
    """BLEU of sums of [length, reference length, correct n-grams by order, all n-grams by order]."""

    max_order: int
    smooth: Literal["exp", "none"]
    is_sentence: bool = False
    """Whether orders of which the text has no n-gram are left out (effective order)."""

    @property
    def size(self) -> int:
        """Length of one vector."""
        return 2 + 2 * self.max_order

    def reduce(self, sums: NDArray[float64]) -> NDArray[float64]:
        """Return BLEU of each sum; NaN without n-grams of the highest order, or without reference words."""
        sums = np.asarray(sums, dtype=float64)
        order = self.max_order
        length, wanted = sums[..., 0], sums[..., 1]
        correct, total = sums[..., 2 : 2 + order], sums[..., 2 + order :]
        has_total = total > 0
        safe_total = np.where(has_total, total, 1.0)
        missed = (correct == 0) & has_total
        # each order without a match counts half of the one before: sacrebleu's smoothing "exp"
        halved = np.exp2(np.cumsum(missed, axis=-1))
        instead = 1 / (halved * safe_total) if self.smooth == "exp" else np.zeros_like(total)
        precision = np.where(missed, instead, correct / safe_total)
        with np.errstate(divide="ignore"):
            logs = np.where(has_total, np.log(precision), 0.0)
        n_orders = has_total.sum(axis=-1) if self.is_sentence else np.full(length.shape, order)
        mean = logs.sum(axis=-1) / np.maximum(n_orders, 1)
        safe_length = np.where(length > 0, length, 1.0)
        brevity = np.where(length < wanted, np.where(length > 0, np.exp(1 - wanted / safe_length), 0.0), 1.0)
        value: NDArray[float64] = np.where((correct > 0).any(axis=-1), 100 * brevity * np.exp(mean), 0.0)
        is_known = wanted > 0 if self.is_sentence else (wanted > 0) & has_total[..., -1]
        return np.where(is_known, value, np.nan)


@dataclass(frozen=True, kw_only=True)
class ChrfFigure:
    """chrF of sums of [n-grams, reference n-grams, shared n-grams] of each order."""

    orders: int
    beta: int

    @property
    def size(self) -> int:
        """Length of one vector."""
        return 3 * self.orders

    def reduce(self, sums: NDArray[float64]) -> NDArray[float64]:
        """Return chrF of each sum; NaN without reference n-grams."""
        sums = np.asarray(sums, dtype=float64)
        found, wanted, shared = sums[..., 0::3], sums[..., 1::3], sums[..., 2::3]
        counts = (found > 0) & (wanted > 0)
        n_orders = np.maximum(counts.sum(axis=-1), 1)
        precision = np.where(counts, shared / np.where(counts, found, 1), 0).sum(axis=-1) / n_orders
        recall = np.where(counts, shared / np.where(counts, wanted, 1), 0).sum(axis=-1) / n_orders
        factor = self.beta**2
        both = factor * precision + recall
        value = np.where(both > 0, 100 * (1 + factor) * precision * recall / np.where(both > 0, both, 1), 0.0)
        return np.where((wanted > 0).any(axis=-1), value, np.nan)


@dataclass(frozen=True, kw_only=True)
class TerFigure:
    """TER of sums of [edits, reference words]."""

    size: int = 2

    def reduce(self, sums: NDArray[float64]) -> NDArray[float64]:
        """Return TER of each sum; NaN without reference words."""
        sums = np.asarray(sums, dtype=float64)
        return 100 * _divide(sums[..., 0], sums[..., 1])


Figures = BleuFigure | ChrfFigure | TerFigure
CountOne = Callable[[str, str], Sequence[float]]


def _judge_with(
    metric: Any,
    reading: Reading,
    figure: Figures,
    *,
    count: CountOne | None = None,
    max_words: int | None = None,
) -> Judge:
    """Return the judge; `count` counts an answer beside one reference where that is done here."""
    extractor = extractor_of(reading)
    signatures: dict[int, str] = {}

    def judge(case: Case, output: Output) -> Verdict:
        text = read_text(output, reading, extractor)
        references = [each for each in read_references(case, reading) if each.strip()]
        if not references:
            raise NoScore("the expected answer is empty")
        if max_words is not None and max(len(each.split()) for each in (text, *references)) > max_words:
            raise NoScore(f"a text has more than {max_words} words; TER of such texts takes too long")
        counts: Sequence[float]
        if count is not None:
            metric.num_refs = len(references)  # the signature tells it
            counts = max((count(text, each) for each in references), key=lambda each: _value_of(figure, each))
        else:
            # what sacrebleu's own significance tests use; its public functions tell no counts
            extract = metric._extract_corpus_statistics  # noqa: SLF001
            counts = extract([text], [[each] for each in references])[0]
        value = _value_of(figure, counts)
        if len(references) not in signatures:
            signatures[len(references)] = str(metric.get_signature())
        if np.isnan(value):
            raise NoScore("the expected answer has nothing that could be counted")
        return Verdict(
            value=value,
            statistics=[float(each) for each in counts],
            evidence={"signature": signatures[len(references)]},
        )

    return judge


def _value_of(figure: Figures, counts: Sequence[float]) -> float:
    return float(figure.reduce(np.asarray(counts, dtype=float64)))


def _build_bleu(parameters: BleuParameters) -> Judge:
    if not 1 <= parameters.max_order <= 9:
        raise ValueError("`max_order` is between 1 and 9")
    from sacrebleu.metrics.bleu import BLEU

    metric = BLEU(
        lowercase=parameters.lowercase,
        tokenize=parameters.tokenize,
        smooth_method=parameters.smooth,
        max_ngram_order=parameters.max_order,
        force=True,
    )
    sentence = BleuFigure(max_order=parameters.max_order, smooth=parameters.smooth, is_sentence=True)
    return _judge_with(metric, parameters, sentence)


def _build_chrf(parameters: ChrfParameters) -> Judge:
    if not (1 <= parameters.char_order <= 12 and 0 <= parameters.word_order <= 4 and parameters.beta >= 1):
        raise ValueError("`char_order` is between 1 and 12, `word_order` between 0 and 4, `beta` at least 1")
    from sacrebleu.metrics.chrf import CHRF

    metric = CHRF(
        char_order=parameters.char_order,
        word_order=parameters.word_order,
        beta=parameters.beta,
        lowercase=parameters.lowercase,
        whitespace=parameters.whitespace,
    )
    # sacrebleu counts the same in 2 ms a sentence of 40 words; this takes a fifth of that
    return _judge_with(
        metric, parameters, _chrf_figure(parameters), count=partial(_count_chrf, metric, parameters)
    )


def _count_chrf(metric: Any, parameters: ChrfParameters, text: str, reference: str) -> list[float]:
    """Return [n-grams, reference n-grams, shared n-grams] of each order of characters, then of words."""
    if parameters.lowercase:
        text, reference = text.lower(), reference.lower()
    found, wanted = (
        (each if parameters.whitespace else "".join(each.split())).encode("utf-32-le")
        for each in (text, reference)
    )
    counts = _count_orders(
        np.frombuffer(found, np.uint32), np.frombuffer(wanted, np.uint32), parameters.char_order
    )
    if parameters.word_order:
        split = metric._remove_punctuation  # noqa: SLF001 - how chrF++ parts words from signs
        places: dict[str, int] = {}
        left, right = (
            np.array([places.setdefault(word, len(places)) for word in split(each)], np.uint32)
            for each in (text, reference)
        )
        counts += _count_orders(left, right, parameters.word_order)
    return counts


def _count_orders(found: NDArray[uint32], wanted: NDArray[uint32], order: int) -> list[float]:
    """Return the counts of n-grams up to `order`; an n-gram is the number of its beginning beside its last item."""
    items = np.unique(np.concatenate([found, wanted]), return_inverse=True)[1].astype(np.int64)
    n_items = int(items.max(initial=0)) + 1
    left, right = items[: len(found)], items[len(found) :]
    grams_left, grams_right = left, right
    counts: list[float] = []
    for size in range(1, order + 1):
        if size > 1:
            grams_left = grams_left[:-1] * n_items + left[size - 1 :]
            grams_right = grams_right[:-1] * n_items + right[size - 1 :]
            numbers = np.unique(np.concatenate([grams_left, grams_right]), return_inverse=True)[1]
            grams_left, grams_right = numbers[: len(grams_left)], numbers[len(grams_left) :]
        n_left, n_right = len(grams_left), len(grams_right)
        width = max(int(grams_left.max(initial=0)), int(grams_right.max(initial=0))) + 1
        shared = np.minimum(
            np.bincount(grams_left, minlength=width), np.bincount(grams_right, minlength=width)
        )
        counts += [float(n_left if n_right else 0), float(n_right), float(shared.sum())]
    return counts


def _chrf_figure(parameters: ChrfParameters) -> ChrfFigure:
    return ChrfFigure(orders=parameters.char_order + parameters.word_order, beta=parameters.beta)


def _build_ter(parameters: TerParameters) -> Judge:
    from sacrebleu.metrics.ter import TER

    metric = TER(
        normalized=parameters.normalized,
        no_punct=parameters.no_punct,
        asian_support=parameters.asian_support,
        case_sensitive=parameters.case_sensitive,
    )
    return _judge_with(metric, parameters, TerFigure(), max_words=parameters.max_words)


def _with_version(parameters: msgspec.Struct) -> dict[str, Any]:
    """Return the parameters with the version of sacrebleu, so that another version is another stamp."""
    from importlib.metadata import version

    return {"parameters": {**msgspec.to_builtins(parameters), "sacrebleu": version("sacrebleu")}}


KINDS: tuple[ScorerKind[Any], ...] = (
    ScorerKind(
        name="bleu",
        group="text",
        summary="Shared word sequences up to four (BLEU of sacrebleu, 0 to 100); the figure is that of the corpus.",
        undefined_when=NO_REFERENCE
        + ", or one that is empty; over a corpus: no answer has as many words as the order",
        parameters=BleuParameters,
        build=_build_bleu,
        high=100.0,
        needs=frozenset({"expected"}),
        figure=lambda parameters: BleuFigure(max_order=parameters.max_order, smooth=parameters.smooth),
        adapt=_with_version,
    ),
    ScorerKind(
        name="chrf",
        group="text",
        summary="Shared character sequences (chrF of sacrebleu, 0 to 100; chrF++ with `word_order = 2`).",
        undefined_when=NO_REFERENCE + ", or one that is empty",
        parameters=ChrfParameters,
        build=_build_chrf,
        high=100.0,
        needs=frozenset({"expected"}),
        figure=_chrf_figure,
        adapt=_with_version,
    ),
    ScorerKind(
        name="ter",
        group="text",
        summary="Edits and shifts of phrases that would make the expected text, in percent of its words (TER).",
        undefined_when=NO_REFERENCE
        + f", or one that is empty; a text of more than {MAX_TER_WORDS} words (`max_words`)",
        parameters=TerParameters,
        build=_build_ter,
        direction="lower",
        scale="unbounded",
        high=None,
        unit="%",
        needs=frozenset({"expected"}),
        figure=lambda _parameters: TerFigure(),
        adapt=_with_version,
    ),
)
