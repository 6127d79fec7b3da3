"""`penstock eval import`: evaluations of other tools as files of yours, with a report of what is not the same afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from penstock.base.late import late_imports
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app, open_home
from penstock.cli.output import print_json, print_record
from penstock.datasets.types import ReadOptions
from penstock.evals.importers.types import ImportOptions
from penstock.main.control_client import ControlClient
from penstock.prompts.files import read_prompt
from penstock.spec.home import Home

with late_imports():
    from penstock.main import dataset_access, eval_importing

app = noun_app("Evaluations of other tools as files of yours: openai, promptfoo, multiple-choice.")
PathArgument = Annotated[Path, typer.Argument(help="The file or folder.")]
OutOption = Annotated[Path, typer.Option(help="Folder for rows, prompts, evaluations, gates and REPORT.md.")]
ModelOption = Annotated[
    str | None, typer.Option(help="The route that answers, in place of what the files name.")
]
JudgeOption = Annotated[str | None, typer.Option(help="The route that judges.")]
ApplyOption = Annotated[
    bool, typer.Option("--apply", help="Also make the datasets and prompts in the Penstock that runs.")
]
ReplaceOption = Annotated[bool, typer.Option("--replace", help="Write over files that are there.")]


@app.command(epilog="Example: penstock eval import openai ./evals/registry --out imported --judge gpt-4o")
def openai(
    path: PathArgument,
    *,
    out: OutOption,
    model: ModelOption = None,
    judge: JudgeOption = None,
    apply: ApplyOption = False,
    replace: ReplaceOption = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Read a registry folder of OpenAI Evals, or hosted evals that were exported as JSON."""
    _run("openai", path, out, ImportOptions(model=model, judge=judge), apply, replace, home, as_json)


@app.command(epilog="Example: penstock eval import promptfoo promptfooconfig.yaml --out imported --apply")
def promptfoo(
    path: PathArgument,
    *,
    out: OutOption,
    model: ModelOption = None,
    judge: JudgeOption = None,
    apply: ApplyOption = False,
    replace: ReplaceOption = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Read a configuration of promptfoo. JavaScript and Python in it are reported, never run."""
    _run("promptfoo", path, out, ImportOptions(model=model, judge=judge), apply, replace, home, as_json)


@app.command(
    "multiple-choice",
    epilog="Example: penstock eval import multiple-choice ./mmlu --out imported --model pocket --shots 5",
)
def multiple_choice(
    path: PathArgument,
    *,
    out: OutOption,
    model: ModelOption = None,
    shots: Annotated[int, typer.Option(min=0, max=50, help="Examples before each question.")] = 5,
    apply: ApplyOption = False,
    replace: ReplaceOption = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Read multiple-choice questions as MMLU ships them: a CSV or JSONL file a subject, `_dev` files as examples."""
    options = ImportOptions(model=model, shots=shots)
    _run("multiple-choice", path, out, options, apply, replace, home, as_json)


def _run(  # noqa: PLR0917 - the three commands' own arguments, in their order
    form: eval_importing.ImportFormat,
    path: Path,
    out: Path,
    options: ImportOptions,
    apply: bool,
    replace: bool,
    home: Path,
    as_json: bool,
) -> None:
    opened = open_home(home, as_json=as_json)
    imported = eval_importing.read_foreign(form, path, options)
    written = eval_importing.write_import(
        imported, out, replace=replace, apply=_applier(opened) if apply else None
    )
    if as_json:
        print_json({"written": written, "notes": imported.notes})
        return
    print_record(
        {
            "cases": sum(written.datasets.values()),
            "datasets": sorted(written.datasets),
            "prompts": written.prompts,
            "evaluations": written.evaluations,
            "gates": written.gates,
            "made": written.applied,
            **{kind: f"{n} (see the report)" for kind, n in written.notes.items()},
            "report": written.report,
        },
        as_json=False,
    )


def _quiet(*_args: object) -> None:
    """Tell nobody how far a file has been sent."""


def _applier(home: Home) -> Callable[[str, str, Path], str]:
    datasets, client = dataset_access.DatasetAccess(home), ControlClient(home)

    def apply(kind: str, name: str, file: Path) -> str:
        if kind == "dataset":
            made = datasets.create(
                name, str(file), ReadOptions(format="cases"), append=False, note="imported", tell=_quiet
            )
            return made.ref
        content = msgspec.to_builtins(read_prompt(file.read_text(encoding="utf-8"), where=file.name))
        told = client.post(f"/api/v1/prompts/{name}/versions", {"content": content, "note": "imported"})
        return f"prompt:{name}@{told['number']}" if "number" in told else f"prompt:{name}"

    return apply
