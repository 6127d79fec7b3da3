"""Evaluation: held-out questions with the right passage in context, with wrong ones, and a word-overlap baseline.

It measures; it never trains. Cases are drawn once from the seed, so that every version is judged on the same ones.
The cases are those of `held_out.py`.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from corpus import Text, load_articles
from export import load_folder
from held_out import Case, make_cases
from model import Decoder
from rows import make_tree
from tokens import ASSISTANT, BOS, END, UNKNOWN_ANSWER, USER, Coder, render_grounded
from words import is_content, split_pieces, stem_of

Answerer = Callable[[Sequence[Case]], list[str]]


@torch.no_grad()
def answer_by_model(model: Decoder, coder: Coder, cases: Sequence[Case], max_new: int = 64) -> list[str]:
    """Greedy replies, exactly; the mark is left in the reply.

    A whole reply is guessed at once (the sentence under the mark that was chosen) and checked in one pass; where the
    model would have gone another way its own token is taken and the rest is checked again.
    """
    replies: list[str] = []
    end = coder.control[END]
    for start in range(0, len(cases), 24):
        group = cases[start : start + 24]
        prompts = [
            coder.tokenizer.encode(
                f"{BOS}{USER}{render_grounded(case.question, case.sentences)}{END}{ASSISTANT}",
                add_special_tokens=False,
            ).ids
            for case in group
        ]
        guesses: list[list[int]] = [[] for _ in group]
        lines = [
            {coder.marks[i]: coder.encode(" " + s) for i, s in enumerate(case.sentences)} for case in group
        ]
        agreed = [0] * len(group)
        for _ in range(max_new):
            open_ = [
                i for i in range(len(group)) if agreed[i] < max_new and guesses[i][: agreed[i]][-1:] != [end]
            ]
            if not open_:
                break
            chosen = _greedy_tokens(model, [prompts[i] for i in open_], [guesses[i] for i in open_], coder)
            for i, tokens in zip(open_, chosen, strict=True):
                guess = guesses[i]
                while (
                    agreed[i] < len(guess)
                    and guess[agreed[i]] == tokens[agreed[i]]
                    and guess[agreed[i]] != end
                ):
                    agreed[i] += 1
                own = tokens[agreed[i]]
                rest = guess[agreed[i] + 1 :]
                if agreed[i] == 0:
                    rest = [*lines[i].get(own, coder.encode(UNKNOWN_ANSWER)[1:]), end]
                guesses[i] = [*guess[: agreed[i]], own, *rest]
                agreed[i] += 1
        replies += [
            coder.decode([t for t in g[:n] if t != end]) for g, n in zip(guesses, agreed, strict=True)
        ]
    return replies


def _greedy_tokens(
    model: Decoder, prompts: list[list[int]], guesses: list[list[int]], coder: Coder
) -> list[list[int]]:
    """The model's own choice at every reply position, given the guess before it (one more than the guess is long)."""
    pad = coder.control["<|pad|>"]
    lengths = torch.tensor([len(p) - 1 for p in prompts])
    context = torch.full((len(prompts), int(lengths.max())), pad)
    tails = [[p[-1], *g] for p, g in zip(prompts, guesses, strict=True)]
    tail = torch.full((len(prompts), max(map(len, tails))), pad)
    for index, (prompt, part) in enumerate(zip(prompts, tails, strict=True)):
        context[index, : len(prompt) - 1] = torch.tensor(prompt[:-1])
        tail[index, : len(part)] = torch.tensor(part)
    states = model(make_tree(context, lengths, tail[:, None, :]))
    chosen = model.score_tokens(states.branch).argmax(-1)
    return [row[: len(part)].tolist() for row, part in zip(chosen, tails, strict=True)]


def answer_by_overlap(cases: Sequence[Case], threshold: float, idf: dict[str, float]) -> list[str]:
    """Baseline: the sentence with the largest idf-weighted share of the question's content stems."""
    top = max(idf.values(), default=1.0)
    replies: list[str] = []
    for case in cases:
        stems = {stem_of(p) for p in split_pieces(case.question) if is_content(p)}
        total = sum(idf.get(s, top) for s in stems) or 1.0
        scores = [
            sum(
                idf.get(s, top) for s in stems & {stem_of(p) for p in split_pieces(sentence) if is_content(p)}
            )
            / total
            for sentence in case.sentences
        ]
        best = max(range(len(scores)), key=scores.__getitem__)
        replies.append(f"[{best + 1}] {case.sentences[best]}" if scores[best] > threshold else UNKNOWN_ANSWER)
    return replies


def inverse_frequency(texts: Sequence[Text]) -> dict[str, float]:
    sentences = [s for t in texts for s in t.sentences]
    found = Counter(x for s in sentences for x in {stem_of(p) for p in split_pieces(s) if is_content(p)})
    return {stem: math.log((len(sentences) + 1) / (n + 0.5)) for stem, n in found.items()}


def normalise(text: str) -> list[str]:
    """SQuAD's normal form: lower case, no mark, no punctuation, no articles."""
    plain = "".join(c for c in re.sub(r"^\s*\[\d+\]", "", text).lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", plain).split()


def token_f1(reply: str, reference: str) -> float:
    got, wanted = normalise(reply), normalise(reference)
    common = sum((Counter(got) & Counter(wanted)).values())
    return 0.0 if common == 0 else 2 * common / (len(got) + len(wanted))


def interval(values: Sequence[float], rng: random.Random) -> list[float]:
    """A 95 % bootstrap interval of the mean."""
    means = sorted(sum(rng.choices(values, k=len(values))) / len(values) for _ in range(1000))
    return [round(means[25], 3), round(means[974], 3)]


def score(cases: Sequence[Case], replies: Sequence[str]) -> dict[str, object]:
    """Figures per kind, over all phrasings and over the main phrasing alone."""
    rng = random.Random(0)
    out: dict[str, object] = {}
    pairs = list(zip(cases, replies, strict=True))
    for label, chosen in (("all", pairs), ("main", [p for p in pairs if p[0].phrasing == 0])):
        known = [(c, r) for c, r in chosen if c.answer is not None]
        f1 = [token_f1(r, c.answer or "") for c, r in known]
        figures: dict[str, object] = {
            "n_answerable": len(known),
            "f1": round(sum(f1) / len(f1), 4),
            "f1_interval": interval(f1, rng),
            "right_sentence": round(
                sum(normalise(r) == normalise(c.answer or "") for c, r in known) / len(known), 4
            ),
            "wrongly_unknown": round(sum(is_unknown(r) for _, r in known) / len(known), 4),
        }
        copied = [(c, r) for c, r in known if not is_unknown(r)]
        exact = [f"[{i + 1}] {s}" for c, _ in copied for i, s in enumerate(c.sentences)]
        figures["verbatim_copy"] = round(sum(r in set(exact) for _, r in copied) / max(len(copied), 1), 4)
        for kind in ("absent", "near_miss"):
            unknown = [float(is_unknown(r)) for c, r in chosen if c.kind == kind]
            figures[f"n_{kind}"] = len(unknown)
            figures[f"unknown_{kind}"] = round(sum(unknown) / len(unknown), 4)
            figures[f"unknown_{kind}_interval"] = interval(unknown, rng)
        out[label] = figures
    return out


def is_unknown(reply: str) -> bool:
    return reply.strip().lower().startswith("i do not know")


def evaluate(folder: Path, seed: int, *, is_quick: bool = False, threshold: float = 0.3) -> dict[str, object]:
    """Judge the model in a Hugging Face folder; writes `metrics.json` and `replies.jsonl` into it."""
    model, coder = load_folder(folder)
    cases = make_cases(load_articles("heldout"), seed)
    if is_quick:
        cases = [case for case in cases if case.phrasing == 0]
    replies = answer_by_model(model, coder, cases)
    idf = inverse_frequency(load_articles("train"))
    metrics: dict[str, object] = {"pocket": score(cases, replies)}
    metrics["overlap_baseline"] = score(cases, answer_by_overlap(cases, threshold, idf)) | {
        "threshold": threshold
    }
    metrics["overlap_baseline_always_answers"] = score(cases, answer_by_overlap(cases, -1.0, idf))
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    lines = [
        json.dumps(asdict(c) | {"reply": r, "f1": c.answer and token_f1(r, c.answer)})
        for c, r in zip(cases, replies, strict=True)
    ]
    (folder / "replies.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="main phrasings only")
    args = parser.parse_args()
    print(json.dumps(evaluate(args.folder, args.seed, is_quick=args.quick), indent=2))


if __name__ == "__main__":
    main()
