"""What tests ask of the trainer's own parts, run in the training runtime (see `serve_runtime`)."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from penstock_trainer import (
    attention,
    batches,
    checkpoints,
    forwards,
    networks,
    objectives,
    row_files,
    run_spec,
    setup,
)


def open_run(folder: str) -> tuple[Any, Any]:
    """A run's specification and its network before the first step."""
    torch.set_num_threads(1)
    run = run_spec.read_run(Path(folder) / "run.json")
    network = networks.build_network(run)
    network.whole.eval()
    return run, network


def list_batches(folder: str, n_steps: int) -> list[dict[str, Any]]:
    """What the model is given in each step where lines lie side by side: the arguments of its forward passes."""
    run, network = open_run(folder)
    network = dataclasses.replace(network, reads_rows=False)
    rows = row_files.read_rows(run.locate(run.train_rows), run.method)
    objective = setup.join_objective(run, network, rows, "train")
    order = batches.StepOrder(
        objective.n_items, seed=run.seed, size=run.train.batch_size * run.train.accumulate
    )
    given: list[dict[str, Any]] = []

    def note(_module: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        given[-1]["passes"].append(
            {
                "ids": kwargs["input_ids"].tolist(),
                "positions": kwargs["position_ids"].tolist(),
                "has_mask": kwargs.get("attention_mask") is not None,
            }
        )

    network.causal.model.register_forward_pre_hook(note, with_kwargs=True)
    real = forwards.score_tokens

    def score_tokens(network: Any, batch: Any) -> Any:
        given[-1]["targets"].append(batch.targets.tolist())
        return real(network, batch)

    objectives.score_tokens = score_tokens
    for step in range(n_steps):
        given.append({"passes": [], "targets": []})
        for some in batches.split_step(order.rows(step), objective.lengths, run.train.batch_size):
            with torch.no_grad():
                objective.score(network, some)
    return given


def list_read_rows(folder: str, items: list[int]) -> dict[str, Any]:
    """What the model's own parts are given where rows lie behind each other: ids, positions, and rows that see themselves alone."""
    run, network = open_run(folder)
    rows = row_files.read_rows(run.locate(run.train_rows), run.method)
    model, seen = network.causal.model, {"ids": [], "positions": [], "lengths": [], "n_last": []}
    model.embed_tokens.register_forward_pre_hook(lambda _, args: seen["ids"].append(args[0].tolist()))
    model.rotary_emb.register_forward_pre_hook(
        lambda _, args, given: seen["positions"].append(given["position_ids"].tolist()), with_kwargs=True
    )
    for layer in model.layers:
        layer.self_attn.register_forward_pre_hook(
            lambda _, args, given: seen["lengths"].append(list(given["row_lengths"])), with_kwargs=True
        )
    model.layers[-1].mlp.register_forward_pre_hook(
        lambda _, args: seen["n_last"].append(int(args[0].shape[0]))
    )
    setup.join_objective(run, network, rows, "train").score(network, np.array(items))
    return seen


def compare_ways(folder: str, is_packed: bool) -> dict[str, float]:
    """The largest differences of losses and gradients between rows behind each other and lines side by side."""
    run, network = open_run(folder)
    rows = row_files.read_rows(run.locate(run.train_rows), run.method)
    n = len(rows)
    lines = [list(range(n // 2)), list(range(n // 2, n))] if is_packed else None
    objective = objectives.TokenObjective(rows, pad_id=run.pad_id, lines=lines)
    found = []
    for reads_rows in (True, False):
        one = dataclasses.replace(network, reads_rows=reads_rows)
        scored = forwards.score_tokens(one, objective.make_batch(np.arange(objective.n_items)))
        scored.losses.sum().backward()
        grads = {name: value.grad.clone() for name, value in network.trained().items()}
        found.append((scored.losses.detach(), grads))
        network.whole.zero_grad()
    (one, grads), (other, others) = found
    return {
        "n": len(one),
        "loss": float((one - other).abs().max()),
        "gradient": max(float((grads[name] - others[name]).abs().max()) for name in grads),
        "size": max(float(each.abs().max()) for each in others.values()),
    }


def measure_gradients(folder: str, items: list[int], batch_size: int) -> dict[str, float]:
    """Loss and gradient norm of one step over these rows, in batches of `batch_size`."""
    run, network = open_run(folder)
    rows = row_files.read_rows(run.locate(run.train_rows), run.method)
    objective = setup.join_objective(run, network, rows, "train")
    chosen = np.array(items)
    weight = objective.weigh(chosen)
    total = 0.0
    for some in batches.split_step(chosen, objective.lengths, batch_size):
        outcome = objective.score(network, some)
        (outcome.total / weight).backward()
        total += outcome.sums["loss"]
    norm = torch.nn.utils.clip_grad_norm_(list(network.trained().values()), 1e9)
    return {"loss": total / weight, "norm": float(norm)}


def compare_packing(folder: str) -> dict[str, float]:
    """The largest difference between the losses of rows packed on one line and of the same rows each by itself."""
    run, network = open_run(folder)
    rows = row_files.read_rows(run.locate(run.train_rows), run.method)
    all_rows = list(range(len(rows)))
    alone = objectives.TokenObjective(rows, pad_id=run.pad_id)
    packed = objectives.TokenObjective(rows, pad_id=run.pad_id, lines=[all_rows])
    with torch.no_grad():
        one = forwards.score_tokens(network, alone.make_batch(np.array(all_rows)))
        other = forwards.score_tokens(network, packed.make_batch(np.array([0])))
    return {
        "largest": float((one.losses - other.losses).abs().max()),
        "n": len(other.losses),
        "n_alone": len(one.losses),
    }


def compare_with_library(folder: str) -> dict[str, float]:
    """Our loss and that of transformers itself on the same ids and labels, with an attention mask for padding."""
    run, network = open_run(folder)
    rows = row_files.read_rows(run.locate(run.train_rows), run.method)
    objective = objectives.TokenObjective(rows, pad_id=run.pad_id)
    items = np.arange(6)
    batch = objective.make_batch(items)
    labels = np.full_like(batch.ids, -100)
    mask = np.zeros_like(batch.ids)
    for line, item in enumerate(items):
        ids, learned = rows.get(int(item))
        labels[line, : len(ids)] = np.where(learned != 0, ids, -100)
        mask[line, : len(ids)] = 1
    network.causal.set_attn_implementation("sdpa")
    with torch.no_grad():
        theirs = network.causal(
            input_ids=torch.from_numpy(batch.ids),
            attention_mask=torch.from_numpy(mask),
            labels=torch.from_numpy(labels),
        ).loss
        network.causal.set_attn_implementation(attention.ROWS)
        ours = objective.score(network, items)
        forwards.PORTION = network.vocab_size * 3  # three positions at a time
        portions = objective.score(network, items)
    return {
        "ours": ours.sums["loss"] / ours.weight,
        "portions": portions.sums["loss"] / portions.weight,
        "theirs": float(theirs),
    }


def compare_adapter_names(folder: str) -> dict[str, Any]:
    """Our names of an adapter's weights, and those that PEFT writes; and whether PEFT reads our file back."""
    import peft
    import safetensors.torch

    run, network = open_run(folder)
    theirs = peft.get_peft_model_state_dict(network.whole)
    out = Path(folder) / "out"
    fresh = networks.build_network(run).causal
    base = networks._read_base(
        run_spec.RunSpec(folder=run.folder, id="x", method="full", seed=1, digest=""), torch.device("cpu")
    )
    del fresh
    loaded = peft.PeftModel.from_pretrained(base, out)
    saved = safetensors.torch.load_file(out / networks.ADAPTER_WEIGHTS)
    read = peft.get_peft_model_state_dict(loaded)
    return {
        "ours": sorted(networks.adapter_tensors(network)),
        "theirs": sorted(theirs),
        "same": all(torch.equal(saved[name], read[name]) for name in saved) and sorted(saved) == sorted(read),
    }


def list_weights(path: str) -> dict[str, Any]:
    """Names, shapes and the digest of a safetensors file."""
    import safetensors.torch

    tensors = safetensors.torch.load_file(path)
    return {
        "digest": checkpoints.digest_file(Path(path)),
        "names": sorted(tensors),
        "dtypes": sorted({str(each.dtype) for each in tensors.values()}),
        "moved": json.loads(json.dumps({name: float(each.abs().sum()) for name, each in tensors.items()})),
    }


def try_lock(folder: str) -> str:
    """Take the run's lock without waiting."""
    from penstock_trainer import faults, machine

    try:
        machine.lock_run(Path(folder), wait_s=0.0).close()
    except faults.TrainingFault as fault:
        return fault.text
    return "held"


def decode(folder: str, ids: list[int]) -> str:
    """The text of ids, by the base's tokenizer."""
    from tokenizers import Tokenizer

    return str(Tokenizer.from_file(str(Path(folder) / "base" / "tokenizer.json")).decode(ids))


def has_gpu() -> bool:
    return bool(torch.cuda.is_available())


def compare_with_trl(folders: list[str]) -> list[Any]:
    """Our losses for preferences and TRL's, on the same rows and weights."""
    import sys

    sys.path.append(str(Path(__file__).parent))
    from beside_trl import compare_preferences

    return [compare_preferences(*open_run(folder)) for folder in folders]
