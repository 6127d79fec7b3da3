"""`penstock model quantise|shrink|measure|compare`: smaller versions of a model, and what they cost in quality.

`register(app)` adds the verbs to the noun.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from penstock.base.errors import InvalidInput
from penstock.base.late import late_imports
from penstock.cli.eval_spec import read_scorer
from penstock.cli.objects import command_line_actor
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, open_home
from penstock.cli.output import print_json, print_rows
from penstock.cli.progress import ProgressLine
from penstock.main.eval_files import read_evaluation_file
from penstock.main.job_kinds import MODEL_MEASURE, MODEL_QUANTISE, MODEL_SHRINK
from penstock.prompts.files import SUFFIX, read_prompt
from penstock.spec.evaluations import Estimate, ScorerSpec
from penstock.tuning.compress.types import ALL_PARTS, ModelComparison, ModelMeasurement, SpeedPlan

with late_imports():
    from penstock.main import compressing
    from penstock.main import rooms as control_rooms
    from penstock.tuning.compress import requests as compress_requests
    from penstock.tuning.compress import shrink as shrinking

ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="model:NAME, model:NAME@ALIAS or @NUMBER.")
]
ModelsArgument = Annotated[
    list[str], typer.Argument(metavar="MODEL", help="model:NAME@NUMBER of each; the first is the baseline.")
]
AliasOption = Annotated[
    str | None, typer.Option(help="Alias to move to what is made; prod is refused: it moves by a gate.")
]
NoteOption = Annotated[str, typer.Option(help="What to remember about it.")]
WaitOption = Annotated[bool, typer.Option(help="Wait for the job to end.")]
_SHORT = {
    "file_bytes": "file",
    "resident_bytes": "memory",
    "bits_per_parameter": "bits/parameter",
    "load_s": "load",
    "top1_agreement": "same next token",
    "kl": "KL (nats)",
}


def register(app: typer.Typer) -> None:
    """Add the verbs to `penstock model`."""
    app.command(epilog="Example: penstock model quantise model:pocket --to q8_0,q4_0")(quantise)
    app.command(epilog="Example: penstock model shrink model:pocket --layers 2 --as pocket-small")(shrink)
    app.command(epilog="Example: penstock model measure model:pocket@1 model:pocket@2 --cases handbook")(
        measure
    )
    app.command(epilog="Example: penstock model compare model:pocket@1 model:pocket@2")(compare)


def quantise(
    model: ModelArgument,
    *,
    to: Annotated[
        str, typer.Option(help="Precisions, separated by commas: q8_0, q4_0, f16, f32.")
    ] = "q8_0,q4_0",
    alias: AliasOption = None,
    note: NoteOption = "",
    wait: WaitOption = True,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Register other precisions of a version as its children, each proven against it.

    While Penstock runs this is a job; else it happens right here.
    """
    rooms = control_rooms.Rooms(open_home(home, as_json=as_json))
    request = _convert(
        {"model": _name(model), "precisions": _list(to), "alias": alias, "note": note},
        compress_requests.QuantiseRequest,
    )
    _make(
        rooms, MODEL_QUANTISE, f"quantise {model}", msgspec.to_builtins(request), wait=wait, as_json=as_json
    )


def shrink(
    model: ModelArgument,
    *,
    name: Annotated[str, typer.Option("--as", help="Name of the model that it becomes a version of.")],
    layers: Annotated[int | None, typer.Option(min=1, help="Keep so many layers, taken evenly.")] = None,
    keep: Annotated[str, typer.Option(help="Keep these very layers, such as 0,2,3.")] = "",
    ffn: Annotated[
        int | None, typer.Option(min=32, help="Keep so many feed-forward channels of each layer.")
    ] = None,
    alias: AliasOption = None,
    note: NoteOption = "",
    wait: WaitOption = True,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Make a smaller model from a version: layers and feed-forward channels left out, to be trained by a teacher's replies."""
    rooms = control_rooms.Rooms(open_home(home, as_json=as_json))
    how = shrinking.Shrinking(layers=layers, keep=_numbers(keep), ffn_size=ffn)
    request = compress_requests.ShrinkRequest(model=_name(model), name=name, how=how, alias=alias, note=note)
    _make(rooms, MODEL_SHRINK, f"shrink {model}", msgspec.to_builtins(request), wait=wait, as_json=as_json)


def measure(
    models: ModelsArgument,
    *,
    against: Annotated[
        str | None,
        typer.Option(help="Hold them against this version; else the parent of the only one, or the first."),
    ] = None,
    evaluation: Annotated[
        Path | None, typer.Option("--eval", help="Evaluation file: its cases, prompt and scorers are taken.")
    ] = None,
    cases: Annotated[
        str | None, typer.Option(help="Cases: dataset:NAME, a file, or handbook for those shipped.")
    ] = None,
    texts: Annotated[
        str | None,
        typer.Option(
            help="Texts for perplexity: dataset:NAME, a file, handbook; else the cases with their references."
        ),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="prompt:NAME or a .prompt file that cases are asked with.")
    ] = None,
    scorer: Annotated[
        list[str] | None, typer.Option("--scorer", help="Name of a scorer, or as JSON; may be repeated.")
    ] = None,
    only: Annotated[str, typer.Option(help=f"Only these parts, of {', '.join(ALL_PARTS)}.")] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many cases or texts, drawn.")] = None,
    rounds: Annotated[
        int, typer.Option(min=2, max=100, help="Rounds of speed, in turns; under 6 decide nothing.")
    ] = 8,
    streams: Annotated[str, typer.Option(help="Replies at once, whose speed is measured.")] = "1,4",
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Of a prompt, for speed.")] = 256,
    reply_tokens: Annotated[int, typer.Option(min=2, help="Of a reply, for speed.")] = 64,
    threads: Annotated[int | None, typer.Option(min=1, help="Of each engine; else all processors.")] = None,
    wait: WaitOption = True,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Measure versions side by side: size and memory, speed, perplexity of held-out texts, scores of replies.

    Engines are started for it, so no deployment is needed; what is measured is kept and can be compared at any time.
    """
    opened = open_home(home, as_json=as_json)
    request = compress_requests.MeasureRequest(
        models=tuple(_name(each) for each in models),
        against=None if against is None else _name(against),
        parts=tuple(_list(only)),  # type: ignore[arg-type]  # checked below
        speed=SpeedPlan(
            rounds=rounds, streams=_numbers(streams), prompt_tokens=prompt_tokens, reply_tokens=reply_tokens
        ),
        threads=threads,
        limit=limit,
    )
    request = _with_evaluation(request, evaluation)
    request = _with_sources(request, cases, texts, prompt, scorer)
    request = _convert(msgspec.to_builtins(request), compress_requests.MeasureRequest)
    rooms = control_rooms.Rooms(opened)
    spec = {"request": msgspec.to_builtins(request), "actor": command_line_actor()}
    with ProgressLine("measure", quiet=as_json) as line:
        result = compressing.do_or_submit(rooms, MODEL_MEASURE, spec, line.tell, wait=wait)
    if as_json or "job" in result:
        print_json(result) if as_json else print(f"job {result['job']}")
        return
    made = msgspec.convert(result["measurements"], list[ModelMeasurement])
    versions = list(dict.fromkeys(each.version for each in made))
    if len(versions) > 1:
        _print_comparison(compressing.compare_versions(rooms, versions), as_json=False)
    else:
        _print_figures([figure for each in made for figure in each.figures])


def compare(
    models: ModelsArgument,
    *,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show versions beside the first: size, speed, perplexity, scores with intervals, and what that means."""
    rooms = control_rooms.Rooms(open_home(home, as_json=as_json))
    _print_comparison(compressing.compare_versions(rooms, [_name(each) for each in models]), as_json=as_json)


# what is asked


def _name(model: str) -> str:
    return model if model.startswith("model:") else f"model:{model}"


def _list(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(each) for each in _list(text))
    except ValueError as error:
        raise InvalidInput(f"{text!r} is no list of whole numbers.", hint="Write 1,4.") from error


def _convert(value: dict[str, Any], kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"That cannot be done: {error}.") from error


def _with_evaluation(
    request: compress_requests.MeasureRequest, file: Path | None
) -> compress_requests.MeasureRequest:
    """Return the request with cases, prompt and scorers of an evaluation file; its target's model gives way to the versions."""
    if file is None:
        return request
    spec = read_evaluation_file(file)
    target = spec.target
    prompt = target.prompt or (target.model if (target.model or "").startswith("prompt:") else None)
    return msgspec.structs.replace(
        request,
        cases=spec.dataset or spec.file,
        prompt=prompt if prompt is None or prompt.startswith("prompt:") else f"prompt:{prompt}",
        scorers=tuple(spec.scorers) or request.scorers,
        parameters={**target.parameters},
        where=spec.where,
        limit=request.limit or spec.limit,
        seed=spec.seed,
    )


def _with_sources(
    request: compress_requests.MeasureRequest,
    cases: str | None,
    texts: str | None,
    prompt: str | None,
    scorers: Sequence[str] | None,
) -> compress_requests.MeasureRequest:
    changes: dict[str, Any] = {}
    if cases is not None:
        changes["cases"] = _place(cases)
    if texts is not None:
        changes["texts"] = _place(texts)
    if prompt is not None and prompt.endswith(SUFFIX):
        path = Path(prompt).expanduser()
        changes["prompt_content"] = read_prompt(path.read_text(encoding="utf-8"), where=path.name)
    elif prompt is not None:
        changes["prompt"] = prompt if prompt.startswith("prompt:") else f"prompt:{prompt}"
    if scorers:
        changes["scorers"] = tuple(_convert(read_scorer(each), ScorerSpec) for each in scorers)
    return msgspec.structs.replace(request, **changes)


def _place(place: str) -> str:
    """Return a file's whole path: control runs in another folder."""
    if place.startswith("dataset:") or not ("/" in place or Path(place).suffix or Path(place).exists()):
        return place
    return str(Path(place).expanduser().resolve())


# what is shown


def _make(
    rooms: control_rooms.Rooms, kind: str, label: str, spec: dict[str, Any], *, wait: bool, as_json: bool
) -> None:
    with ProgressLine(label, quiet=as_json) as line:
        result = compressing.do_or_submit(
            rooms, kind, {**spec, "actor": command_line_actor()}, line.tell, wait=wait
        )
    if as_json:
        print_json(result)
    elif "job" in result:
        print(f"job {result['job']}")
    else:
        columns = ("label", "precision", "size_bytes", "n_parameters", "parent", "is_new")
        print_rows(result["children"], columns, as_json=False)


def _print_comparison(found: ModelComparison, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    names = list(dict.fromkeys(figure.name for model in found.models for figure in model.figures))
    rows = []
    for name in names:
        row: dict[str, Any] = {"figure": _SHORT.get(name, name)}
        for model in found.models:
            figure = next((each for each in model.figures if each.name == name), None)
            row[model.version] = None if figure is None else figure_text(figure)
        rows.append(row)
    print_rows(rows, ("figure", *(model.version for model in found.models)), as_json=False)
    for verdict in found.verdicts:
        print(f"\n{verdict}")
    for model in found.models:
        for note in model.notes:
            print(f"{model.version}: {note}")


def _print_figures(figures: Sequence[Estimate]) -> None:
    rows = [{"figure": _SHORT.get(each.name, each.name), "value": figure_text(each)} for each in figures]
    print_rows(rows, ("figure", "value"), as_json=False)


def figure_text(figure: Estimate) -> str:
    """Return a figure with its interval as a cell: `0.57 [0.52, 0.63]`."""
    if figure.value is None:
        return "unknown"
    if figure.unit == "bytes":
        return f"{figure.value / 1e6:,.2f} MB"
    text = _number(figure.value)
    if figure.low is not None and figure.high is not None:
        text += f" [{_number(figure.low)}, {_number(figure.high)}]"
    return f"{text} {figure.unit}" if figure.unit in {"s", "ms", "tokens/s"} else text


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"
