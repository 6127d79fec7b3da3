"""A run made ready: rows opened, network built, objectives joined, optimizer made, and the last checkpoint put back."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from .batches import pack_rows
from .checkpoints import Checkpoints, check_origin, digest_file
from .events import EventLog
from .faults import TrainingFault
from .measuring import Judge
from .networks import Network, build_network
from .objectives import LabelObjective, Objective, PairObjective, TokenObjective
from .reference import compute_reference, load_reference, pair_partners, save_reference
from .replies import read_prompts
from .row_files import (
    LabelledRows,
    PreferenceRows,
    Rows,
    SupervisedRows,
    check_rows,
    digest_files,
    read_rows,
)
from .run_spec import GENERATED_METRICS, RunSpec, preference_loss
from .snapshots import Progress, load_snapshot
from .steps import count_steps


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What the loop works with."""

    run: RunSpec
    network: Network
    objective: Objective
    judge: Judge
    optimizer: Any
    checkpoints: Checkpoints
    progress: Progress
    n_steps: int
    inputs: dict[str, str]
    """Digests of the files that the run rests on."""
    resumed_from: int | None


def prepare(run: RunSpec, events: EventLog, *, interrupt: Callable[[], None]) -> Setup:
    """Make a run ready. Raises `TrainingFault` for what cannot be trained, or not gone on with."""
    torch.set_num_threads(run.train.threads or torch.get_num_threads())
    # on a GPU some operations have no deterministic form; they are told, not refused
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    torch.utils.deterministic.fill_uninitialized_memory = False
    checkpoints = Checkpoints(run.folder / "checkpoints", keep=run.train.keep_checkpoints)
    inputs = digest_inputs(run)
    newest = checkpoints.find_newest()
    if newest is not None:
        check_origin(newest[1], digest=run.digest, inputs=inputs)
    network = build_network(run)
    train = read_rows(run.locate(run.train_rows), run.method)
    check_rows(train, vocab_size=network.vocab_size, context_length=network.context_length)
    objective = join_objective(run, network, train, "train")
    heldout = None
    if run.heldout_rows is not None and run.locate(run.heldout_rows).is_dir():
        rows = read_rows(run.locate(run.heldout_rows), run.method)
        if len(rows):
            check_rows(rows, vocab_size=network.vocab_size, context_length=network.context_length)
            heldout = join_objective(run, network, rows, "heldout")
    prompts = read_prompts(run.locate(run.samples) if run.samples else None, limit=_count_prompts(run))
    if run.evaluation.metric in GENERATED_METRICS and not prompts:
        raise TrainingFault(
            "trainer",
            f"The metric {run.evaluation.metric} needs prompts in data/samples.json; there are none.",
        )
    network.whole.train()
    optimizer = make_optimizer(run, network)
    progress = Progress()
    if newest is not None:
        progress = load_snapshot(newest[0], newest[1], network, optimizer)
        if progress.best_step is not None and (checkpoints.folder / f"step-{progress.best_step}").is_dir():
            checkpoints.mark_best(progress.best_step)
    judge = Judge(
        run,
        network,
        heldout,
        prompts,
        tokenizer=run.locate(run.model or "base") / "tokenizer.json",
        interrupt=interrupt,
    )
    n_steps = count_steps(
        objective.n_items,
        batch_size=run.train.batch_size,
        accumulate=run.train.accumulate,
        epochs=run.train.epochs,
        max_steps=run.train.max_steps,
    )
    if run.n_steps and run.n_steps != n_steps and not run.train.packing:
        events.write("note", text=f"The plan said {run.n_steps} steps; the rows make {n_steps}.")
    return Setup(
        run=run,
        network=network,
        objective=objective,
        judge=judge,
        optimizer=optimizer,
        checkpoints=checkpoints,
        progress=progress,
        n_steps=n_steps,
        inputs=inputs,
        resumed_from=progress.step if newest is not None else None,
    )


def digest_inputs(run: RunSpec) -> dict[str, str]:
    """Return a digest of each input of a run: training rows, held-out rows, prompts, base."""
    found = {}
    for name, path in (
        ("train", run.train_rows),
        ("heldout", run.heldout_rows),
        ("samples", run.samples),
        ("base", run.model),
    ):
        if path is not None and (place := run.locate(path)).exists():
            found[name] = digest_files(place) if place.is_dir() else digest_file(place)
    return found


def join_objective(run: RunSpec, network: Network, rows: Rows, part: str) -> Objective:
    """Return what is made small on these rows; for preferences with the base's log-probabilities of them."""
    if isinstance(rows, SupervisedRows):
        lines = None
        if run.train.packing and part == "train":
            bounds = [each for each in (run.max_length, network.context_length) if each]
            width = min(bounds, default=int(rows.lengths.max()))
            lines = pack_rows(rows.lengths, width)
        return TokenObjective(rows, pad_id=run.pad_id, lines=lines)
    loss = preference_loss(run)
    partners = pair_partners(len(rows), seed=run.seed) if loss == "kto" else None
    path = run.folder / f"reference-{part}.npy"
    reference = load_reference(path, len(rows))
    if reference is None:
        reference = compute_reference(
            network, rows, partners, batch_size=run.train.batch_size, pad_id=run.pad_id
        )
        save_reference(path, reference)
    if isinstance(rows, PreferenceRows):
        return PairObjective(rows, reference, run.preference, loss=loss, pad_id=run.pad_id)
    assert isinstance(rows, LabelledRows)
    if partners is None:
        partners = pair_partners(len(rows), seed=run.seed)
    return LabelObjective(rows, reference, partners, run.preference, loss=loss, pad_id=run.pad_id)


def make_optimizer(run: RunSpec, network: Network) -> Any:
    """Return AdamW in one pass over all weights. Norms, biases and scales are not decayed."""
    trained = network.trained()
    matrices = [value for value in trained.values() if value.dim() >= 2]
    others = [value for value in trained.values() if value.dim() < 2]
    groups = [
        {"params": params, "weight_decay": decay}
        for params, decay in ((matrices, run.train.weight_decay), (others, 0.0))
        if params
    ]
    return torch.optim.AdamW(groups, lr=run.lr, fused=True)


def _count_prompts(run: RunSpec) -> int:
    evaluation = run.evaluation
    return evaluation.max_rows if evaluation.metric in GENERATED_METRICS else evaluation.n_samples
