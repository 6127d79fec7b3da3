"""The model in the package: whole, small enough, proven, and speaking its own format."""

import json
from pathlib import Path

import msgspec
import pytest

import penstock.data
from penstock.base.digest import digest_file
from penstock.providers.engines.llama import LlamaEngine
from penstock.spec.messages import Message
from penstock.tuning.model_files import GGUF, RENDERER, TOKENIZER
from penstock.tuning.renderer import GoldenVector, Renderer, load_renderer
from tests.tuning.sampling import greedy

FOLDER = Path(penstock.data.__path__[0]) / "pocket"
MANIFEST = json.loads((FOLDER / "manifest.json").read_text())
PASSAGES = "[1] Drink water when you are thirsty.\n[2] A stretch should be held for thirty seconds.\n"


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return load_renderer(FOLDER / RENDERER, FOLDER / TOKENIZER)


def test_every_file_is_the_one_in_the_manifest_and_the_whole_is_small() -> None:
    assert MANIFEST["files"] == {name: digest_file(FOLDER / name) for name in MANIFEST["files"]}
    assert {GGUF, TOKENIZER, RENDERER, "CARD.md"} <= set(MANIFEST["files"])
    assert (FOLDER / GGUF).stat().st_size <= 12 * 1024 * 1024


def test_it_was_proven_and_still_renders_its_golden_vectors(renderer: Renderer) -> None:
    assert MANIFEST["content"]["parity"]["passed"] is True
    assert renderer.digest == MANIFEST["content"]["renderer_digest"]
    golden = msgspec.convert(MANIFEST["content"]["golden"], list[GoldenVector])
    assert golden
    renderer.check_golden(golden)


@pytest.mark.engine
def test_it_answers_from_the_sentence_that_holds_the_answer(renderer: Renderer) -> None:
    engine = LlamaEngine(
        FOLDER / GGUF, kind="chat", context_length=MANIFEST["content"]["context_length"], n_slots=1
    )
    pieces: list[str] = []
    ids = renderer.render_chat(
        [Message(role="user", content=f"{PASSAGES}Question: How long should a stretch be held?")]
    )
    sampling = greedy(max_tokens=64)
    end = engine.generate(ids, sampling, lambda text: bool(pieces.append(text)))
    assert "".join(pieces) == "[2] A stretch should be held for thirty seconds."
    assert end.finish_reason == "stop"
