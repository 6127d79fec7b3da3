"""Measures how long the preflight takes on 100,000 rows: rendered, masked, compared, counted; with and without files.

Two templates: Pocket's own with its tokenizer, and one in the manner of Qwen2 with the same tokenizer's words. Rows are
questions and answers of some 60 words, each different; 1,000 more are held out and 1,000 lie in another dataset that must
not be trained on. `--floor` also measures what the template and the tokenizer alone take in one process.

    python bench/preflight.py [--rows 100000] [--floor]
"""

import argparse
import json
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from tokenizers import Tokenizer

from penstock.base.digest import digest_bytes
from penstock.datasets.cases import row_to_case
from penstock.spec.datasets import DatasetFacts, DatasetRow
from penstock.spec.tuning import DataPart, OutputPart, Recipe
from penstock.tuning.preflight.flight import fly
from penstock.tuning.preflight.types import BaseFacts, Flight
from penstock.tuning.renderer import Renderer, RendererSpec, build_renderer, load_renderer
from penstock.tuning.rows.types import RowSource
from record import record_result

POCKET = Path(__file__).parents[1] / "src/penstock/data/pocket"
HANDBOOK = Path(__file__).parents[1] / "src/penstock/data/handbook"
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
N_HELD = 1000


def read_words() -> list[str]:
    """Return the words of the handbook, as often as they stand there: rows have the words of real text."""
    text = " ".join(
        path.read_text() for path in sorted(HANDBOOK.rglob("*")) if path.suffix in {".md", ".txt"}
    )
    return [word for word in text.split() if word.isascii()] or ["water", "walking", "sleep"]


def make_rows(n_rows: int, seed: int, words: list[str]) -> list[bytes]:
    """Return rows as lines of JSON, as a dataset's file holds them."""
    rng = random.Random(seed)
    lines = []
    for number in range(n_rows):
        question = " ".join(rng.choices(words, k=rng.randint(10, 30)))
        answer = " ".join(rng.choices(words, k=rng.randint(20, 60)))
        messages = [{"role": "user", "content": f"{question}?"}, {"role": "assistant", "content": answer}]
        row = DatasetRow(id=f"row-{seed}-{number}", fields={"messages": messages})
        lines.append(msgspec.json.encode(row))
    return lines


def make_source(ref: str, lines: list[bytes]) -> RowSource:
    """Return a dataset whose rows are decoded each time they are read."""
    decoder = msgspec.json.Decoder(DatasetRow)

    def read() -> Iterator[DatasetRow]:
        return (decoder.decode(line) for line in lines)

    facts = DatasetFacts(format="chat", n_rows=len(lines), rows_digest="sha256:0", license="cc0-1.0")
    return RowSource(ref=ref, facts=facts, read=read)


def make_chatml() -> Renderer:
    """Return Pocket's tokenizer with the template and control tokens of Qwen2's manner."""
    tokenizer = Tokenizer.from_file(str(POCKET / "tokenizer.json"))
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    data = tokenizer.to_str().encode()
    spec = RendererSpec(
        chat_template=CHATML, tokenizer_digest=digest_bytes(data), special_tokens={"eos_token": "<|im_end|>"}
    )
    return build_renderer(spec, data)


def cpu_seconds() -> float:
    """Return the processor time of this process and of those it has started and seen end."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def measure(
    renderer: Renderer, lines: list[bytes], held: list[bytes], guard: list[bytes], folder: Path | None
) -> dict[str, Any]:
    """Return how long a preflight takes, and what it counted."""
    flight = Flight(
        recipe=Recipe(
            name="bench",
            method="lora",
            data=DataPart(train="dataset:rows", eval="dataset:held", guard_against=("dataset:guard",)),
            output=OutputPart(name="bench"),
        ),
        renderer=renderer,
        train=make_source("dataset:rows@1", lines),
        heldout=make_source("dataset:held@1", held),
        guards=(make_source("dataset:guard@1", guard),),
        as_case=row_to_case,
        base=BaseFacts(
            ref="model:pocket@1",
            digest="sha256:0",
            revision="shipped",
            license="apache-2.0",
            context_length=1024,
        ),
    )
    began, cpu_began = time.perf_counter(), cpu_seconds()
    found = fly(flight, folder=folder)
    seconds = time.perf_counter() - began
    assert found.train is not None
    return {
        "seconds": round(seconds, 2),
        "processor_s": round(cpu_seconds() - cpu_began, 2),
        "rows_per_s": round(len(lines) / seconds),
        "tokens": found.train.n_tokens,
        "findings": [f"{each.severity} {each.code} {each.n_rows}" for each in found.findings],
    }


def measure_floor(lines: list[bytes]) -> dict[str, float]:
    """Return what the tokenizer alone takes for the rendered texts, on all cores, without template or mask."""
    rows = [json.loads(line)["fields"]["messages"] for line in lines]
    texts = [f"{row[0]['content']}{row[1]['content']}" for row in rows]
    tokenizer = Tokenizer.from_file(str(POCKET / "tokenizer.json"))
    began = time.perf_counter()
    for start in range(0, len(texts), 1000):
        for item in tokenizer.encode_batch_fast(texts[start : start + 1000], add_special_tokens=False):
            item.ids  # noqa: B018 - making the list is part of the work
    return {"tokenizer_alone_s": round(time.perf_counter() - began, 2)}


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--floor", action="store_true")
    parser.add_argument("--dry", action="store_true", help="print, and record nothing")
    options = parser.parse_args()
    words = read_words()
    lines, held, guard = (
        make_rows(n, seed, words) for n, seed in ((options.rows, 1), (N_HELD, 2), (N_HELD, 3))
    )
    pocket = load_renderer(POCKET / "renderer.json", POCKET / "tokenizer.json")
    results: dict[str, Any] = {
        "n_rows": options.rows,
        "bytes_per_row": round(sum(map(len, lines)) / len(lines)),
    }
    with tempfile.TemporaryDirectory() as folder:
        results["pocket"] = measure(pocket, lines, held, guard, None)
        results["pocket_with_files"] = measure(pocket, lines, held, guard, Path(folder))
        results["chatml"] = measure(make_chatml(), lines, held, guard, None)
    if options.floor:
        results["floor"] = measure_floor(lines)
    if options.dry:
        print(json.dumps(results, indent=2))
    else:
        record_result("preflight", results, packages=("tokenizers", "jinja2", "numpy"))


if __name__ == "__main__":
    main()
