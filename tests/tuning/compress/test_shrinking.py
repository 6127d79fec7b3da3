"""Smaller models from larger ones: what stays is the larger one's, and the numbers fit."""

import json
from pathlib import Path

import numpy as np
import pytest

from penstock.tuning.compress.errors import CannotShrink
from penstock.tuning.compress.shrink import Shrinking, choose_layers, rank_channels, shrink_folder
from penstock.tuning.convert.architectures import read_shape
from penstock.tuning.convert.safetensors import Weights
from penstock.tuning.references import decoder_logits
from tests.tuning.tiny_models import make_decoder


@pytest.mark.parametrize(
    ("n", "wanted", "kept"), [(4, 2, (0, 3)), (6, 3, (0, 2, 5)), (12, 12, tuple(range(12))), (5, 1, (0,))]
)
def test_layers_are_taken_evenly_with_first_and_last(n: int, wanted: int, kept: tuple[int, ...]) -> None:
    assert choose_layers(n, Shrinking(layers=wanted)) == kept


def test_layers_of_any_count_are_distinct() -> None:
    for n in range(1, 40):
        for wanted in range(1, n + 1):
            kept = choose_layers(n, Shrinking(layers=wanted))
            assert len(set(kept)) == wanted and max(kept) < n


def test_layers_that_are_not_there_are_refused() -> None:
    with pytest.raises(CannotShrink):
        choose_layers(4, Shrinking(layers=5))
    with pytest.raises(CannotShrink):
        choose_layers(4, Shrinking(keep=(0, 4)))


def test_channels_that_add_most_stay_in_their_order() -> None:
    gate = np.diag([1.0, 5.0, 3.0, 0.1])
    up, down = np.eye(4), np.eye(4)
    assert rank_channels(gate, up, down, 2).tolist() == [1, 2]


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_a_smaller_model_is_the_larger_ones_parts(tmp_path: Path, architecture: str) -> None:
    folder = make_decoder(tmp_path / "large", architecture)  # type: ignore[arg-type]
    facts = shrink_folder(folder, tmp_path / "small", Shrinking(keep=(1,), ffn_size=32))
    assert facts["how"] == "layers 1 of 2, 32 of 96 feed-forward channels kept"
    shape = read_shape(tmp_path / "small")
    assert (shape.n_layers, shape.ffn_size) == (1, 32)
    before, after = Weights(folder), Weights(tmp_path / "small")
    large, small = dict(before), dict(after)
    before.close()
    after.close()
    np.testing.assert_array_equal(
        small["model.layers.0.self_attn.q_proj.weight"], large["model.layers.1.self_attn.q_proj.weight"]
    )
    gates = large["model.layers.1.mlp.gate_proj.weight"]
    assert all(
        any((row == other).all() for other in gates) for row in small["model.layers.0.mlp.gate_proj.weight"]
    )
    assert small["model.layers.0.mlp.down_proj.weight"].shape == (64, 32)
    assert not any("layers.1." in name for name in small)
    assert (tmp_path / "small" / "tokenizer.json").is_file()
    assert np.isfinite(decoder_logits(shape, small, [1, 7, 8])).all()


def test_leaving_nothing_out_is_refused(tmp_path: Path) -> None:
    folder = make_decoder(tmp_path / "large", "llama")
    with pytest.raises(CannotShrink, match="nothing would be left out"):
        shrink_folder(folder, tmp_path / "small", Shrinking(layers=2))


def test_channels_must_fill_blocks(tmp_path: Path) -> None:
    folder = make_decoder(tmp_path / "large", "llama")
    with pytest.raises(CannotShrink, match="multiple of 32"):
        shrink_folder(folder, tmp_path / "small", Shrinking(ffn_size=40))


def test_lists_by_layer_shrink_along(tmp_path: Path) -> None:
    folder = make_decoder(tmp_path / "large", "qwen3")
    config = json.loads((folder / "config.json").read_text())
    config |= {"layer_types": ["full_attention", "full_attention"], "max_window_layers": 2}
    (folder / "config.json").write_text(json.dumps(config))
    shrink_folder(folder, tmp_path / "small", Shrinking(layers=1))
    small = json.loads((tmp_path / "small" / "config.json").read_text())
    assert small["layer_types"] == ["full_attention"] and small["max_window_layers"] == 1
