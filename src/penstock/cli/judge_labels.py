"""`penstock judge next`, `label` and `labels`: what people say of outputs, by hand, from files and from feedback."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from penstock.base.errors import InvalidInput
from penstock.cli.objects import command_line_actor
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, open_home
from penstock.cli.output import print_json, print_record, print_rows, printable, time_text
from penstock.cli.saving import save_pieces
from penstock.main.control_client import ControlClient

ROOT = "/api/v1/judges"
WIDTH = 70
"""Characters of a text in a list."""
_ANSWERS = {"y": 1.0, "yes": 1.0, "1": 1.0, "n": 0.0, "no": 0.0, "0": 0.0}
NameArgument = Annotated[str, typer.Argument(help="Name of the labels, such as correct.")]
EvaluationOption = Annotated[str | None, typer.Option(help="Of this evaluation.")]
RaterOption = Annotated[str | None, typer.Option(help="Who says so.  [default: whoever types]")]


def next_to_label(
    evaluation: Annotated[str, typer.Argument(help="An evaluation.")],
    labels: Annotated[str, typer.Option("--labels", help="Name of the labels.")],
    *,
    n: Annotated[int, typer.Option(min=1, max=500, help="How many.")] = 20,
    seed: Annotated[int, typer.Option(help="Another seed, another draw.")] = 0,
    only_random: Annotated[
        bool, typer.Option("--only-random", help="Only by chance, for calibrating.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List outputs to label next: half by chance, half where judges disagree or are undecided."""
    items = _next(
        ControlClient(open_home(home, as_json=as_json)), evaluation, labels, n, seed, only_random=only_random
    )
    if as_json:
        print_json(items)
        return
    rows = [
        {
            "case": each["item"]["case"]["id"],
            "repeat": each["item"]["output"].get("repeat", 0),
            "drawn": each["drawn"],
            "why": each["why"],
            "output": _short(each["item"]["output"].get("text")),
        }
        for each in items
    ]
    print_rows(
        rows,
        ("case", "repeat", "drawn", "why", "output"),
        as_json=False,
        empty="Every output has such a label.",
    )


def label(
    name: NameArgument,
    value: Annotated[str | None, typer.Argument(help="A number, or a word such as pass or fail.")] = None,
    *,
    evaluation: EvaluationOption = None,
    case: Annotated[str | None, typer.Option(help="The evaluation's case.")] = None,
    repeat: Annotated[int, typer.Option(min=0, help="Which repeat of the case.")] = 0,
    trace: Annotated[str | None, typer.Option(help="The answer of this trace.")] = None,
    output: Annotated[str | None, typer.Option(help="This text.")] = None,
    question: Annotated[str | None, typer.Option("--input", help="What the text answers.")] = None,
    comment: Annotated[str, typer.Option(help="Why.")] = "",
    rater: RaterOption = None,
    chosen: Annotated[
        bool, typer.Option("--chosen", help="Not drawn by chance: it says nothing of rates.")
    ] = False,
    n: Annotated[int, typer.Option(min=1, max=500, help="Without a value: how many to go through.")] = 20,
    only_random: Annotated[
        bool, typer.Option("--only-random", help="Without a value: only by chance.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Say what you think of an output; without a value, go through an evaluation's outputs one by one."""
    client = ControlClient(open_home(home, as_json=as_json))
    rater = rater or command_line_actor()
    if value is None:
        if evaluation is None or not sys.stdin.isatty():
            raise InvalidInput(
                "Say what the label is: a number or a word.",
                hint="On a terminal, `penstock judge label NAME --evaluation ID` goes through outputs one by one.",
            )
        _walk(client, name, evaluation, rater, n, only_random=only_random)
        return
    draft: dict[str, Any] = {"name": name, "rater": rater, "comment": comment, **_read_value(value)}
    draft |= {
        "evaluation": evaluation,
        "case_id": case,
        "trace_id": trace,
        "output": output,
        "input": question,
    }
    draft |= {"repeat": repeat, "drawn": "chosen" if chosen else "random"}
    body = {key: each for key, each in draft.items() if each is not None}
    made = client.post(f"{ROOT}/labels", {"labels": [body]})["labels"][0]
    print_record(made, as_json=as_json)


def labels(
    name: Annotated[str | None, typer.Argument(help="Name of the labels.  [default: all names]")] = None,
    *,
    export: Annotated[Path | None, typer.Option(help="Write them to this file, .csv or .jsonl.")] = None,
    import_: Annotated[
        Path | None, typer.Option("--import", help="Take labels from this file, CSV or JSONL.")
    ] = None,
    feedback: Annotated[
        bool, typer.Option("--feedback", help="Take what people said of traces under this name.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many.")] = 50,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List labels by name, or the outputs that were labelled; write them to a file, or take them from one."""
    client = ControlClient(open_home(home, as_json=as_json))
    if import_ is not None:
        print_record(
            client.post(f"{ROOT}/labels/import", {"text": _read(import_), "name": name}), as_json=as_json
        )
        return
    if name is None:
        if feedback or export is not None:
            raise InvalidInput("Name the labels.")
        _print_sets(client.get(f"{ROOT}/labels")["sets"], as_json=as_json)
    elif feedback:
        print_record(client.post(f"{ROOT}/labels/{name}/feedback", {}), as_json=as_json)
    elif export is not None:
        form = "csv" if export.suffix == ".csv" else "jsonl"
        save_pieces(client.stream(f"{ROOT}/labels/{name}/export", form=form), export)
        print_record({"labels": name, "file": str(export)}, as_json=as_json)
    else:
        _print_items(client.get(f"{ROOT}/labels/{name}", limit=limit)["rows"], as_json=as_json)


def add_label_commands(app: typer.Typer) -> None:
    """Put these verbs into `penstock judge`."""
    app.command("next", epilog="Example: penstock judge next eval:ID --labels correct")(next_to_label)
    app.command(
        epilog="Example: penstock judge label correct pass --evaluation eval:ID --case q7 --comment 'as in the leaflet'"
    )(label)
    app.command(epilog="Example: penstock judge labels correct --export correct.csv")(labels)


def _next(
    client: ControlClient, evaluation: str, name: str, n: int, seed: int, *, only_random: bool
) -> list[dict[str, Any]]:
    found = client.get(
        f"{ROOT}/next", evaluation=evaluation, labels=name, n=n, seed=seed, only_random=only_random or None
    )
    items: list[dict[str, Any]] = found["items"]
    return items


def _walk(
    client: ControlClient, name: str, evaluation: str, rater: str, n: int, *, only_random: bool
) -> None:
    """Show one output after the other and keep what is answered."""
    n_kept = 0
    items = _next(client, evaluation, name, n, 0, only_random=only_random)
    for number, each in enumerate(items, 1):
        case, output = each["item"]["case"], each["item"]["output"]
        asked = case.get("inputs") or case.get("messages")
        print(f"\n{number} of {len(items)} · {case['id']} · {each['why']}")
        print(f"asked:    {printable(json.dumps(asked, ensure_ascii=False))}")
        if case.get("expected") is not None:
            print(f"expected: {printable(json.dumps(case['expected'], ensure_ascii=False))}")
        print(f"answered: {printable(str(output.get('text') or output.get('data') or ''))}")
        answer = typer.prompt(f"{name}? y, n, a number or word, s to skip, q to end", default="s").strip()
        if answer == "q":
            break
        if answer == "s":
            continue
        draft = {"name": name, "rater": rater, "drawn": each["drawn"], "evaluation": evaluation}
        draft |= {"case_id": case["id"], "repeat": output.get("repeat", 0), **_read_value(answer)}
        client.post(f"{ROOT}/labels", {"labels": [draft]})
        n_kept += 1
    print(f"\n{n_kept} labels kept.")


def _read_value(text: str) -> dict[str, Any]:
    if text.lower() in _ANSWERS:
        return {"value": _ANSWERS[text.lower()]}
    try:
        return {"value": float(text)}
    except ValueError:
        return {"label": text}


def _print_sets(sets: list[dict[str, Any]], *, as_json: bool) -> None:
    rows = [
        {
            "labels": each["name"],
            "outputs": each["n_items"],
            "raters": each["n_raters"],
            "by chance": each["n_random"],
            "values": ", ".join(f"{value}: {count}" for value, count in each["values"].items()),
            "updated": time_text(each["updated_ns"]),
        }
        for each in sets
    ]
    columns = ("labels", "outputs", "raters", "by chance", "values", "updated")
    if as_json:
        print_json(sets)
    else:
        print_rows(
            rows,
            columns,
            as_json=False,
            empty="No labels yet: penstock judge label NAME VALUE --evaluation ID --case CASE",
        )


def _print_items(items: list[dict[str, Any]], *, as_json: bool) -> None:
    rows = [
        {
            "item": each["id"],
            "case": each["case"]["id"],
            "labels": ", ".join(
                f"{one['rater']}: {one.get('label') or one.get('value')}" for one in each["labels"]
            ),
            "output": _short(each["output"].get("text")),
        }
        for each in items
    ]
    if as_json:
        print_json(items)
    else:
        print_rows(
            rows,
            ("item", "case", "labels", "output"),
            as_json=False,
            empty="Nobody labelled under this name.",
        )


def _short(text: str | None) -> str:
    line = printable(text or "")
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…"


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read.", hint="Is it a text file?") from error
