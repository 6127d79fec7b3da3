"""`penstock tune`: init, plan, run, resume, stop, delete. Looking at runs and the training environment are modules of their own."""

from pathlib import Path
from typing import Annotated

import typer

from penstock.base.errors import InvalidInput
from penstock.base.late import late_imports
from penstock.cli import tune_demo, tune_distill, tune_looking, tune_runtime
from penstock.cli.objects import command_line_actor
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app, open_home
from penstock.cli.output import print_json
from penstock.cli.progress import ProgressLine
from penstock.cli.tune_rows import print_plan, print_run
from penstock.spec.tuning import FINAL_RUN_STATES, BudgetPart, TuneMethod
from penstock.tuning.recipes.reading import read_recipe_text
from penstock.tuning.recipes.template import write_recipe

with late_imports():
    from penstock.main import tune_access

app = noun_app(
    "Tuning: init, plan, run, list, show, status, logs, samples, curves, compare, stop, resume, delete, install, doctor, distill, demo."
)
RecipeArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="Recipe, TOML: penstock tune init writes one.")
]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Id of a run, or the name of the newest.")]
WaitOption = Annotated[bool, typer.Option(help="Wait for the run to end.")]
tune_looking.register(app)
tune_runtime.register(app)
tune_demo.register(app)
tune_distill.register(app)


@app.command(
    epilog="Example: penstock tune init triage.toml --method lora --data dataset:triage --base model:pocket"
)
def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where it is written.")],
    *,
    method: Annotated[TuneMethod, typer.Option(help="How the weights are trained.")] = "lora",
    data: Annotated[str, typer.Option(help="What it is trained on.")] = "dataset:NAME",
    base: Annotated[str, typer.Option(help="What training begins from.")] = "model:pocket",
    output: Annotated[str, typer.Option(help="Name of the model that is made.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Write a commented recipe."""
    open_home(home, as_json=as_json)
    if file.exists() and not force:
        raise InvalidInput(f"{file} is there already.", hint="Name another file, or pass --force.")
    text = write_recipe(method, name=file.stem, data=data, base=base, output=output)
    read_recipe_text(text, name=str(file))
    file.write_text(text, encoding="utf-8")
    print_json({"file": str(file)}) if as_json else print(f"{file} written: penstock tune plan {file}")


@app.command(epilog="Example: penstock tune plan triage.toml")
def plan(
    file: RecipeArgument,
    *,
    measure: Annotated[bool, typer.Option(help="Run a few steps to measure the pace.")] = True,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Say what a run will take and what forbids it: rows, steps, memory, disk, time, money.

    The exit code is 3 when something forbids it.
    """
    opened = open_home(home, as_json=as_json)
    recipe = tune_access.read_recipe_file(file)
    with tune_access.TuneAccess(opened) as access, ProgressLine(f"plan {recipe.name}", quiet=as_json) as line:
        found = access.runs.plan(recipe, measure=measure, tell=line.tell)
    print_plan(found, as_json=as_json)
    if found.is_refused:
        raise typer.Exit(3)


@app.command(epilog="Example: penstock tune run triage.toml")
def run(
    file: RecipeArgument,
    *,
    wait: WaitOption = True,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Prepare, train and register what a recipe says.

    While Penstock runs this is a job of its worker, which survives this command; else it happens right here, and
    Ctrl-C stops it with a checkpoint: `penstock tune resume` goes on.
    """
    opened = open_home(home, as_json=as_json)
    recipe = tune_access.read_recipe_file(file)
    with tune_access.TuneAccess(opened) as access, ProgressLine(f"tune {recipe.name}", quiet=as_json) as line:
        record = access.start(recipe, actor=command_line_actor(), tell=line.tell, wait=wait)
    print_run(record, as_json=as_json)


@app.command(epilog="Example: penstock tune resume triage --max-minutes 90")
def resume(
    run: RunArgument,
    *,
    max_minutes: Annotated[float | None, typer.Option(help="Raise budget.max_minutes to this.")] = None,
    max_cost_usd: Annotated[float | None, typer.Option(help="Raise budget.max_cost_usd to this.")] = None,
    max_memory_gb: Annotated[float | None, typer.Option(help="Raise budget.max_memory_gb to this.")] = None,
    max_disk_gb: Annotated[float | None, typer.Option(help="Raise budget.max_disk_gb to this.")] = None,
    wait: WaitOption = True,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Go on with a run that was stopped or has failed, from its last checkpoint; refused when its data has changed.

    A run that ended because its minutes were used up goes on when it is given more of them.
    """
    more = BudgetPart(
        max_minutes=max_minutes,
        max_cost_usd=max_cost_usd,
        max_memory_gb=max_memory_gb,
        max_disk_gb=max_disk_gb,
    )
    opened = open_home(home, as_json=as_json)
    with tune_access.TuneAccess(opened) as access, ProgressLine(f"tune {run}", quiet=as_json) as line:
        if not as_json:
            print(f"{run} goes on {access.runs.where_it_goes_on(run)}", flush=True)
        record = access.resume(run, tell=line.tell, budget=more, wait=wait)
    print_run(record, as_json=as_json)


@app.command(epilog="Example: penstock tune stop triage")
def stop(run: RunArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """End a run; its trainer writes a checkpoint first."""
    with tune_access.TuneAccess(open_home(home, as_json=as_json)) as access:
        record = access.runs.stop(run)
    if as_json:
        print_json(record)
    elif record.state in FINAL_RUN_STATES:
        print(f"{record.name} is stopped; penstock tune resume {record.id} goes on with it")
    else:
        print(
            f"{record.name} was asked to stop at step {record.step}: it writes a checkpoint first. "
            f"penstock tune status {record.id} says when it has, penstock tune resume {record.id} goes on with it"
        )


@app.command(epilog="Example: penstock tune delete triage --yes")
def delete(
    run: RunArgument,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Forget a run and remove its checkpoints, events and logs; the model that it registered stays."""
    with tune_access.TuneAccess(open_home(home, as_json=as_json)) as access:
        record = access.runs.get(run)
        if not yes:
            typer.confirm(
                f"Remove run {record.id} ({record.name}) with its checkpoints?", abort=True, err=True
            )
        access.runs.delete(record.id)
    print_json({"deleted": record.id}) if as_json else print(f"{record.id} removed")
