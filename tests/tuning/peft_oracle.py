"""Run by the training runtime's own python: what transformers and PEFT say of a folder, as numpy files.

    PYTHON peft_oracle.py JOBS.json

Each job is [verb, folder, asked, out]: `logits` writes the logits after each of the lists of ids to `out` (.npy);
`adapt` makes an adapter with the settings `asked` and writes `out/adapter` and `out/merged.safetensors`.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM


def main() -> None:
    torch.set_num_threads(1)
    for verb, folder, asked, out in json.loads(Path(sys.argv[1]).read_text()):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
        model.eval()
        if verb == "logits":
            np.save(out, np.concatenate([score(model, ids) for ids in asked]))
        else:
            adapt(model, asked, Path(out))


def adapt(model: Any, settings: dict[str, Any], out: Path) -> None:
    """Write an adapter with random values that matter, and the model it makes when PEFT merges it."""
    torch.manual_seed(3)
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings))
    with torch.no_grad():
        for name, value in adapted.named_parameters():
            if "magnitude" in name:
                value.mul_(1.0 + 0.2 * torch.rand_like(value))
            elif "lora_" in name:
                value.copy_(torch.randn_like(value) * 0.1)
            elif value.requires_grad:
                value.add_(0.1 * torch.randn_like(value))
    adapted.eval()
    adapted.save_pretrained(out / "adapter")
    merged = adapted.merge_and_unload().state_dict()
    save_file(
        {name: value.contiguous().clone() for name, value in merged.items()}, out / "merged.safetensors"
    )


@torch.no_grad()
def score(model: Any, ids: list[int]) -> np.ndarray:
    """Return the logits after each id."""
    return model(torch.tensor([ids])).logits[0].numpy()


main()
