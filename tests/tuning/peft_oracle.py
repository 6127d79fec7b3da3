"""Run by the training runtime's own python: what transformers and PEFT say of a folder, as numpy files.

PYTHON peft_oracle.py logits FOLDER IDS.json OUT.npy
PYTHON peft_oracle.py adapt FOLDER SETTINGS.json OUT      writes OUT/adapter and OUT/merged.safetensors
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM


def main() -> None:
    torch.set_num_threads(1)
    verb, folder, given, out = sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    model.eval()
    asked = json.loads(given.read_text())
    if verb == "logits":
        np.save(out, np.concatenate([score(model, ids) for ids in asked]))
        return
    torch.manual_seed(3)
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **asked))
    with torch.no_grad():
        for name, value in adapted.named_parameters():
            if "lora_" in name and "magnitude" not in name:
                value.copy_(torch.randn_like(value) * 0.1)
            elif "magnitude" in name:
                value.mul_(1.0 + 0.2 * torch.rand_like(value))
            elif value.requires_grad:
                value.add_(0.1 * torch.randn_like(value))
    adapted.eval()
    adapted.save_pretrained(out / "adapter")
    merged = adapted.merge_and_unload()
    save_file(
        {name: value.contiguous().clone() for name, value in merged.state_dict().items()},
        out / "merged.safetensors",
    )


@torch.no_grad()
def score(model: AutoModelForCausalLM, ids: list[int]) -> np.ndarray:
    """Return the logits after each id."""
    return model(torch.tensor([ids])).logits[0].numpy()


main()
