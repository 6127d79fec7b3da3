"""Small adapters in PEFT's layout, written by hand, for tests that need no training library."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from penstock.tuning.convert.safetensors import write_safetensors
from tests.tuning.tiny_models import read_all

ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def make_adapter(
    base: Path,
    folder: Path,
    *,
    r: int = 4,
    alpha: float = 8.0,
    targets: tuple[str, ...] = ALL,
    dora: bool = False,
    seed: int = 5,
    extra: dict[str, Any] | None = None,
    **config: Any,
) -> Path:
    """An adapter of every layer's `targets`, with values that change what the base says. `extra` are further tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    tensors: dict[str, Any] = {}
    for name, weight in read_all(base).items():
        module = name.removesuffix(".weight")
        if not name.endswith(".weight") or module.split(".")[-1] not in targets:
            continue
        rows, columns = weight.shape
        at = f"base_model.model.{module}"
        tensors[f"{at}.lora_A.weight"] = (rng.standard_normal((r, columns)) * 0.1).astype(np.float32)
        tensors[f"{at}.lora_B.weight"] = (rng.standard_normal((rows, r)) * 0.1).astype(np.float32)
        if dora:
            lengths = np.linalg.norm(weight, axis=1) * (1 + 0.2 * rng.random(rows))
            tensors[f"{at}.lora_magnitude_vector"] = lengths.astype(np.float32)
    write_safetensors(folder / "adapter_model.safetensors", tensors | (extra or {}))
    settings = {"peft_type": "LORA", "r": r, "lora_alpha": alpha, "use_dora": dora, **config}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder
