"""The folder that training from scratch begins with."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.spec.messages import Message
from penstock.spec.tuning import ScratchPart
from penstock.tuning.convert.architectures import read_shape
from penstock.tuning.convert.vocabulary import read_vocabulary
from penstock.tuning.errors import UnreadableModel
from penstock.tuning.scratch.folder import CONTROLS, ScratchInvalid, make_scratch_folder

TEXTS = [f"How long is walk {number}? It takes {number * 5} minutes at most." for number in range(200)]
SMALL = ScratchPart(
    vocab_size=400, hidden_size=32, n_layers=2, n_heads=4, n_kv_heads=2, ffn_size=48, context_length=128
)


def test_a_tokenizer_is_trained_on_the_rows_with_control_tokens_first(tmp_path: Path) -> None:
    made = make_scratch_folder(SMALL, TEXTS, tmp_path / "base")
    tokenizer = json.loads((tmp_path / "base" / "tokenizer.json").read_text())
    assert [item["content"] for item in tokenizer["added_tokens"]] == list(CONTROLS)
    assert made.vocab_size <= 400
    assert made.stop_ids == (CONTROLS.index("<|end|>"),)
    assert made.pad_id == CONTROLS.index("<|pad|>")


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    make_scratch_folder(SMALL, TEXTS, tmp_path / "a")
    make_scratch_folder(SMALL, iter(TEXTS), tmp_path / "b")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_turn_written_by_the_template_begins_with_the_prompt_that_asks_for_it(tmp_path: Path) -> None:
    renderer = make_scratch_folder(SMALL, TEXTS, tmp_path / "base").renderer
    asked = (Message(role="user", content="How long is walk 7?"),)
    whole = (*asked, Message(role="assistant", content="It takes 35 minutes."))
    prompt = renderer.render_chat(asked)
    ids = renderer.render_chat(whole, add_generation_prompt=False)
    assert ids[: len(prompt)] == prompt
    assert ids[-1] == CONTROLS.index("<|end|>")
    assert ids.count(CONTROLS.index("<|bos|>")) == 1


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_what_is_written_can_be_converted_later(tmp_path: Path, architecture: str) -> None:
    part = ScratchPart(architecture=architecture, vocab_size=300, hidden_size=32, n_layers=1, ffn_size=32)  # type: ignore[arg-type]
    made = make_scratch_folder(part, TEXTS, tmp_path / "base")
    shape = read_shape(tmp_path / "base")
    assert (shape.vocab_size, shape.hidden_size) == (made.vocab_size, 32)
    assert (
        len(read_vocabulary(tmp_path / "base" / "tokenizer.json", size=made.vocab_size).tokens)
        == made.vocab_size
    )


def test_a_tokenizer_can_be_taken_from_another_model_and_then_no_row_is_read(tmp_path: Path) -> None:
    first = make_scratch_folder(SMALL, TEXTS, tmp_path / "a")

    def unread() -> Iterator[str]:
        raise AssertionError("rows were read")
        yield ""

    other = make_scratch_folder(SMALL, unread(), tmp_path / "b", tokenizer_from=tmp_path / "a")
    assert other.renderer.digest == first.renderer.digest
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnreadableModel, match=r"no tokenizer\.json"):
        make_scratch_folder(SMALL, TEXTS, tmp_path / "c", tokenizer_from=tmp_path / "empty")


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        ({"hidden_size": 30, "n_heads": 4}, "does not split"),
        ({"hidden_size": 12, "n_heads": 4}, "heads of even size"),
        ({"n_heads": 4, "n_kv_heads": 3}, "no multiple"),
        ({"vocab_size": 100}, "too small"),
        ({"n_layers": 0}, "1 at least"),
    ],
)
def test_sizes_that_do_not_go_together_are_refused(tmp_path: Path, sizes: dict[str, int], told: str) -> None:
    with pytest.raises(ScratchInvalid, match=told):
        make_scratch_folder(ScratchPart(**sizes), TEXTS, tmp_path / "base")  # type: ignore[arg-type]
    assert not (tmp_path / "base").exists()
