"""Run: the whole recipe in order, data and tokenizer → training → export → evaluation.

Each step skips what is already there, so a run that was killed goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from evaluate import evaluate
from export import export_folder
from train import load_recipe, train
from vocabulary import build_tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("build/pocket-work"), help="checkpoints and log")
    parser.add_argument("--out", type=Path, default=Path("build/pocket"), help="the finished model folder")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    recipe = load_recipe()
    args.work.mkdir(parents=True, exist_ok=True)
    build_tokenizer(args.work, recipe)
    train(args.work, recipe, threads=args.threads)
    export_folder(args.work, args.out)
    metrics = evaluate(args.out, recipe["seed"])
    print(json.dumps(metrics, indent=2))


if __name__ == "__main__":
    main()
