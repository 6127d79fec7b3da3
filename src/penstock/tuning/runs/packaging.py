"""Brings what a run has trained into the registry, with everything it was made from named by digest."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from penstock import __version__
from penstock.base.digest import digest_file
from penstock.spec.tuning import FrozenRun, RunRecord, Runtime
from penstock.tuning.convert.architectures import read_json
from penstock.tuning.errors import DigestMismatch
from penstock.tuning.model_types import ModelLineage
from penstock.tuning.recipes.checks import uses_adapter
from penstock.tuning.recipes.defaults import digest_recipe
from penstock.tuning.runs.folder import RunFolder
from penstock.tuning.runs.pinning import label_of
from penstock.tuning.runs.ports import Models

ORIGIN = "origin.json"
"""What training says of what it left in `out`."""
BESIDE_WEIGHTS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
    "config.json",
)
"""Files of a model's folder that training does not change: taken from the base where the trainer wrote none."""


def register_run(
    models: Models,
    record: RunRecord,
    frozen: FrozenRun,
    runtime: Runtime | None,
    folder: RunFolder,
    *,
    progress: Callable[[float, str], None],
) -> dict[str, Any]:
    """Register what lies in the run's `out` and return {model, digest, children, adapter}.

    Nothing is registered when a proof fails; the same run registered twice is the same version. Raises what
    `check_output` raises.
    """
    output, is_adapter = frozen.recipe.output, uses_adapter(frozen.recipe)
    check_output(folder.out)
    if not is_adapter:
        complete_folder(folder.out, folder.base)
    registered = models.register_trained(
        output.name,
        folder.base.resolve() if is_adapter else folder.out,
        base=None if frozen.base is None else label_of(frozen.base),
        lineage=describe_origin(record, frozen, runtime),
        precisions=output.precisions,
        form=output.form,
        adapter_folder=folder.out if is_adapter else None,
        alias=output.alias,
        license_id=output.license,
        description=output.description,
        note=f"run {record.id} ({record.name})",
        actor=record.actor,
        progress=progress,
    )
    return {
        "model": registered.label,
        "digest": registered.digest,
        "children": list(registered.children),
        "adapter": registered.adapter,
    }


def check_output(out: Path) -> None:
    """Hold what training left to the digests that it told. Raises `DigestMismatch` for a file that is another one by now.

    A program of one's own that tells no digests is believed.
    """
    origin = out / ORIGIN
    if not origin.is_file():
        return
    told = read_json(origin).get("files")
    for name, digest in (told if isinstance(told, dict) else {}).items():
        path = out / Path(name).name
        seen = digest_file(path) if path.is_file() else None
        if seen != digest:
            raise DigestMismatch(
                f"{path.name} in {out} is not what the run has trained.",
                hint="It was changed after training. Delete the folder `out` and resume the run: it is written again.",
                expected=digest,
                seen=seen,
            )


def complete_folder(out: Path, base: Path) -> None:
    """Copy what belongs beside the weights from the base, where training wrote none of its own."""
    for name in BESIDE_WEIGHTS:
        if not (out / name).exists() and (base / name).is_file():
            shutil.copyfile(base / name, out / name)


def describe_origin(record: RunRecord, frozen: FrozenRun, runtime: Runtime | None) -> ModelLineage:
    """Return what the new version was made from; of a program of one's own, the program's digest, and not that it read the data."""
    scratch = frozen.recipe.scratch
    program = None if scratch is None else scratch.program
    code = f"penstock {__version__}"
    if program is not None:
        code += f", program {Path(program).name} {frozen.program or 'without a digest'}"
    return ModelLineage(
        base=frozen.base,
        base_rounding="nf4" if frozen.recipe.method == "qlora" else None,
        data=frozen.data if program is None else (),
        named_data=() if program is None else frozen.data,
        method=frozen.recipe.method,
        recipe=msgspec.to_builtins(frozen.recipe),
        recipe_digest=digest_recipe(frozen.recipe),
        run=record.id,
        frozen_digest=frozen.digest,
        code=code,
        environment=None if runtime is None else {"digest": runtime.digest, "packages": runtime.packages},
        hardware=None if runtime is None else {"device": runtime.device, **runtime.hardware},
        evaluation=record.best,
    )
