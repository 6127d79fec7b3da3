"""`penstock traces score`: judges a trace, a span of it, or a session, by hand or from a script."""

from typing import Annotated

import typer

from penstock.base.errors import InvalidInput
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, open_home
from penstock.cli.output import print_record
from penstock.main.control_client import ControlClient


def score(
    *,
    trace_id: Annotated[str | None, typer.Argument(metavar="TRACE", help="The trace's id.")] = None,
    name: Annotated[str, typer.Option(help="What is judged, such as helpful.")],
    value: Annotated[float | None, typer.Option(help="A number.")] = None,
    label: Annotated[str | None, typer.Option(help="A word, such as wrong.")] = None,
    comment: Annotated[str | None, typer.Option(help="Why.")] = None,
    span: Annotated[str | None, typer.Option(help="Judge this span of the trace.")] = None,
    session: Annotated[str | None, typer.Option(help="Judge this session instead of a trace.")] = None,
    scorer: Annotated[
        str | None, typer.Option(help="Who judges; a later word of theirs replaces this.")
    ] = None,
    identifier: Annotated[str | None, typer.Option(help="Tells several judgements apart.")] = None,
    source: Annotated[str, typer.Option(help="human, model or code.")] = "human",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Judge a trace, a span of it, or a session."""
    opened = open_home(home, as_json=as_json)
    if source not in {"human", "model", "code"}:
        raise InvalidInput(f"{source!r} is no source.", hint="Use human, model or code.")
    if (trace_id is None) == (session is None):
        raise InvalidInput("Say what is judged.", hint="Name a trace, or a session with --session.")
    given = {
        "name": name,
        "value": value,
        "label": label,
        "comment": comment,
        "source": source,
        "scorer": scorer,
        "identifier": identifier,
        "trace_id": trace_id,
        "span_id": span,
        "session_id": session,
    }
    body = {part: item for part, item in given.items() if item is not None}
    stored = ControlClient(opened).post("/api/v1/scores", body)["scores"][0]
    print_record({"score": name, **stored}, as_json=as_json)
