"""Makes a recipe into a frozen run: references pinned, base checked out, rows written, the preflight passed.

Everything here can be done again: a run that was killed while it was prepared is prepared anew.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from penstock.base.digest import digest_file, digest_json
from penstock.base.files import write_atomic
from penstock.spec.tuning import FrozenRun, Recipe
from penstock.tuning.preflight.flight import fly
from penstock.tuning.preflight.types import BaseFacts, Finding, Flight, Preflight, rows_text
from penstock.tuning.rows.types import AsCase
from penstock.tuning.runs.asking import ARRIVING, KeptSteps, as_if_answered, find_objections
from penstock.tuning.runs.errors import RunChanged, RunRefused
from penstock.tuning.runs.folder import RunFolder
from penstock.tuning.runs.pinning import PinnedRecipe, label_of, pin_recipe
from penstock.tuning.runs.ports import Distiller, Models, RunContext, StartFolder, Tell, TrainingAssets
from penstock.tuning.runs.programs import check_program, digest_program
from penstock.tuning.runs.scratching import write_scratch
from penstock.tuning.runs.shared_bases import open_shared
from penstock.tuning.trainer.batches import pack_rows
from penstock.tuning.trainer.steps import count_steps

PACKED_LENGTH = 2048
"""Tokens of a line of packed rows, where neither the recipe nor a row asks for another."""


@dataclass(frozen=True, kw_only=True)
class PreparingParts:
    """What preparing needs of others."""

    assets: TrainingAssets
    models: Models
    as_case: AsCase
    distil: Distiller | None = None
    fly: Callable[..., Preflight] = fly


Judge = Callable[[PinnedRecipe, StartFolder | None, Preflight], Sequence[Finding]]
"""Says what the machine and the budget have against a run whose rows have been counted."""


@dataclass(frozen=True, kw_only=True)
class PreparedRun:
    """A run that can be trained."""

    frozen: FrozenRun
    preflight: Preflight
    pinned: PinnedRecipe
    base: StartFolder | None


class Preparation:
    """Prepares runs. Methods block, for minutes with a large base."""

    def __init__(self, parts: PreparingParts) -> None:
        self._parts = parts

    def pin(self, recipe: Recipe) -> PinnedRecipe:
        """Return the recipe pinned to what its references name now."""
        return pin_recipe(recipe, self._parts.assets)

    def checkout(self, pinned: PinnedRecipe, folder: RunFolder) -> StartFolder:
        """Return the base's weights in Hugging Face layout, shared by all runs that begin from it.

        What lies there is held to the digests of when it was written, each time, and written anew where it differs.
        Whoever asks while it is being written waits.
        """
        assert pinned.base is not None
        wanted, is_merged = label_of(pinned.base), pinned.recipe.base.merge_adapters
        place = folder.shared_base(pinned.base.digest)
        place = place.with_name(place.name + ("" if is_merged else "-adapter"))
        return open_shared(
            place, lambda part: self._parts.models.checkout(wanted, part, merge_adapters=is_merged)
        )

    def open_base(self, pinned: PinnedRecipe, folder: RunFolder) -> StartFolder | None:
        """Return what the model is rendered and shaped by; None for a program of its own, which brings both."""
        recipe = pinned.recipe
        if pinned.base is not None:
            base = self.checkout(pinned, folder)
            folder.path.mkdir(parents=True, exist_ok=True)
            _link(base.folder, folder.base)
            return base
        if recipe.scratch is None or recipe.scratch.program is not None:
            return None
        folder.path.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder.base, ignore_errors=True)
        return write_scratch(pinned, folder.base, self._parts.models, self._parts.as_case)

    def look(
        self,
        pinned: PinnedRecipe,
        base: StartFolder | None,
        *,
        folder: Path | None = None,
        tell: Tell | None = None,
    ) -> Preflight:
        """Return what the preflight finds; with `folder` the rows are written there on the way."""
        flight = Flight(
            recipe=pinned.recipe,
            renderer=None if base is None else base.renderer,
            train=pinned.train,
            as_case=self._parts.as_case,
            heldout=pinned.heldout,
            guards=pinned.guards,
            prompt=pinned.prompt,
            base=_with_vocabulary(pinned.base_facts, base),
        )
        return self._parts.fly(flight, folder=folder, tell=tell)

    def freeze(
        self,
        run_id: str,
        recipe: Recipe,
        folder: RunFolder,
        context: RunContext,
        *,
        judge: Judge | None = None,
    ) -> PreparedRun:
        """Prepare `recipe` in the run's folder and write `run.json`; raises `RunRefused` with what was found."""
        context.progress(None, "pinning data and base")
        if recipe.method == "distill" and self._parts.distil is not None:
            self._look_before_asking(recipe, folder, judge)
            replies = folder.path / "replies"
            answered = self._parts.distil(recipe, KeptSteps(context, replies), replies / ARRIVING)
            recipe = msgspec.structs.replace(
                recipe, data=msgspec.structs.replace(recipe.data, train=answered, split=None)
            )
        pinned = self.pin(recipe)
        context.check_cancelled()
        context.progress(None, "taking the base out of the registry")
        base = self.open_base(pinned, folder)
        context.check_cancelled()
        shutil.rmtree(folder.data, ignore_errors=True)
        folder.data.mkdir(parents=True)

        def tell(share: float | None, text: str) -> None:
            context.progress(share, text)
            context.check_cancelled()

        preflight = self.look(pinned, base, folder=folder.data, tell=tell)
        if judge is not None:
            preflight = with_findings(preflight, judge(pinned, base, preflight))
        if preflight.is_refused:
            raise refused(preflight)
        frozen = freeze_rows(run_id, pinned, base, preflight, folder)
        write_atomic(folder.spec, msgspec.json.format(msgspec.json.encode(frozen), indent=2))
        return PreparedRun(frozen=frozen, preflight=preflight, pinned=pinned, base=base)

    def _look_before_asking(self, recipe: Recipe, folder: RunFolder, judge: Judge | None) -> None:
        """Raise `RunRefused` for what forbids the run whatever its teacher says: replies are paid for."""
        pinned = as_if_answered(self.pin(recipe))
        base = self.open_base(pinned, folder)
        preflight = self.look(pinned, base)
        if judge is not None:
            preflight = with_findings(preflight, judge(pinned, base, preflight))
        if found := find_objections(preflight.findings):
            raise refused(msgspec.structs.replace(preflight, findings=found))


def with_findings(preflight: Preflight, more: Sequence[Finding]) -> Preflight:
    """Return the preflight with further findings, refusals first."""
    found = sorted([*preflight.findings, *more], key=lambda finding: finding.severity != "refuse")
    return msgspec.structs.replace(preflight, findings=found)


def refused(preflight: Preflight) -> RunRefused:
    """Return the error that lists what forbids a run."""
    found = [each for each in preflight.findings if each.severity == "refuse"]
    lines = [
        f"{each.code}: {each.message} {rows_text(each.rows, each.n_rows, each.source)} {each.hint}".strip()
        for each in found
    ]
    return RunRefused(
        "\n  ".join([f"The preflight refuses this run for {len(found)} reason(s):", *lines]),
        findings=msgspec.to_builtins(found),
    )


def read_frozen(folder: RunFolder) -> FrozenRun | None:
    """Return what the run was frozen to; None before that."""
    try:
        return msgspec.json.decode(folder.spec.read_bytes(), type=FrozenRun)
    except FileNotFoundError:
        return None


def digest_frozen(frozen: FrozenRun, folder: RunFolder) -> str:
    """Return the digest over everything that decides the weights, the bytes of the rows among it.

    Id, name, note, output and budget do not: a run that is given more time goes on.
    """
    values = msgspec.to_builtins(frozen)
    recipe = {
        key: value
        for key, value in values.pop("recipe").items()
        if key not in {"name", "note", "output", "budget"}
    }
    kept = {key: value for key, value in values.items() if key not in {"id", "digest"}}
    return digest_json({**kept, "recipe": recipe, "files": digest_files(folder.data)})


def digest_files(folder: Path) -> dict[str, str]:
    """Return the digest of every file below `folder` by its path there."""
    return {
        str(path.relative_to(folder)): digest_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def check_unchanged(frozen: FrozenRun, folder: RunFolder) -> None:
    """Raise `RunChanged` unless rows, specification and training program are those that the run was frozen to.

    Going on over other rows would skip some and see others twice, silently (LLaMA-Factory#7085).
    """
    check_program(frozen)
    seen = digest_frozen(frozen, folder)
    if seen != frozen.digest:
        raise RunChanged(
            f"The rows or the specification of run {frozen.id} are not those that it was begun with.",
            hint="Start a new run; its checkpoints stay where they are.",
            expected=frozen.digest,
            seen=seen,
        )


def count_run_steps(recipe: Recipe, n_rows: int, folder: RunFolder | None = None) -> int:
    """Return the steps of a run over `n_rows` sequences; with packing over what they pack to, 0 where no rows lie."""
    train = recipe.train
    if train.packing and train.max_steps is None:
        offsets = None if folder is None else folder.data / "train" / "offsets.npy"
        if offsets is None or not offsets.is_file() or recipe.data.max_length is None:
            return 0
        n_rows = len(pack_rows(np.diff(np.load(offsets)), recipe.data.max_length))
    return count_steps(
        n_rows,
        batch_size=train.batch_size,
        accumulate=train.accumulate,
        epochs=train.epochs,
        max_steps=train.max_steps,
    )


def packing_width(context_length: int, longest: int | None) -> int:
    """Return how long lines of packed rows are where the recipe does not say: what attention's mask takes grows with the
    square, so no more than a usual length, unless a row needs more.
    """
    return min(context_length, max(PACKED_LENGTH, longest or 0))


def freeze_rows(
    run_id: str, pinned: PinnedRecipe, base: StartFolder | None, preflight: Preflight, folder: RunFolder
) -> FrozenRun:
    """Return what the trainer is started with, for rows that lie in the run's folder."""
    recipe = pinned.recipe
    report = preflight.train
    if recipe.data.max_length is None and base is not None and base.context_length:
        length = base.context_length
        if recipe.train.packing:
            length = packing_width(length, report.lengths.largest if report and report.lengths else None)
        recipe = msgspec.structs.replace(recipe, data=msgspec.structs.replace(recipe.data, max_length=length))
    data = pinned.data
    has_heldout = (folder.data / "heldout").is_dir()
    frozen = FrozenRun(
        id=run_id,
        recipe=recipe,
        base=pinned.base,
        data=data,
        renderer_digest=None if base is None else base.renderer.digest,
        program=digest_program(recipe),
        model="base" if base is not None else None,
        heldout="data/heldout" if has_heldout else None,
        samples="data/samples.json" if (folder.data / "samples.json").is_file() else None,
        stop_ids=() if base is None else tuple(base.stop_ids),
        pad_id=0 if base is None else base.pad_id,
        n_train_rows=0 if report is None else report.n_sequences,
        n_train_tokens=0 if report is None else report.n_tokens,
        n_steps=0 if report is None else count_run_steps(recipe, report.n_sequences, folder),
    )
    return msgspec.structs.replace(frozen, digest=digest_frozen(frozen, folder))


def _with_vocabulary(facts: BaseFacts | None, base: StartFolder | None) -> BaseFacts | None:
    """Return the facts with the rows of the embedding table, which the checked-out configuration tells."""
    if facts is None or base is None or facts.vocab_size is not None:
        return facts
    with suppress(OSError, ValueError, KeyError, TypeError):
        config = json.loads((base.folder / "config.json").read_text(encoding="utf-8"))
        return replace(facts, vocab_size=int(config["vocab_size"]))
    return facts


def _link(target: Path, link: Path) -> None:
    """Point `link` to the shared weights by a relative path, so that a home can be moved."""
    if link.is_symlink() or link.is_file():
        link.unlink()
    elif link.is_dir():
        shutil.rmtree(link)
    link.symlink_to(Path("..") / target.relative_to(link.parent.parent))
