"""Measures six text metrics on 1,000 cases beside the packages whose numbers they are.

    python bench/scoring.py [--words 40] [--cases 1000] [--repeats 3] [--record]

Each metric runs alone, ours and theirs in turn on the same texts in one process, in processor time; the least of the repeats counts, and the greatest
difference of values is told. Peers: sacrebleu (BLEU, chrF), rouge-score (ROUGE-1, ROUGE-L), nltk (METEOR), and 12 lines of plain Python for
SQuAD's F1.
"""

import argparse
import random
import time
from collections import Counter
from collections.abc import Callable

import sacrebleu
from nltk.translate.meteor_score import single_meteor_score
from rouge_score import rouge_scorer

from penstock.evals.scorers.catalogue import create_scorer
from penstock.evals.scorers.words import squad_words
from penstock.spec.cases import Case, Output
from penstock.spec.evaluations import ScorerSpec
from record import record_result
from words import TextSource

Pairs = list[tuple[str, str]]


class _NoSynonyms:
    def synsets(self, word: str) -> list[str]:
        del word
        return []


def make_pairs(n_cases: int, n_words: int) -> Pairs:
    """Return answers beside references: sentences of which about a third of the words are exchanged."""
    rng = random.Random(5)
    words = TextSource(5).words[:3000]
    pairs = []
    for _ in range(n_cases):
        reference = rng.choices(words, k=n_words)
        answer = [word if rng.random() < 0.66 else rng.choice(words) for word in reference]
        pairs.append((" ".join(answer), " ".join(reference)))
    return pairs


def ours(name: str, **parameters: object) -> Callable[[Pairs], list[float]]:
    """Return what scores pairs with a scorer."""
    scorer = create_scorer(ScorerSpec(scorer=name, parameters=parameters))

    def run(pairs: Pairs) -> list[float]:
        return [
            scorer.score_one(Case(id="1", expected=expected), Output(case_id="1", text=text)).value  # type: ignore[attr-defined]
            for text, expected in pairs
        ]

    return run


def squad_f1(text: str, expected: str) -> float:
    """Return SQuAD's F1, as its script has it."""
    found, wanted = Counter(squad_words(text)), Counter(squad_words(expected))
    shared = (found & wanted).total()
    return 2 * shared / (found.total() + wanted.total()) if shared else 0.0


def each(function: Callable[[str, str], float]) -> Callable[[Pairs], list[float]]:
    """Return what scores pairs with a peer's function."""
    return lambda pairs: [function(text, expected) for text, expected in pairs]


def make_metrics() -> dict[str, tuple[Callable[[Pairs], list[float]], Callable[[Pairs], list[float]]]]:
    """Return ours and theirs of each metric."""
    one = rouge_scorer.RougeScorer(["rouge1"])
    longest = rouge_scorer.RougeScorer(["rougeL"])
    bleu, chrf = sacrebleu.BLEU(effective_order=True), sacrebleu.CHRF()
    synonyms = _NoSynonyms()
    return {
        "token_f1": (ours("token_f1", tokenizer="squad"), each(squad_f1)),
        "rouge_1": (
            ours("rouge_1", tokenizer="rouge_score"),
            each(lambda text, expected: one.score(expected, text)["rouge1"].fmeasure),
        ),
        "rouge_l": (
            ours("rouge_l", tokenizer="rouge_score"),
            each(lambda text, expected: longest.score(expected, text)["rougeL"].fmeasure),
        ),
        "meteor": (
            ours("meteor", tokenizer="whitespace"),
            each(
                lambda text, expected: single_meteor_score(expected.split(), text.split(), wordnet=synonyms)
            ),
        ),
        "bleu": (ours("bleu"), each(lambda text, expected: bleu.sentence_score(text, [expected]).score)),
        "chrf": (ours("chrf"), each(lambda text, expected: chrf.sentence_score(text, [expected]).score)),
    }


def measure(run: Callable[[Pairs], list[float]], pairs: Pairs, repeats: int) -> tuple[float, list[float]]:
    """Return the least processor time in seconds, which other work on the machine does not lengthen, and the values."""
    times, values = [], []
    for _ in range(repeats):
        start = time.process_time()
        values = run(pairs)
        times.append(time.process_time() - start)
    return min(times), values


def main() -> None:
    """Measure, print, and append to the record where that is asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--words", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--record", action="store_true")
    asked = parser.parse_args()
    pairs = make_pairs(asked.cases, asked.words)
    results: dict[str, dict[str, float]] = {}
    for name, (own, theirs) in make_metrics().items():
        ours_s, values = measure(own, pairs, asked.repeats)
        theirs_s, references = measure(theirs, pairs, asked.repeats)
        difference = max(abs(one - other) for one, other in zip(values, references, strict=True))
        results[name] = {
            "ours_s": round(ours_s, 3),
            "theirs_s": round(theirs_s, 3),
            "max_difference": difference,
        }
        print(
            f"{name:10} ours {ours_s:6.3f} s   theirs {theirs_s:6.3f} s   greatest difference {difference:.1e}"
        )
    total = sum(each_result["ours_s"] for each_result in results.values())
    print(f"{'all six':10} ours {total:6.3f} s for {asked.cases:,} cases of {asked.words} words")
    if asked.record:
        told = {"cases": asked.cases, "words": asked.words, "metrics": results, "total_s": round(total, 3)}
        record_result("scoring", told, packages=("sacrebleu", "rouge-score", "nltk"))


if __name__ == "__main__":
    main()
