"""Pocket at float16, eight and four bits: size, speed, perplexity and scores on held-out questions, with intervals.

    python bench/compression.py [--limit 512] [--rounds 12]

Makes the children in a home of its own, measures all three in one session, prints a table and appends to `results/compression.jsonl`.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from penstock.cli.model_compress import figure_text
from penstock.main.compressing import compare_versions, do_or_submit
from penstock.main.job_kinds import MODEL_MEASURE, MODEL_QUANTISE
from penstock.main.rooms import Rooms
from penstock.spec.home import Home
from penstock.tuning.compress.requests import MeasureRequest
from penstock.tuning.compress.types import ModelComparison, SpeedPlan
from record import record_result


def main() -> None:
    """Measure, print, append."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--limit", type=int, default=512, help="most cases, drawn by whole articles; 364 are held out"
    )
    parser.add_argument("--rounds", type=int, default=12, help="rounds of speed")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="penstock-compression-") as folder:
        rooms = Rooms(Home(root=Path(folder)))
        spec: dict[str, Any] = {"model": "model:pocket", "precisions": ["q8_0", "q4_0"], "actor": "bench"}
        children = do_or_submit(rooms, MODEL_QUANTISE, spec, _tell)["children"]
        versions = ("model:pocket@1", *(child["label"] for child in children))
        request = MeasureRequest(
            models=versions,
            cases="handbook",
            limit=told.limit,
            speed=SpeedPlan(rounds=told.rounds),
            threads=1,
        )
        work = {"request": msgspec.to_builtins(request), "actor": "bench"}
        do_or_submit(rooms, MODEL_MEASURE, work, _tell)
        found = compare_versions(rooms, versions)
        _print(found)
        record_result(
            "compression",
            {"limit": told.limit, "rounds": told.rounds, **msgspec.to_builtins(found)},
            packages=("xllamacpp", "gguf"),
        )
        rooms.close()


def _tell(share: float | None, text: str) -> None:
    print(f"{100 * (share or 0):3.0f} % {text}", end="\r")


def _print(found: ModelComparison) -> None:
    names = list(dict.fromkeys(figure.name for model in found.models for figure in model.figures))
    print("\n| |" + "|".join(f" {model.version} ({model.precision}) " for model in found.models) + "|")
    print("| --- |" + " --- |" * len(found.models))
    for name in names:
        cells = []
        for model in found.models:
            figure = next((each for each in model.figures if each.name == name), None)
            cells.append("" if figure is None else figure_text(figure))
        print(f"| {name} | " + " | ".join(cells) + " |")
    print("\n".join(("", *found.verdicts)))


if __name__ == "__main__":
    main()
