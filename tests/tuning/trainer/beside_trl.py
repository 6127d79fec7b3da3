"""TRL's own trainers on our rows, in the training runtime: what their losses are where ours are to be the same."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from penstock_trainer import reference, row_files, setup
from transformers import PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

from datasets import Dataset


class RowsAsTheyAre:
    """Keeps TRL from preparing anything."""

    def _prepare_dataset(self, dataset: Any, *_arguments: Any, **_named: Any) -> Any:
        return dataset


class Pairs(RowsAsTheyAre, DPOTrainer):
    pass


class Labels(RowsAsTheyAre, KTOTrainer):
    pass


def compare_preferences(run: Any, network: Any) -> dict[str, float]:
    """Our loss of a batch and TRL's, with weights that have moved away from the base's."""
    rows = row_files.read_rows(run.locate(run.train_rows), run.method)
    base = copy.deepcopy(network.causal)
    objective = setup.join_objective(run, network, rows, "train")
    torch.manual_seed(3)
    with torch.no_grad():
        for value in network.causal.parameters():
            value.add_(torch.randn_like(value) * 0.02)
    items = np.arange(8)
    with torch.no_grad():
        ours = objective.score(network, items)
        examples, trainer = (pair_up if run.method == "dpo" else label)(run, rows, network, base)
        inputs = trainer.data_collator([examples[int(item)] for item in items])
        loss = trainer.compute_loss(trainer.model, inputs)
    told = {name: value / ours.weight for name, value in ours.sums.items()}
    metrics = max(trainer._metrics.values(), key=len)
    theirs = {name: values[-1] for name, values in metrics.items() if values}
    return {"ours": told["loss"], "theirs": float(loss), "told": told, "theirs_told": theirs}


def options(run: Any, folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder / "trl"),
        "per_device_train_batch_size": 8,
        "beta": run.preference.beta,
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "max_length": None,
        "gradient_checkpointing": False,
    }


def pair_up(run: Any, rows: Any, network: Any, base: Any) -> tuple[list[Any], Any]:
    examples = [
        {
            "prompt_ids": rows.prompt[row].tolist(),
            "chosen_ids": rows.chosen[row].tolist(),
            "rejected_ids": rows.rejected[row].tolist(),
        }
        for row in range(len(rows))
    ]
    losses = {run.preference.loss: 1.0}
    if (
        run.preference.sft_weight
    ):  # theirs is by token over a batch, ours over a pair: alike where answers are of one length
        losses["sft"] = run.preference.sft_weight
    trainer = Pairs(
        model=network.causal,
        ref_model=base,
        args=DPOConfig(
            loss_type=list(losses), loss_weights=list(losses.values()), **options(run, run.folder)
        ),
        train_dataset=Dataset.from_list(examples),
        processing_class=tokenizer(run),
    )
    return examples, trainer


def label(run: Any, rows: Any, network: Any, base: Any) -> tuple[list[Any], Any]:
    partners = reference.pair_partners(len(rows), seed=run.seed)
    is_kto = run.preference.loss in {"kto", "sigmoid"}
    examples = [
        {
            "prompt_ids": rows.prompt[row].tolist(),
            "completion_ids": rows.completion[row].tolist(),
            "label": bool(rows.labels[row]),
        }
        | ({"KL_completion_ids": rows.completion[int(partners[row])].tolist()} if is_kto else {})
        for row in range(len(rows))
    ]
    trainer = Labels(
        model=network.causal,
        ref_model=base,
        args=KTOConfig(
            loss_type="kto" if is_kto else run.preference.loss,
            desirable_weight=run.preference.desirable_weight,
            undesirable_weight=run.preference.undesirable_weight,
            **options(run, run.folder),
        ),
        train_dataset=Dataset.from_list(examples),
        processing_class=tokenizer(run),
    )
    return examples, trainer


def tokenizer(run: Any) -> Any:
    return PreTrainedTokenizerFast(
        tokenizer_file=str(run.folder / "base" / "tokenizer.json"), pad_token="<|pad|>", eos_token="<|end|>"
    )
