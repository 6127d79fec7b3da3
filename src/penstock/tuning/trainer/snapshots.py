"""Everything that the next step depends on, into a checkpoint and back: weights, optimizer, random state, progress.

The optimizer's moments are kept as safetensors under the names of their parameters; torch.save is not used, so no
pickle is ever read. With the number of threads put back as it was, the next step is the same to the last bit.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from .checkpoints import Checkpoints
from .faults import TrainingFault
from .networks import Network, load_trained, save_trained, write_tensors

OPTIMIZER = "optimizer.safetensors"
_RANDOM = "random.cpu"
_RANDOM_CUDA = "random.cuda"


@dataclass(kw_only=True)
class Progress:
    """How far a run is."""

    step: int = 0
    """Steps done."""
    evaluated_step: int = -1
    """The step after which held-out rows were measured last."""
    best_step: int | None = None
    best_value: float | None = None
    n_without_better: int = 0
    n_tokens: int = 0
    elapsed_s: float = 0.0
    """Over all attempts."""


def save_snapshot(
    checkpoints: Checkpoints,
    network: Network,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    *,
    random_state: Mapping[str, Any],
    origin: Mapping[str, Any],
    detail: Mapping[str, Any],
) -> Path:
    """Write a checkpoint of this moment. Raises `TrainingFault` for a full disk, and for weights that are no numbers."""
    trained = network.trained()
    if broken := [name for name, value in trained.items() if not bool(torch.isfinite(value).all())]:
        raise TrainingFault(
            "nan_loss",
            f"Weights are no finite numbers after step {progress.step}: {broken[0]}; no checkpoint was written.",
            hint="Lower train.lr; the checkpoint before this one is whole.",
        )
    state = {
        **origin,
        "progress": asdict(progress),
        "threads": torch.get_num_threads(),
        "detail": dict(detail),
    }
    files = save_trained(network)
    files[OPTIMIZER] = lambda path: write_tensors(
        path, _optimizer_tensors(trained, optimizer) | dict(random_state)
    )
    return checkpoints.write(progress.step, files, state)


def load_snapshot(
    folder: Path, state: Mapping[str, Any], network: Network, optimizer: torch.optim.Optimizer
) -> Progress:
    """Put a checkpoint back into the network, the optimizer and the random state; return how far it was."""
    load_trained(network, folder)
    saved = safetensors.torch.load_file(folder / OPTIMIZER)
    optimizer.state.clear()
    for name, value in network.trained().items():
        fields = {
            key.removeprefix(f"{name}/"): tensor
            for key, tensor in saved.items()
            if key.startswith(f"{name}/")
        }
        if fields:
            optimizer.state[value] = {
                key: tensor.clone() if key == "step" else tensor.to(value.device).clone()
                for key, tensor in fields.items()
            }
    torch.set_num_threads(int(state["threads"]))
    put_random_state({name: saved[name] for name in (_RANDOM, _RANDOM_CUDA) if name in saved})
    return Progress(**state["progress"])


def take_random_state(network: Network) -> dict[str, Any]:
    """Return the state that dropout draws from."""
    state = {_RANDOM: torch.get_rng_state()}
    if network.device.type == "cuda":
        state[_RANDOM_CUDA] = torch.cuda.get_rng_state(network.device)
    return state


def put_random_state(state: Mapping[str, Any]) -> None:
    """Go back to a state that was taken."""
    torch.set_rng_state(state[_RANDOM])
    if _RANDOM_CUDA in state:
        torch.cuda.set_rng_state(state[_RANDOM_CUDA])


def _optimizer_tensors(trained: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    found = {}
    for name, value in trained.items():
        for key, field in optimizer.state.get(value, {}).items():
            found[f"{name}/{key}"] = field if isinstance(field, torch.Tensor) else torch.tensor(field)
    return found
