"""`penstock scorer`: what judges outputs, what its numbers mean, and one tried on a text; versions under a name of your own."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import typer

from penstock.base.errors import InvalidInput
from penstock.base.late import late_imports
from penstock.cli.objects import SetOption, read_content
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app, open_home
from penstock.cli.output import print_json, print_lines, print_record, print_rows, printable
from penstock.spec.cases import Case, Output, Passage
from penstock.spec.evaluations import ScorerSpec

with late_imports():
    from penstock.evals import catalogue as eval_catalogue
    from penstock.evals.judges import catalogue as judge_catalogue
    from penstock.evals.scorers import catalogue as scorer_catalogue
    from penstock.evals.scorers import composites, describe
    from penstock.evals.scorers import types as scorer_types
    from penstock.main import eval_ports
    from penstock.main import rooms as control_rooms

T = TypeVar("T", bound=msgspec.Struct)
app = noun_app("What judges outputs: list, show, try, create.")
Scorers = Annotated[
    str,
    typer.Argument(
        metavar="SCORER", help="A name of `penstock scorer list`, scorer:NAME@ALIAS, or FILE.py:FUNCTION."
    ),
]


@app.command("list", epilog="Example: penstock scorer list --group text")
def list_scorers(
    group: Annotated[str | None, typer.Option(help="text, classes, structure, retrieval …")] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List the built-in scorers, and those kept in this home."""
    opened = open_home(home, as_json=as_json)
    rows = [
        {"scorer": info.name, "group": _group(info), **_facts(info)}
        for info in eval_catalogue.Catalogue().list()
        if group is None or _group(info) == group
    ]
    if group in {None, "kept"} and opened.root.exists():
        registry = control_rooms.Rooms(opened).registry
        for asset in registry.list_assets("scorer"):
            kept = registry.resolve(f"scorer:{asset.name}@latest").content
            rows.append({"scorer": f"scorer:{asset.name}", "group": "kept", "summary": f"{kept['scorer']}"})
    if not rows:
        groups = sorted({_group(info) for info in eval_catalogue.Catalogue().list()} | {"kept"})
        raise InvalidInput(f"There is no group {group!r} of scorers.", hint=f"There are {', '.join(groups)}.")
    if as_json:
        print_json(rows)
        return
    print_lines(
        rows, ("scorer", "group", "range", "better", "summary"), shorten="summary", give_up=("group",)
    )


@app.command(epilog="Example: penstock scorer show token_f1")
def show(name: Scorers, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show what a scorer's numbers mean, when there are none, and its parameters."""
    opened = open_home(home, as_json=as_json)
    if name.startswith(eval_catalogue.REGISTERED):
        version = control_rooms.Rooms(opened).registry.resolve(name)
        print_record(
            {"version": version.label, "digest": version.digest, "note": version.note, **version.content},
            as_json=as_json,
        )
        return
    scorers = {
        info.name: info
        for info in (*eval_catalogue.Catalogue().list(), composites.COMPOSITE, composites.CHECKS)
    }
    info = scorers.get(name) or _make(ScorerSpec(scorer=name), opened.root).info
    parameters = _parameters(name)
    record = {
        "scorer": info.name,
        "version": info.version,
        "stamp": info.stamp,
        **_facts(info),
        "undefined when": info.undefined_when or "never",
        "needs": sorted(info.needs),
    }
    if as_json:
        told = [{"name": each.name, "type": each.type, "default": each.default, "explanation": each.explanation} for each in parameters]  # fmt: skip
        print_json({**record, "parameters": told})
        return
    print_record(record, as_json=False)
    print()
    print_rows(
        [
            {
                "parameter": each.name,
                "type": each.type,
                "default": json.dumps(each.default, ensure_ascii=False),
                "meaning": each.explanation,
            }
            for each in (*parameters, *_turns())
        ],
        ("parameter", "type", "default", "meaning"),
        as_json=False,
    )


@app.command("try", epilog='Example: penstock scorer try token_f1 --text "a grey cat" --expected "the cat"')
def try_once(
    name: Scorers,
    *,
    text: Annotated[str | None, typer.Option(help="What the target answered.")] = None,
    expected: Annotated[
        list[str] | None,
        typer.Option(help="The expected answer; JSON, or a text. May be given several times."),
    ] = None,
    sets: SetOption = None,
    case_file: Annotated[Path | None, typer.Option("--case", help="JSON file with a case.")] = None,
    output_file: Annotated[Path | None, typer.Option("--output", help="JSON file with an output.")] = None,
    passage: Annotated[
        list[str] | None,
        typer.Option(help="A retrieved passage, as ID=TEXT; may be repeated, in rank order."),
    ] = None,
    relevant: Annotated[
        list[str] | None, typer.Option(help="Id of what should be found; may be repeated.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Score one output here and now. Scorers that ask a model are tried with `penstock judge try`."""
    opened = open_home(home, as_json=as_json)
    spec = ScorerSpec(scorer=name, parameters=read_content(sets, None, {}))
    scorer = _make(spec, opened.root)
    missing = scorer.info.needs & {"judge", "embedder", "likelihood"}
    if missing:
        raise InvalidInput(
            f"{name} needs {', '.join(sorted(missing))}, which is not there on the command line alone.",
            hint="Use `penstock judge try`.",
        )
    case = Case(id="try") if case_file is None else _read(case_file, Case)
    output = Output(case_id="try") if output_file is None else _read(output_file, Output)
    if expected:
        values = [_json_or_text(each) for each in expected]
        case = msgspec.structs.replace(case, expected=values[0] if len(values) == 1 else values)
    if relevant:
        case = msgspec.structs.replace(case, relevant=relevant)
    if text is not None:
        output = msgspec.structs.replace(output, text=text)
    if passage:
        output = msgspec.structs.replace(output, passages=[_passage(each) for each in passage])
    if isinstance(scorer, scorer_types.Preparable):
        scorer = scorer.prepare([case])
    scores = asyncio.run(scorer.score(case, [output], scorer_types.ScorerTools()))
    if as_json:
        print_json(scores)
        return
    for score in scores:
        told = {
            "value": score.value if score.status == "scored" else score.status,
            "label": score.label,
            "reason": score.reason,
            **score.evidence,
        }
        shown = {key: value for key, value in told.items() if value is not None}
        print_record({"score": score.name, **shown, "scorer": score.scorer}, as_json=False)


@app.command(epilog="Example: penstock scorer create lenient-f1 token_f1 --set threshold=0.6")
def create(
    name: Annotated[str, typer.Argument(help="Its name: lower case, digits, dot, dash, underscore.")],
    scorer: Annotated[str, typer.Argument(help="A name of `penstock scorer list`.")],
    *,
    sets: SetOption = None,
    note: Annotated[str, typer.Option(help="Why; kept with the version.")] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Keep a scorer with its parameters as a version of `scorer:NAME`, for evaluations to name."""
    rooms = control_rooms.Rooms(open_home(home, as_json=as_json))
    spec = ScorerSpec(scorer=scorer, name=name, parameters=read_content(sets, None, {}))
    info = (
        eval_catalogue.Catalogue(read_registered=partial(eval_ports.read_registered_scorer, rooms.registry))
        .create(spec)
        .info
    )
    version = rooms.registry.register("scorer", name, msgspec.to_builtins(spec), note=note)
    print_record({"version": version.label, "digest": version.digest, "scorer": info.stamp}, as_json=as_json)


def _make(spec: ScorerSpec, home: Path) -> scorer_types.Scorer:
    """Return the scorer; this is the person's own process, so their Python may run."""

    def read(reference: str) -> ScorerSpec:
        return eval_ports.read_registered_scorer(control_rooms.Rooms(open_home(home)).registry, reference)

    return eval_catalogue.Catalogue(load_python=True, read_registered=read).create(spec)


def _turns() -> tuple[describe.ParameterInfo, ...]:
    """Return the parameters that every scorer has."""
    return (
        describe.ParameterInfo(
            name="threshold",
            type="float | None",
            default=None,
            explanation="The score is 1 from this value on (lower is better: up to it), and 0 beyond.",
        ),
        describe.ParameterInfo(name="not", type="bool", default=False, explanation="The score is 1 − value."),
    )


def _parameters(name: str) -> list[describe.ParameterInfo]:
    if name in scorer_catalogue.KINDS or name in describe.PARAMETERS_OF_COMPOSITES:
        return describe.describe_parameters(name)
    return (
        describe.describe_struct(judge_catalogue.KINDS[name].parameters)
        if name in judge_catalogue.KINDS
        else []
    )


def _group(info: scorer_types.ScorerInfo) -> str:
    return (
        judge_catalogue.KINDS[info.name].group
        if info.name in judge_catalogue.KINDS
        else scorer_catalogue.group_of(info.name)
    )


def _facts(info: scorer_types.ScorerInfo) -> dict[str, Any]:
    low, high = ("" if bound is None else f"{bound:g}" for bound in (info.low, info.high))
    return {
        "range": "0 or 1" if info.scale == "binary" else f"{low} … {high}".strip(),
        "better": info.direction,
        "unit": info.unit,
        "summary": info.summary,
    }


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _passage(text: str) -> Passage:
    identity, equals, rest = text.partition("=")
    return Passage(text=rest, id=identity, document=identity) if equals else Passage(text=text)


def _read(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.") from error
    except msgspec.DecodeError as error:
        raise InvalidInput(f"{printable(str(path))} is no {kind.__name__.lower()}: {error}.") from error
