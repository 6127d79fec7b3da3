"""The numpy references and the merge against transformers and PEFT themselves, in the training runtime."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from penstock.tuning.convert.architectures import DecoderShape, read_shape
from penstock.tuning.convert.merge import merge_adapter
from penstock.tuning.convert.safetensors import SafetensorsFile
from penstock.tuning.references import decoder_logits
from tests.tuning.tiny_models import make_decoder, read_all

PROGRAM = Path(__file__).parents[1] / "peft_oracle.py"
IDS = [[5, 17, 200, 42, 99, 300, 7], [11, 11, 11, 60, 61, 62, 250]]
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ADAPTERS: dict[str, dict[str, Any]] = {
    "lora": {"target_modules": ALL},
    "rslora": {"target_modules": ["q_proj", "v_proj"], "use_rslora": True},
    "dora": {"target_modules": ALL, "use_dora": True},
    "patterns": {
        "target_modules": ["q_proj", "up_proj"],
        "rank_pattern": {"q_proj": 2},
        "alpha_pattern": {"q_proj": 3, "layers.1.mlp.up_proj": 5},
    },
    "head": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    "tokens": {"target_modules": ["q_proj"], "trainable_token_indices": {"embed_tokens": [3, 7]}},
    "embedding": {"target_modules": ["q_proj", "embed_tokens"]},
}


def ask(python: Path, work: Path, jobs: list[tuple[str, Path, Any, Path]]) -> None:
    """Run all jobs in one process: the libraries take seconds to load."""
    listed = [(verb, str(folder), asked, str(out)) for verb, folder, asked, out in jobs]
    (work / "jobs.json").write_text(json.dumps(listed))
    command = [str(python), "-I", str(PROGRAM), str(work / "jobs.json")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]


def test_references_and_merges_are_those_of_the_libraries(tune_python: Path, tmp_path: Path) -> None:
    models = {
        "llama": make_decoder(tmp_path / "llama", "llama"),
        "llama, biased": make_decoder(tmp_path / "biased", "llama", tied=False, bias=True, n_kv_heads=4),
        "qwen2": make_decoder(tmp_path / "qwen2", "qwen2"),
        "qwen3": make_decoder(tmp_path / "qwen3", "qwen3", tied=False, head_dim=32),
    }
    stretched = make_decoder(tmp_path / "stretched", "llama")
    config = json.loads((stretched / "config.json").read_text())
    config["rope_parameters"] |= {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    (stretched / "config.json").write_text(json.dumps(config))
    models["llama 3"] = stretched
    base = make_decoder(tmp_path / "base", "llama", tied=False)
    jobs = [("logits", folder, IDS, tmp_path / f"{name}.npy") for name, folder in models.items()]
    jobs += [
        ("adapt", base, {"r": 4, "lora_alpha": 8, **settings}, tmp_path / name)
        for name, settings in ADAPTERS.items()
    ]
    ask(tune_python, tmp_path, jobs)
    for name, folder in models.items():
        shape, weights = read_shape(folder), read_all(folder)
        assert isinstance(shape, DecoderShape)
        own = np.concatenate([decoder_logits(shape, weights, ids) for ids in IDS])
        np.testing.assert_allclose(own, np.load(tmp_path / f"{name}.npy"), atol=1e-4, err_msg=name)
    for name in ADAPTERS:
        merge_adapter(base, tmp_path / name / "adapter", tmp_path / name / "own")
        own_weights = read_all(tmp_path / name / "own")
        with SafetensorsFile(tmp_path / name / "merged.safetensors") as theirs:
            for tensor in theirs.names:
                np.testing.assert_allclose(
                    own_weights[tensor], theirs.read(tensor), atol=1e-6, err_msg=f"{name}: {tensor}"
                )
