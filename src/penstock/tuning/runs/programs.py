"""Training programs of one's own (`[scratch] program`): which files one is, so that a run goes on with the very same one."""

import hashlib
from pathlib import Path

from penstock.base.digest import digest_file
from penstock.spec.tuning import FrozenRun, Recipe
from penstock.tuning.runs.errors import ProgramChanged

_MADE_BY_RUNNING = frozenset({"__pycache__", ".git", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache"})


def digest_program(recipe: Recipe) -> str | None:
    """Return one digest over names and bytes of the program's files; None for a recipe without one.

    What running it leaves there does not count. Raises `ProgramChanged` where the folder is gone.
    """
    if recipe.scratch is None or recipe.scratch.program is None:
        return None
    folder = Path(recipe.scratch.program)
    if not (folder / "__main__.py").is_file():
        raise ProgramChanged(
            f"The training program {folder} has no __main__.py.",
            hint="Put it back where the recipe names it.",
        )
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_file() and not _MADE_BY_RUNNING.intersection(inside.parts):
            total.update(f"{inside.as_posix()}\0{digest_file(path)}\n".encode())
    return f"sha256:{total.hexdigest()}"


def check_program(frozen: FrozenRun) -> None:
    """Raise `ProgramChanged` unless the program is the one that the run was begun with.

    Runs that were frozen before programs had digests are let through.
    """
    if frozen.program is None:
        return
    seen = digest_program(frozen.recipe)
    if seen != frozen.program:
        assert frozen.recipe.scratch is not None
        raise ProgramChanged(
            f"The training program {frozen.recipe.scratch.program} is not the one that run {frozen.id} was begun with.",
            hint="Put its files back, or start a new run; the checkpoints stay where they are.",
            expected=frozen.program,
            seen=seen,
        )
