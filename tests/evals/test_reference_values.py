"""Our numbers are those of the packages that people know, to 1e-6, and the published ones."""

import random
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import sacrebleu
from nltk.stem.porter import PorterStemmer
from nltk.translate.meteor_score import single_meteor_score
from rouge_score import rouge_scorer
from sklearn import metrics

from penstock.evals.scorers.distances import count_common, count_edits
from penstock.evals.scorers.porter import stem
from penstock.evals.scorers.translation import BleuFigure
from tests.evals.scorers.judging import figure_of, judge

NEAR = pytest.approx
TEXT = (
    "the a cat cats sat sitting on mat, running runs dog. quick brown foxes jumped over lazy! And then it was \
relational conditionally Äpfel über naïve 3.5 again (yes) don't"
)
WORDS = TEXT.split()


class NoSynonyms:
    """Stands for WordNet, which is not asked: METEOR here has the stages of words and stems."""

    def synsets(self, word: str) -> list[str]:
        return []


@pytest.fixture(scope="module")
def pairs() -> list[tuple[str, str]]:
    rng = random.Random(7)
    return [
        (
            " ".join(rng.choices(WORDS, k=rng.randint(1, 25))),
            " ".join(rng.choices(WORDS, k=rng.randint(1, 25))),
        )
        for _ in range(150)
    ]


def test_bleu_and_chrf_over_a_corpus_are_those_of_sacrebleu(pairs: list[tuple[str, str]]) -> None:
    answers, references = [text for text, _ in pairs], [[expected for _, expected in pairs]]
    assert figure_of("bleu", pairs) == NEAR(sacrebleu.corpus_bleu(answers, references).score, abs=1e-6)
    for tokenize in ("intl", "char", "none"):
        theirs = sacrebleu.corpus_bleu(answers, references, tokenize=tokenize, force=True).score
        assert figure_of("bleu", pairs, tokenize=tokenize) == NEAR(theirs, abs=1e-6)
    assert figure_of("chrf", pairs) == NEAR(sacrebleu.corpus_chrf(answers, references).score, abs=1e-6)
    theirs = sacrebleu.corpus_chrf(answers, references, word_order=2).score
    assert figure_of("chrf", pairs, word_order=2) == NEAR(theirs, abs=1e-6)


def test_ter_over_a_corpus_is_that_of_sacrebleu(pairs: list[tuple[str, str]]) -> None:
    short = [(text, expected) for text, expected in pairs if len(text.split()) < 15][:40]
    theirs = sacrebleu.corpus_ter([text for text, _ in short], [[expected for _, expected in short]]).score
    assert figure_of("ter", short) == NEAR(theirs, abs=1e-6)


def test_several_references_count_as_in_sacrebleu() -> None:
    answers = ["The dog bit the man.", "It was not unexpected.", "The man bit him first."]
    references = [
        ["The dog bit the man.", "It was not unexpected.", "The man bit him first."],
        ["The dog had bit the man.", "No one was surprised.", "The man had bitten the dog."],
    ]
    both = [[references[0][at], references[1][at]] for at in range(3)]
    theirs = sacrebleu.corpus_bleu(answers, references).score
    assert figure_of("bleu", list(zip(answers, both, strict=True))) == NEAR(theirs, abs=1e-6)


def test_one_sentence_has_the_value_of_sacrebleu(pairs: list[tuple[str, str]]) -> None:
    for text, expected in pairs:
        assert judge("bleu", text, expected).value == NEAR(
            sacrebleu.sentence_bleu(text, [expected]).score, abs=1e-6
        )
        assert judge("chrf", text, expected).value == NEAR(
            sacrebleu.sentence_chrf(text, [expected]).score, abs=1e-6
        )


def test_bleu_of_many_sums_at_once_is_bleu_of_each() -> None:
    rng = np.random.default_rng(3)
    total = rng.integers(1, 50, (40, 4))
    sums = np.concatenate([rng.integers(1, 80, (40, 2)), rng.integers(0, total + 1), total], axis=1).astype(
        float
    )
    figure = BleuFigure(max_order=4, smooth="exp")
    for row, value in zip(sums, figure.reduce(sums.reshape(4, 10, 10)).reshape(-1), strict=True):
        theirs = sacrebleu.BLEU.compute_bleu(
            list(row[2:6]), list(row[6:]), int(row[0]), int(row[1]), smooth_method="exp"
        ).score
        assert value == NEAR(theirs, abs=1e-9)


def test_the_published_values_of_chrf_hold() -> None:
    assert judge("chrf", "a b c", "a b c").value == NEAR(100.0)
    assert figure_of("chrf", [("a b c", "a b c"), ("d e f", "a b c")]) == NEAR(50.0)


@pytest.mark.parametrize("stemmer", [False, True])
def test_rouge_is_that_of_rouge_score(pairs: list[tuple[str, str]], stemmer: bool) -> None:
    names = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL", "rouge_lsum": "rougeLsum"}
    theirs = rouge_scorer.RougeScorer(list(names.values()), use_stemmer=stemmer)
    for text, expected in pairs:
        lines, wanted = re.sub(r"([.!]) ", r"\1\n", text), re.sub(r"([.!]) ", r"\1\n", expected)
        reference = theirs.score(wanted, lines)
        for ours, name in names.items():
            for measure, attribute in (("f1", "fmeasure"), ("precision", "precision"), ("recall", "recall")):
                score = judge(ours, lines, wanted, tokenizer="rouge_score", stemmer=stemmer, measure=measure)
                if score.value is not None:
                    assert score.value == NEAR(getattr(reference[name], attribute), abs=1e-6), (
                        ours,
                        lines,
                        wanted,
                    )


def test_the_published_values_of_rouge_hold() -> None:
    assert judge("rouge_1", "testing", "testing one two").value == NEAR(1 / 2)
    assert judge("rouge_1", "testing", "testing one two", measure="recall").value == NEAR(1 / 3)
    assert judge("rouge_l", "testing two", "testing one two").value == NEAR(0.8)
    # the example of section 3.2 of Lin 2004, with words w1 to w9 as they stand there
    summary = judge("rouge_lsum", "w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5", "w1 w2 w3 w4 w5")
    assert summary.value == NEAR(0.5333333, abs=1e-6)
    assert (summary.evidence["recall"], summary.evidence["precision"]) == (NEAR(0.8), NEAR(0.4))


def test_meteor_is_that_of_nltk_without_synonyms(pairs: list[tuple[str, str]]) -> None:
    for text, expected in pairs:
        theirs = single_meteor_score(expected.split(), text.split(), wordnet=NoSynonyms())
        assert judge("meteor", text, expected, tokenizer="whitespace").value == NEAR(theirs, abs=1e-6)


def test_stems_are_those_of_nltk() -> None:
    root = Path(__file__).resolve().parents[2] / "docs"
    words = {word for page in root.rglob("*.md") for word in re.findall(r"[a-z]+", page.read_text().lower())}
    words |= {
        "dies",
        "flies",
        "dying",
        "skies",
        "tied",
        "spied",
        "enjoy",
        "happy",
        "geologically",
        "hopefully",
        "by",
    }
    theirs = PorterStemmer()
    assert len(words) > 3000
    assert [word for word in words if stem(word) != theirs.stem(word)] == []


@pytest.mark.parametrize("n_labels", [2, 4])
def test_measures_of_classes_are_those_of_scikit_learn(n_labels: int) -> None:
    rng = random.Random(n_labels)
    labels = ["alpha", "beta", "gamma", "delta"][:n_labels]
    expected = rng.choices(labels, k=120)
    answered = [
        label if rng.random() < 0.6 else rng.choice([*labels, "something else"]) for label in expected
    ]
    pairs = list(zip(answered, expected, strict=True))
    ordered = sorted(labels)
    measures = {"precision": metrics.precision_score, "recall": metrics.recall_score, "f1": metrics.f1_score}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, theirs in measures.items():
            for average in ("macro", "micro", "weighted"):
                value = theirs(expected, answered, labels=ordered, average=average, zero_division=np.nan)
                assert figure_of(name, pairs, average=average) == NEAR(value, abs=1e-6), (name, average)
        assert figure_of("mcc", pairs) == NEAR(metrics.matthews_corrcoef(expected, answered), abs=1e-6)
        assert figure_of("kappa", pairs) == NEAR(metrics.cohen_kappa_score(expected, answered), abs=1e-6)


def test_edit_distance_and_common_subsequence_are_those_of_the_table() -> None:
    rng = random.Random(11)
    for _ in range(300):
        left = "".join(rng.choices("abcé", k=rng.randint(0, 90)))
        right = "".join(rng.choices("abcé", k=rng.randint(0, 90)))
        edits = list(range(len(right) + 1))
        common = [0] * (len(right) + 1)
        for row, one in enumerate(left, 1):
            new_edits, new_common = [row], [0]
            for column, other in enumerate(right, 1):
                new_edits.append(
                    min(edits[column] + 1, new_edits[-1] + 1, edits[column - 1] + (one != other))
                )
                new_common.append(
                    common[column - 1] + 1 if one == other else max(common[column], new_common[-1])
                )
            edits, common = new_edits, new_common
        assert count_edits(left, right) == edits[-1]
        assert count_common(left, right) == common[-1]
