"""`penstock knowledge tune`: search settings on labelled questions, with a figure that may be promised.

`register(app)` adds the verb to the noun.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import typer

from penstock.base.late import late_imports
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, open_home
from penstock.cli.output import print_json, print_rows
from penstock.cli.progress import ProgressLine
from penstock.knowledge.retrieval.knobs import DEFAULT_KNOBS
from penstock.spec.evaluations import Estimate
from penstock.spec.knowledge import RerankRecipe

with late_imports():
    from penstock.knowledge import recipes
    from penstock.knowledge.retrieval import tuner
    from penstock.main import knowledge_rooms, retrieval_tuning

RerankKind = Literal["late-interaction", "cross-encoder", "provider", "model"]


def register(app: typer.Typer) -> None:
    """Add the verb to `penstock knowledge`."""
    app.command("tune", epilog="Example: penstock knowledge tune handbook --questions handbook")(tune)


def tune(
    name: Annotated[str, typer.Argument(help="The knowledge base.")],
    *,
    questions: Annotated[
        str, typer.Option(help="Labelled questions: a dataset, a .jsonl file, or handbook for those shipped.")
    ],
    metric: Annotated[
        str, typer.Option(help="ndcg, recall, mrr, hit or precision, with its depth.")
    ] = "ndcg@10",
    knobs: Annotated[
        str,
        typer.Option(
            "--try",
            help="Of dense_weight, fusion, title_weight, section_weight, n_candidates, identifier_weight, rerank.",
        ),
    ] = ",".join(DEFAULT_KNOBS),
    track: Annotated[str | None, typer.Option(help="Tune this track instead of what is live.")] = None,
    where: Annotated[str | None, typer.Option(help="Which questions, such as split:train.")] = None,
    phrasing: Annotated[
        Literal["asked", "alternatives", "both"], typer.Option(help="Which wordings are asked.")
    ] = "both",
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many questions.")] = None,
    rerank_kind: Annotated[
        RerankKind | None, typer.Option("--rerank-kind", help="The second look that `rerank` tries.")
    ] = None,
    rerank_model: Annotated[
        str | None, typer.Option("--rerank-model", help="Its route. Providers and models cost money here.")
    ] = None,
    as_track: Annotated[
        str | None, typer.Option("--as", help="Build a measurable win as this candidate track.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Find the search settings that do best on labelled questions, and say what may be promised for them."""
    look = None if rerank_kind is None else RerankRecipe(kind=rerank_kind, model=rerank_model)
    request = tuner.TuneRequest(
        questions=questions,
        metric=metric,
        knobs=tuple(each.strip() for each in knobs.split(",") if each.strip()),
        track=track,
        phrasing=phrasing,
        where=where,
        rerank=look,
        limit=limit,
    )
    rooms = knowledge_rooms.KnowledgeRooms(open_home(home, as_json=as_json))
    try:
        with ProgressLine(f"tune {name}", quiet=as_json) as line:
            report = retrieval_tuning.make_tuner(rooms).tune(name, request, _Telling(line))
        built = _build(rooms, name, report, as_track)
    finally:
        rooms.close()
    if as_json:
        print_json({**msgspec.to_builtins(report), "track": built})
        return
    _show(report)
    if built is not None:
        print(f"built as track {built}: penstock knowledge compare {name} {built}")
    elif as_track is not None:
        print(f"no track {as_track!r} was built: there is nothing to win.")


class _Telling:
    """An `IngestContext` that shows progress and keeps nothing."""

    def __init__(self, line: ProgressLine) -> None:
        self._line = line

    def step(self, name: str, inputs: dict[str, Any], fn: Any) -> Any:
        del name, inputs
        return fn()

    def progress(self, fraction: float, message: str) -> None:
        self._line.tell(fraction, message)

    def log(self, text: str) -> None: ...

    def check_cancelled(self) -> None: ...


def _build(
    rooms: knowledge_rooms.KnowledgeRooms, name: str, report: tuner.TuneReport, track: str | None
) -> str | None:
    if track is None or not report.is_win:
        return None
    tuned = next(row for row in rooms.knowledge.list_tracks(name) if row.generation == report.generation)
    recipe = msgspec.structs.replace(recipes.read_recipe(tuned.recipe), search=report.recipe)
    rooms.knowledge.build_candidate(name, track, recipe, note=f"tuned: {report.advice}")
    return track


def _show(report: tuner.TuneReport) -> None:
    print(
        f"{report.n_questions} questions in {report.n_groups} groups, {report.n_settings:,} settings, "
        f"{report.seconds:.0f} s"
    )
    rows = [
        {"recipe": "present", report.metric: _figure(report.present), "": ""},
        {
            "recipe": "tuned, promised",
            report.metric: _figure(report.promised),
            "": "on questions that had no part in choosing",
        },
        {"recipe": "tuned, seen", report.metric: f"{report.seen:.3f}", "": "flattered by the choice"},
    ]
    print_rows(rows, ("recipe", report.metric, ""), as_json=False, empty="")
    kinds = [
        {
            "the best of": row.name,
            "seen": f"{row.value:.3f}",
            "settings": ", ".join(f"{key} {after}" for key, (_, after) in row.changes.items())
            or "as they are",
        }
        for row in report.best_of
    ]
    print()
    print_rows(kinds, ("the best of", "seen", "settings"), as_json=False, empty="")
    print()
    print(report.advice)
    for note in report.notes:
        print(f"note: {note}")


def _figure(estimate: Estimate) -> str:
    if estimate.value is None:
        return "unknown"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
