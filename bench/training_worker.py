"""One measurement of `bench/training.py`, in the training runtime: `KIND RUN SCRATCH ENTRY WARMUP`. Prints one JSON line.

Imports nothing of Penstock but the trainer, by its path.
"""

import importlib
import importlib.util
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any


class Window:
    """Wall and processor time from the end of the warm-up to the last step."""

    def __init__(self, warmup: int) -> None:
        self._warmup = warmup
        self._marks: list[tuple[float, float]] = []

    def end_step(self) -> None:
        self._marks.append((time.perf_counter(), time.process_time()))

    def report(self, n_tokens: list[int]) -> None:
        """Print the figures over the steps after the warm-up."""
        first, last = self._marks[self._warmup - 1], self._marks[-1]
        assert len(self._marks) == len(n_tokens)
        tokens = sum(n_tokens[self._warmup :])
        print(
            json.dumps(
                {
                    "tokens_per_s": tokens / (last[0] - first[0]),
                    "processor_s_per_mtoken": (last[1] - first[1]) / tokens * 1e6,
                }
            )
        )


def load_trainer(entry: Path) -> Any:
    """Load the trainer's package by its path."""
    spec = importlib.util.spec_from_file_location("trainer_front", entry)
    front = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(front)
    os.environ.update(front.ENVIRONMENT)
    front.load_package()
    return front


def part(name: str) -> Any:
    return importlib.import_module(f"penstock_trainer.{name}")


def make_base(run: Path, shape: str) -> None:
    """Write the base that all kinds begin from."""
    import torch
    from transformers import AutoModelForCausalLM

    given = json.loads(shape)
    vocab_size = given.pop("vocab_size")
    config = part("networks").describe_scratch(
        part("run_spec").ScratchPart(**given), vocab_size=vocab_size, stop_ids=(2,), pad_id=0
    )
    torch.manual_seed(20)
    AutoModelForCausalLM.from_config(config).save_pretrained(run / "base")


def run_ours(run: Path, scratch: Path, window: Window) -> None:
    """The trainer itself, events and all."""
    shutil.copytree(run, scratch / "run")
    loop = part("loop")
    real, n_tokens, seen = loop.Loop._tell_step, [], [0]  # noqa: SLF001 - to take the time where a step ends

    def tell_step(self: Any, *arguments: Any) -> None:
        real(self, *arguments)
        n_tokens.append(self._progress.n_tokens - seen[0])
        seen[0] = self._progress.n_tokens
        window.end_step()

    loop.Loop._tell_step = tell_step  # noqa: SLF001
    entry = part("entry")
    assert entry.main([str(scratch / "run" / "run.json")]) == 0
    window.report(n_tokens)


def run_loop(run: Path, window: Window, *, is_lean: bool) -> None:
    """A loop as one writes it by hand."""
    import numpy as np
    import torch

    spec = part("run_spec").read_run(run / "run.json")
    torch.set_num_threads(spec.train.threads)
    network = part("networks").build_network(spec)
    rows = part("row_files").read_rows(run / "data" / "train", spec.method)
    batches, forwards = part("batches"), part("forwards")
    network.whole.train()
    params = [value for value in network.whole.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(params, lr=spec.lr, weight_decay=0.0, fused=True)
    n_steps = spec.train.max_steps
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / 5, (n_steps - step) / (n_steps - 5))
    )
    n_tokens = []
    for step in range(n_steps):
        chosen = batches.rows_of_step(step, len(rows), seed=spec.seed, size=spec.train.batch_size)
        picked = [rows.get(int(row)) for row in chosen]
        if is_lean:
            scored = forwards.score_tokens(network, batches.collate(picked, pad_id=0))
            loss = scored.losses.mean()
        else:
            width = max(len(ids) for ids, _ in picked)
            ids = np.zeros((len(picked), width), dtype=np.int64)
            labels = np.full_like(ids, -100)
            mask = np.zeros_like(ids)
            for line, (row, learned) in enumerate(picked):
                ids[line, : len(row)] = row
                labels[line, : len(row)] = np.where(learned != 0, row, -100)
                mask[line, : len(row)] = 1
            loss = network.whole(
                input_ids=torch.from_numpy(ids),
                attention_mask=torch.from_numpy(mask),
                labels=torch.from_numpy(labels),
            ).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
        n_tokens.append(sum(len(ids) for ids, _ in picked))
        window.end_step()
    window.report(n_tokens)


def run_trl(run: Path, scratch: Path, window: Window) -> None:
    """SFTTrainer with rows that are ids already, in the same order, and nothing of the library's own preparation."""
    import numpy as np
    import torch
    from tokenizers import Tokenizer, models
    from torch.utils.data import SequentialSampler
    from transformers import PreTrainedTokenizerFast, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from datasets import Dataset

    spec = part("run_spec").read_run(run / "run.json")
    torch.set_num_threads(spec.train.threads)
    network = part("networks").build_network(spec)
    rows = part("row_files").read_rows(run / "data" / "train", spec.method)
    batches = part("batches")
    size, n_steps = spec.train.batch_size, spec.train.max_steps
    order = np.concatenate(
        [batches.rows_of_step(step, len(rows), seed=spec.seed, size=size) for step in range(n_steps)]
    )
    picked = [rows.get(int(row)) for row in order]
    data = Dataset.from_list(
        [
            {"input_ids": ids.tolist(), "labels": np.where(mask != 0, ids, -100).tolist()}
            for ids, mask in picked
        ]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 2}, unk_token="<pad>")),
        pad_token="<pad>",
        eos_token="</s>",
    )

    class Timing(TrainerCallback):
        def on_step_end(self, *_arguments: Any, **_named: Any) -> None:
            window.end_step()

    class InOrder(SFTTrainer):
        def _get_train_sampler(self, dataset: Any = None) -> Any:
            return SequentialSampler(dataset if dataset is not None else self.train_dataset)

    config = SFTConfig(
        output_dir=str(scratch),
        max_steps=n_steps,
        per_device_train_batch_size=size,
        learning_rate=spec.lr,
        warmup_steps=5,
        lr_scheduler_type="linear",
        optim="adamw_torch_fused",
        weight_decay=0.0,
        max_grad_norm=1.0,
        use_cpu=not torch.cuda.is_available(),
        bf16=network.is_bf16,
        gradient_checkpointing=False,
        max_length=None,
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        logging_steps=1,
        disable_tqdm=True,
        save_strategy="no",
        report_to="none",
        dataloader_pin_memory=False,
        loss_type="nll",
    )
    stdout, sys.stdout = sys.stdout, sys.stderr
    trainer = InOrder(
        model=network.whole, args=config, train_dataset=data, processing_class=tokenizer, callbacks=[Timing()]
    )
    trainer.train()
    sys.stdout = stdout
    lengths = [len(ids) for ids, _ in picked]
    window.report([sum(lengths[at : at + size]) for at in range(0, len(lengths), size)])


def main() -> None:
    """Do what was asked for."""
    kind, run, scratch, entry, warmup = (
        sys.argv[1],
        Path(sys.argv[2]),
        sys.argv[3],
        Path(sys.argv[4]),
        sys.argv[5],
    )
    load_trainer(entry)
    window = Window(int(warmup))
    if kind == "make-base":
        make_base(run, scratch)
    elif kind == "ours":
        run_ours(run, Path(scratch), window)
    elif kind == "trl":
        run_trl(run, Path(scratch), window)
    else:
        run_loop(run, window, is_lean=kind == "lean")


if __name__ == "__main__":
    main()
