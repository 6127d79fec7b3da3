"""`penstock judge`: list, show, create, try, calibrate, compare, pairs, next, label, labels."""

import json
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from penstock.base.errors import InvalidInput
from penstock.cli.judge_labels import add_label_commands
from penstock.cli.judge_rows import (
    CALIBRATION_COLUMNS,
    calibration_row,
    print_benchmark,
    print_calibration,
    print_pairs,
)
from penstock.cli.objects import merge, read_setting
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app, open_home
from penstock.cli.output import print_json, print_record, print_rows
from penstock.main.control_client import ControlClient

app = noun_app(
    "Models that judge, held against people: list, show, create, try, calibrate, compare, pairs, next, label, labels."
)
ROOT = "/api/v1/judges"
ASKING_S = 3600.0
"""Calibrating asks a model hundreds of times; verdicts are kept as they come."""
JudgeArgument = Annotated[
    str, typer.Argument(metavar="JUDGE", help="A kind, scorer:NAME@3, a TOML or JSON file, or JSON.")
]
ModelOption = Annotated[str | None, typer.Option(help="Who judges: a route or anything else in `model`.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="A parameter as KEY=VALUE, such as items=['Is it polite?']; may be repeated."),
]
LabelsOption = Annotated[str, typer.Option("--labels", help="Name of the labels, such as correct.")]
ThresholdOption = Annotated[
    float | None, typer.Option(help="From which value on the judge says yes.  [default: the middle]")
]
MinLabelsOption = Annotated[int, typer.Option(help="Labelled outputs that it takes, 20 at least.")]

add_label_commands(app)


@app.command("list", epilog="Example: penstock judge list")
def list_judges(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List the kinds of judges and those kept under a name."""
    found = ControlClient(open_home(home, as_json=as_json)).get(ROOT)["judges"]
    if as_json:
        print_json(found)
        return
    rows = [
        {
            "judge": each["name"],
            "group": each.get("group", ""),
            "needs": ", ".join(each.get("required", [])),
            "calibrated on": ", ".join(one["name"] for one in each.get("calibrations", [])),
            "summary": each["summary"],
        }
        for each in found
    ]
    print_rows(rows, ("judge", "group", "needs", "calibrated on", "summary"), as_json=False)


@app.command(epilog="Example: penstock judge show groundedness")
def show(
    name: Annotated[str, typer.Argument(help="A kind, scorer:NAME@3, or a calibration's id.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show one kind of judge with its parameters, one kept judge, or one calibration."""
    client = ControlClient(open_home(home, as_json=as_json))
    if name.startswith("cal_"):
        print_calibration(client.get(f"{ROOT}/calibrations/{name}"), as_json=as_json)
        return
    found = client.get(f"{ROOT}/show", name=name)
    if as_json:
        print_json(found)
        return
    print_record({key: value for key, value in found.items() if key != "calibrations"}, as_json=False)
    for each in found.get("calibrations", []):
        print()
        print_calibration(each, as_json=False)


@app.command(
    epilog="Example: penstock judge create tone --judge g_eval --model small --set criteria='Is it polite?'"
)
def create(
    name: Annotated[str, typer.Argument(help="Its name; it becomes scorer:NAME@1, @2 …")],
    *,
    judge: Annotated[str, typer.Option(help="A kind, a TOML or JSON file, or JSON.")],
    model: ModelOption = None,
    sets: SetOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Keep a judge under a name, as a version. G-Eval without steps has its model write them, once."""
    opened = open_home(home, as_json=as_json)
    body = {"name": name, "judge": read_judge(judge, model, sets)}
    kept = ControlClient(opened).post(ROOT, body, timeout_s=ASKING_S)
    print_record(
        {"judge": kept["name"], "stamp": kept["stamp"], "parameters": kept["parameters"]}, as_json=as_json
    )


@app.command(
    "try",
    epilog="Example: penstock judge try groundedness --model small --input Q --output A --passage 'from it'",
)
def try_judge(
    judge: JudgeArgument,
    *,
    model: ModelOption = None,
    sets: SetOption = None,
    output: Annotated[list[str], typer.Option("--output", help="The answer; - for standard input.")],
    question: Annotated[str | None, typer.Option("--input", help="What it answers.")] = None,
    expected: Annotated[str | None, typer.Option(help="A good answer.")] = None,
    passage: Annotated[
        list[str] | None, typer.Option("--passage", help="What it rests on; may be repeated.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Judge one answer, or several of the same question; nothing is kept."""
    opened = open_home(home, as_json=as_json)
    passages = [{"text": text} for text in passage or ()]
    case: dict[str, Any] = {"id": "try", "inputs": {} if question is None else {"input": question}}
    if expected is not None:
        case["expected"] = expected
    texts = [sys.stdin.read() if text == "-" else text for text in output]
    outputs = [{"text": text, "repeat": number, "passages": passages} for number, text in enumerate(texts)]
    body = {"judge": read_judge(judge, model, sets), "case": case, "outputs": outputs}
    scores = ControlClient(opened).post(f"{ROOT}/try", body, timeout_s=ASKING_S)["scores"]
    if as_json:
        print_json(scores)
        return
    for score in scores:
        shown = ("name", "status", "value", "label", "reason", "scorer", "cost_usd", "trace_id", "evidence")
        print_record({key: score[key] for key in shown if score.get(key) is not None}, as_json=False)


@app.command(epilog="Example: penstock judge calibrate scorer:tone --labels polite")
def calibrate(
    judge: JudgeArgument,
    *,
    labels: LabelsOption,
    model: ModelOption = None,
    sets: SetOption = None,
    threshold: ThresholdOption = None,
    min_labels: MinLabelsOption = 100,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Hold a judge against people's labels: agreement, both kinds of errors, biases, each with its interval."""
    opened = open_home(home, as_json=as_json)
    body = {
        "judge": read_judge(judge, model, sets),
        "labels": labels,
        "threshold": threshold,
        "min_labels": min_labels,
    }
    found = ControlClient(opened).post(f"{ROOT}/calibrations", body, timeout_s=ASKING_S)
    print_calibration(found, as_json=as_json)


@app.command(epilog="Example: penstock judge calibrations --labels polite")
def calibrations(
    labels: Annotated[str | None, typer.Option("--labels", help="Only of these labels.")] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List calibrations, the latest first."""
    found = ControlClient(open_home(home, as_json=as_json)).get(f"{ROOT}/calibrations", labels=labels)
    rows = found["calibrations"]
    if as_json:
        print_json(rows)
    else:
        print_rows(
            map(calibration_row, rows),
            CALIBRATION_COLUMNS,
            as_json=False,
            empty="No judge was calibrated yet: penstock judge calibrate JUDGE --labels NAME",
        )


@app.command(epilog="Example: penstock judge compare scorer:tone scorer:tone-short --labels polite")
def compare(
    judges: Annotated[
        list[str], typer.Argument(metavar="JUDGE JUDGE …", help="Kinds, scorer:NAME@3, files, or JSON.")
    ],
    *,
    labels: LabelsOption,
    model: Annotated[
        list[str] | None, typer.Option("--model", help="Each judge with each model; may be repeated.")
    ] = None,
    threshold: ThresholdOption = None,
    min_labels: MinLabelsOption = 100,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Hold several judges, models and templates together, against the same labels, and say which one to take."""
    opened = open_home(home, as_json=as_json)
    models: list[str | None] = [*model] if model else [None]
    specs = [read_judge(judge, name, None) for judge in judges for name in models]
    body = {"judges": specs, "labels": labels, "threshold": threshold, "min_labels": min_labels}
    found = ControlClient(opened).post(f"{ROOT}/compare", body, timeout_s=ASKING_S)
    print_benchmark(found, as_json=as_json)


@app.command(epilog="Example: penstock judge pairs eval:BASE eval:NEW --model strong")
def pairs(
    baseline: Annotated[str, typer.Argument(help="An evaluation.")],
    candidate: Annotated[str, typer.Argument(help="Another one over the same cases.")],
    *,
    judge: Annotated[
        str, typer.Option(help="A pairwise judge: the kind, scorer:NAME, a file, or JSON.")
    ] = "pairwise",
    model: ModelOption = None,
    sets: SetOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many pairs.")] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Judge the answers of two evaluations side by side, each pair in both orders; a flip is a tie."""
    opened = open_home(home, as_json=as_json)
    body = {
        "baseline": baseline,
        "candidate": candidate,
        "judge": read_judge(judge, model, sets),
        "limit": limit,
    }
    print_pairs(ControlClient(opened).post(f"{ROOT}/pairs", body, timeout_s=ASKING_S), as_json=as_json)


def read_judge(text: str, model: str | None, sets: list[str] | None) -> dict[str, Any]:
    """Return the judge that an argument and options name; options win."""
    spec: dict[str, Any]
    if text.lstrip().startswith("{"):
        spec = _parse(text, "the judge")
    elif text.endswith((".toml", ".json")):
        try:
            spec = _parse(Path(text).read_text("utf-8"), text)
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"{text} cannot be read.", hint="Is it a text file?") from error
    else:
        spec = {"scorer": text}
    parameters = dict(spec.get("parameters") or {})
    for each in sets or ():
        merge(parameters, read_setting(each))
    if model is not None:
        parameters["model"] = model
    return {**spec, "parameters": parameters}


def _parse(text: str, what: str) -> dict[str, Any]:
    try:
        found = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except (ValueError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"{what} is neither JSON nor TOML: {error}.") from error
    return dict(found)
