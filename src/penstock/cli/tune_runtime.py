"""`penstock tune`: install, doctor: the environment that training runs in. `register(app)` adds the verbs."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from penstock.base.errors import PenstockError
from penstock.base.late import late_imports
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, open_home
from penstock.cli.output import print_json, print_record, print_rows
from penstock.cli.progress import ProgressLine
from penstock.tuning.runtimes import (
    differing_pins,
    find_runtime,
    install_runtime,
    probe_runtime,
    read_pins,
    runtime_folder,
)

with late_imports():
    from penstock.main import tune_access
    from penstock.tuning.runs import shared_bases


def register(app: typer.Typer) -> None:
    """Add the verbs to `penstock tune`."""
    app.command(epilog="Example: penstock tune install")(install)
    app.command(epilog="Example: penstock tune doctor")(doctor)


def install(
    *,
    gpu: Annotated[bool, typer.Option("--gpu", help="Also what qlora needs on a GPU.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Make it anew even if it is there.")] = False,
    pip: Annotated[
        str, typer.Option(help="Options for pip, such as '--index-url URL' of a mirror or of smaller builds.")
    ] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Make the environment that training runs in, apart from Penstock's own; quick when it is there.

    It is shared by all homes of this user.
    """
    open_home(home, as_json=as_json)
    with ProgressLine("install", quiet=as_json) as line:
        place = install_runtime(line.tell, gpu=gpu, again=again, pip_options=shlex.split(pip))
        line.tell(None, "looking at it")
        runtime = probe_runtime(place)
    told = {"python": str(place.python), "device": runtime.device, "digest": runtime.digest}
    print_record(told, as_json=as_json)


def doctor(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Say which environment training would run in, what it holds, and whether it works."""
    with tune_access.TuneAccess(open_home(home, as_json=as_json)) as access:
        setting = access.settings.python
        bases = access.runs.shared_bases()
    told: dict[str, Any] = {
        "is_well": False,
        "default_place": str(runtime_folder()),
        "bases": _tell_bases(bases),
    }
    try:
        place = find_runtime(setting, os.environ)
        told |= {"python": str(place.python), "named_by": place.origin}
        runtime = probe_runtime(place)
    except PenstockError as error:
        if as_json:
            print_json({**told, "error": error.as_dict()})
        else:
            print_record(told, as_json=False)
            print(f"not well: {error}")
        raise typer.Exit(error.exit_code) from error
    differing = differing_pins(runtime)
    told |= {
        "is_well": True,
        "device": runtime.device,
        "digest": runtime.digest,
        "hardware": runtime.hardware,
    }
    if as_json:
        print_json({**told, "packages": runtime.packages, "differing": differing})
        return
    print_record(told, as_json=False)
    names = {name.lower().replace("_", "-"): version for name, version in runtime.packages.items()}
    rows = [
        {
            "package": name,
            "pinned": pinned,
            "there": names.get(name),
            "": "differs" if name in differing else "",
        }
        for name, pinned in read_pins().items()
    ]
    print()
    print_rows(rows, ("package", "pinned", "there", ""), as_json=False)


def _tell_bases(bases: Sequence[shared_bases.SharedBase]) -> str:
    """Return what the bases of runs take, and how much of it no run needs any more."""
    if not bases:
        return "none checked out"
    unneeded = [each for each in bases if not each.n_runs]
    told = f"{len(bases)} checked out, {_mb(bases)}"
    return told + (f"; {len(unneeded)} that no run needs, {_mb(unneeded)}" if unneeded else "")


def _mb(bases: Sequence[shared_bases.SharedBase]) -> str:
    return f"{sum(each.size_bytes for each in bases) / 1e6:,.0f} MB"
