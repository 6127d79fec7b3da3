"""`penstock tune distill`: a dataset of a teacher's replies. `register(app)` adds the verb to the noun."""

from typing import Annotated, Any

import msgspec
import typer

from penstock.base.errors import InvalidInput
from penstock.base.late import late_imports
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, open_home
from penstock.cli.output import print_json
from penstock.cli.progress import ProgressLine
from penstock.main.control_client import ControlClient
from penstock.spec.tuning import DistillPart

with late_imports():
    from penstock.main import job_wait
    from penstock.main import rooms as control_rooms
    from penstock.tuning.compress import requests as compress_requests


def register(app: typer.Typer) -> None:
    """Add the verb to `penstock tune`."""
    app.command(
        epilog="Example: penstock tune distill dataset:questions --teacher gpt-4o-mini --as replies --max-cost-usd 2"
    )(distill)


def distill(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="Whose prompts are asked, dataset:NAME.")],
    *,
    teacher: Annotated[str, typer.Option(help="Any model name that the gateway answers.")],
    name: Annotated[str, typer.Option("--as", help="Name of the dataset that is made.")],
    split: Annotated[str | None, typer.Option(help="Ask only the rows of this split.")] = None,
    prompt: Annotated[str | None, typer.Option(help="prompt:NAME that rows are asked with.")] = None,
    system: Annotated[str | None, typer.Option(help="System message of rows that have none.")] = None,
    temperature: Annotated[float, typer.Option(min=0.0, max=2.0, help="Of the teacher.")] = 0.0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of a reply; what is cut off is left out.")] = 256,
    n: Annotated[int, typer.Option("--n", min=1, max=64, help="Replies to each prompt.")] = 1,
    limit: Annotated[int | None, typer.Option(min=1, help="Ask at most so many rows.")] = None,
    seed: Annotated[int, typer.Option(help="Of the teacher's sampling.")] = 0,
    max_cost_usd: Annotated[
        float | None, typer.Option("--max-cost-usd", min=0.0, help="Stop before more is spent.")
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(
            "--license",
            help="Under which the replies stand; else that of prompts and teacher, where both are known.",
        ),
    ] = None,
    wait: Annotated[bool, typer.Option(help="Wait for the job to end.")] = True,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Ask a teacher for the replies that a student is trained on, and keep them as a dataset that says who wrote them.

    Needs a running Penstock: the teacher is asked through the gateway, so its calls are priced, limited and recorded.
    """
    opened = open_home(home, as_json=as_json)
    part = DistillPart(teacher=teacher, temperature=temperature, max_tokens=max_tokens, n_per_prompt=n)
    request = compress_requests.DistillRequest(
        dataset=dataset if dataset.startswith("dataset:") else f"dataset:{dataset}",
        name=name.removeprefix("dataset:"),
        part=part,
        split=split,
        template=prompt,
        system=system,
        max_rows=limit,
        seed=seed,
        max_cost_usd=max_cost_usd,
        license=licence,
    )
    if name.startswith("dataset:") and "@" in name:
        raise InvalidInput("--as names a dataset, not a version of one.")
    queued = ControlClient(opened).post(
        "/api/v1/tuning/distillations", {"request": msgspec.to_builtins(request)}
    )
    result: dict[str, Any] = queued
    if wait:
        with ProgressLine(f"distill {teacher}", quiet=as_json) as line:
            result = (
                job_wait.wait_for_job(control_rooms.Rooms(opened).jobs, queued["job"], line.tell).result or {}
            )
    if as_json:
        print_json(result)
    elif not wait:
        print(f"job {queued['job']}")
    else:
        left_out = ", ".join(f"{count} {why}" for why, count in result["left_out"].items()) or "none"
        cost = "unknown" if result["cost_usd"] is None else f"{result['cost_usd']} USD"
        print(f"{result['dataset']}: {result['n_kept']} replies; left out: {left_out}; cost {cost}")
