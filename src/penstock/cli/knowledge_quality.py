"""`penstock knowledge measure|compare|explain|report|watch`: is retrieval any good, and what was missed.

`register(app)` adds the verbs to the noun.
"""

from decimal import Decimal
from typing import Annotated, Any, Literal
from urllib.parse import quote

import typer

from penstock.base.errors import InvalidInput
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, open_home
from penstock.cli.output import print_json, print_lines, print_record, print_rows, printable, time_text
from penstock.cli.progress import ProgressLine
from penstock.knowledge.quality.types import (
    CompareRequest,
    Explanation,
    GenerationComparison,
    Granularity,
    Measurement,
    MeasureRequest,
    Phrasing,
    StaleReport,
    UnansweredReport,
    UnusedReport,
)
from penstock.main.control_client import ControlClient
from penstock.main.retrieval_access import open_retrieval
from penstock.spec.evaluations import Estimate

NameArgument = Annotated[str, typer.Argument(help="The knowledge base.")]
QuestionsOption = Annotated[
    str | None, typer.Option("--questions", help="dataset:NAME with labels, or handbook:questions.")
]
_MODES = ("as_is", "dense", "lexical", "hybrid", "reranked")


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command(epilog="Example: penstock knowledge measure handbook --questions handbook:questions -k 5,10")(
        measure
    )
    app.command(epilog="Example: penstock knowledge compare handbook new --questions handbook:questions")(
        compare
    )
    app.command(epilog='Example: penstock knowledge explain handbook "Is snoring bad?" --expect snoring.md')(
        explain
    )
    app.command(epilog="Example: penstock knowledge report handbook unanswered --days 7")(report)
    app.command(epilog="Example: penstock knowledge watch handbook --judge gpt-4o-mini --share 0.05")(watch)


def measure(
    *,
    name: NameArgument,
    questions: QuestionsOption = None,
    track: Annotated[str | None, typer.Option(help="A track; what is live unless told.")] = None,
    generation: Annotated[str | None, typer.Option(help="A generation by its id.")] = None,
    k: Annotated[str, typer.Option("-k", help="Depths, such as 5,10.")] = "1,3,5,10",
    modes: Annotated[
        str,
        typer.Option(
            help="Ways of searching, the first is compared with: as_is, dense, lexical, hybrid, reranked."
        ),
    ] = "as_is",
    by: Annotated[Granularity, typer.Option(help="What of a label counts.")] = "finest",
    phrasing: Annotated[Phrasing, typer.Option(help="Which wordings are asked.")] = "asked",
    where: Annotated[str | None, typer.Option(help="Which questions, such as 'split:test'.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many questions.")] = None,
    leave_out: Annotated[
        bool,
        typer.Option(
            "--leave-out", help="Leave out labels that nothing fulfils; they count as missed unless told."
        ),
    ] = False,
    note: Annotated[str, typer.Option(help="Kept with the measurement.")] = "",
    is_list: Annotated[bool, typer.Option("--list", help="Show what was measured so far.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Measure how well a base finds what labelled questions ask for, with intervals."""
    opened = open_home(home, as_json=as_json)
    with open_retrieval(opened) as access:
        if is_list:
            _list_measurements(access.list_measurements(name, {"limit": limit or 50}).rows, as_json=as_json)
            return
        request = MeasureRequest(
            questions=_needed(questions),
            track=track,
            generation=generation,
            ks=_numbers(k),
            modes=_modes(modes),
            by=by,
            phrasing=phrasing,
            where=where,
            unmapped="leave_out" if leave_out else "miss",
            limit=limit,
            note=note,
        )
        with ProgressLine(f"measure {name}", quiet=as_json) as line:
            made = access.measure(name, request, line.tell)
    print_json(made) if as_json else _print_measurement(made)


def compare(
    *,
    name: NameArgument,
    candidate: Annotated[str | None, typer.Argument(help="A track, or a generation by its id.")] = None,
    baseline: Annotated[str, typer.Option(help="What it is compared with.")] = "live",
    questions: QuestionsOption = None,
    recorded: Annotated[int, typer.Option(min=0, max=2000, help="Recorded questions to replay.")] = 200,
    k: Annotated[int, typer.Option("-k", min=1, max=200, help="Depth.")] = 5,
    rule: Annotated[
        list[str] | None,
        typer.Option("--rule", help="Such as 'recall@5 >= baseline - 2 points'. Repeatable."),
    ] = None,
    level: Annotated[float, typer.Option(min=0.5, max=0.999, help="Of the intervals.")] = 0.95,
    by: Annotated[Granularity, typer.Option(help="What of a label counts.")] = "finest",
    where: Annotated[str | None, typer.Option(help="Which labelled questions.")] = None,
    note: Annotated[str, typer.Option(help="Kept with the comparison.")] = "",
    is_list: Annotated[bool, typer.Option("--list", help="Show what was compared so far.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Compare two generations on labelled and recorded questions. Exit 0: pass, 1: fail, 3: undecided or invalid."""
    opened = open_home(home, as_json=as_json)
    with open_retrieval(opened) as access:
        if is_list:
            rows = access.list_comparisons(name, 50).rows
            _list_comparisons(rows, as_json=as_json)
            return
        if candidate is None:
            raise InvalidInput("Name the candidate: a track or a generation.", param="candidate")
        request = CompareRequest(
            candidate=candidate,
            baseline=baseline,
            questions=questions,
            recorded=recorded,
            k=k,
            rules=list(rule or ()),
            level=level,
            by=by,
            where=where,
            note=note,
        )
        with ProgressLine(f"compare {name}", quiet=as_json) as line:
            made = access.compare(name, request, line.tell)
    print_json(made) if as_json else _print_comparison(made)
    if made.verdict != "pass":
        raise typer.Exit(1 if made.verdict == "fail" else 3)


def explain(
    *,
    name: NameArgument,
    question: Annotated[str, typer.Argument(help="The question.")],
    expect: Annotated[
        list[str] | None,
        typer.Option(
            "--expect",
            help="What should be found: a document, document#section, passage id or words. Repeatable.",
        ),
    ] = None,
    track: Annotated[
        str | None, typer.Option(help="A track or generation; what is live unless told.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=200, help="How many passages.")] = 5,
    filter_: Annotated[str | None, typer.Option("--filter", help="Such as 'language:de -tag:draft'.")] = None,
    principal: Annotated[
        list[str] | None, typer.Option("--as", help="As whom, such as user:ada or group:staff. Repeatable.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show what a question finds, what it misses, and why."""
    asked: dict[str, Any] = {
        "question": question,
        "expect": list(expect or ()),
        "track": track,
        "k": k,
        "filter": filter_,
        "principals": None if principal is None else list(principal),
    }
    with open_retrieval(open_home(home, as_json=as_json)) as access:
        made = access.explain(name, asked)
    print_json(made) if as_json else _print_explanation(made)


def report(
    *,
    name: NameArgument,
    kind: Annotated[Literal["unanswered", "stale", "unused"], typer.Argument(help="Which report.")],
    days: Annotated[float | None, typer.Option(min=0.01, max=3660, help="How far back.")] = None,
    low_score: Annotated[
        float | None,
        typer.Option(help="Questions whose best passage is below this cosine count as unanswered."),
    ] = None,
    max_age_days: Annotated[float | None, typer.Option(help="Older documents count as stale.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="Rows at most.")] = 50,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show questions without an answer, documents that may be out of date, or documents nobody finds."""
    options: dict[str, Any] = {"limit": limit}
    if days is not None:
        options["days"] = days
    if low_score is not None and kind == "unanswered":
        options["low_score"] = low_score
    if max_age_days is not None and kind == "stale":
        options["max_age_days"] = max_age_days
    with open_retrieval(open_home(home, as_json=as_json)) as access:
        made = access.report(name, kind, options)
    if as_json:
        print_json(made)
    elif isinstance(made, UnansweredReport):
        _print_unanswered(made)
    elif isinstance(made, StaleReport):
        _print_stale(made)
    else:
        _print_unused(made)


def watch(
    *,
    app: Annotated[str | None, typer.Argument(help="The app; unless told, all watches are listed.")] = None,
    judge: Annotated[str | None, typer.Option(help="The route that judges.")] = None,
    share: Annotated[
        float, typer.Option(min=0.0001, max=1.0, help="Share of answers that are judged.")
    ] = 0.05,
    budget: Annotated[str | None, typer.Option(help="US dollars a day that are never passed.")] = None,
    max_per_day: Annotated[int, typer.Option(min=1, help="Answers a day at most.")] = 200,
    off: Annotated[bool, typer.Option("--off", help="Judge no more answers of the app.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Judge a share of an app's answers as they come: context relevance, groundedness, answer relevance."""
    client = ControlClient(open_home(home, as_json=as_json))
    if app is None:
        states = client.get("/api/v1/knowledge-watches")["watches"]
        rows = [{**state, **state["settings"]} for state in states]
        columns = ("app", "judge", "share", "n_seen", "n_judged", "n_failed", "spent_usd", "last_error")
        print_rows(
            rows, columns, as_json=as_json, empty="None yet: penstock knowledge watch APP --judge ROUTE"
        )
        return
    path = f"/api/v1/knowledge-watches/{quote(app)}"
    if off:
        print_record(client.delete(path), as_json=as_json)
        return
    if judge is None:
        raise InvalidInput("Say who judges.", hint="Such as --judge gpt-4o-mini.", param="judge")
    body = {
        "judge": judge,
        "share": share,
        "budget_usd_per_day": None if budget is None else str(Decimal(budget)),
        "max_per_day": max_per_day,
    }
    state = client.post(path, body)
    print_record(state["settings"] if not as_json else state, as_json=as_json)


# printing


def _print_measurement(made: Measurement) -> None:
    groups = f" in {made.n_groups:,} groups" if made.n_groups != made.n_questions else ""
    print(
        f"{made.base} {made.version or made.generation}, {made.questions}: {made.n_questions:,} questions{groups}"
    )
    rows = []
    for mode in made.modes:
        differences = {each.name: each for each in mode.differences}
        for each in mode.estimates:
            difference = differences.get(each.name)
            rows.append(
                {
                    "mode": mode.mode,
                    "figure": each.name,
                    "value": each.value,
                    "interval": _interval(each),
                    "difference": None
                    if difference is None or difference.difference is None
                    else f"{difference.difference:+.3g}",
                    "p": None if difference is None else difference.p_adjusted,
                    "word": None if difference is None else difference.word,
                }
            )
    columns = ("mode", "figure", "value", "interval", "difference", "p", "word")
    print_lines(rows, columns if len(made.modes) > 1 else columns[:4])
    for text in made.reservations:
        print(f"note  {printable(text)}")
    for lost in made.unmapped[:10]:
        print(
            f"label that nothing fulfils  {printable(lost.question_id)}: {printable(lost.label)}: {printable(lost.reason)}"
        )
    for worst in made.worst[:5]:
        if not worst.n_found:
            print(f"found nothing of it  {printable(worst.question)}")
    print(f"kept as {made.id}")


def _list_measurements(rows: Any, *, as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    shown = []
    for row in rows:
        figures = {each.name: each for each in row.estimates}
        chosen = next((name for name in ("recall@5", *figures) if name in figures), None)
        best = None if chosen is None else figures[chosen]
        shown.append(
            {
                "time": time_text(row.made_ns),
                "id": row.id,
                "generation": row.version or row.generation,
                "questions": row.questions,
                "n": row.n_questions,
                "figure": chosen,
                "value": None if best is None else best.value,
                "interval": None if best is None else _interval(best),
            }
        )
    columns = ("time", "id", "generation", "questions", "n", "figure", "value", "interval")
    print_lines(
        shown,
        columns,
        give_up=("id",),
        empty="None yet: penstock knowledge measure NAME --questions dataset:NAME",
    )


def _print_comparison(made: GenerationComparison) -> None:
    print(f"{made.verdict}: {printable(made.reason)}")
    for sentence in made.sentences:
        print(f"  {printable(sentence)}")
    rows = [
        {
            "figure": each.name,
            "baseline": each.baseline,
            "candidate": each.candidate,
            "difference": None if each.difference is None else f"{each.difference:+.3g}",
            "interval": None
            if each.low is None or each.high is None
            else f"{each.low:+.3g} to {each.high:+.3g}",
            "word": each.word,
        }
        for each in [*made.labelled, *(made.replay.differences if made.replay else ())]
    ]
    print_lines(rows, ("figure", "baseline", "candidate", "difference", "interval", "word"))
    if made.replay is not None:
        for estimate in made.replay.estimates:
            print(
                f"replay  {estimate.name} {_number(estimate.value)} ({_interval(estimate)}), {estimate.n:,} questions"
            )
        for change in made.replay.changes[:5]:
            print(f"changes  {printable(change.question)}  (overlap {_number(change.overlap)})")
    for text in made.reservations:
        print(f"note  {printable(text)}")
    print(f"kept as {made.id}")


def _list_comparisons(rows: Any, *, as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    shown = [
        {
            "time": time_text(row.made_ns),
            "id": row.id,
            "candidate": row.candidate_track or row.candidate,
            "baseline": row.baseline_track or row.baseline,
            "verdict": row.verdict,
            "reason": row.reason,
        }
        for row in rows
    ]
    columns = ("time", "id", "candidate", "baseline", "verdict", "reason")
    print_lines(shown, columns, shorten="reason", empty="None yet: penstock knowledge compare NAME TRACK")


def _print_explanation(made: Explanation) -> None:
    searched = "" if made.n_rows is None else f", {made.n_rows:,} passages searched"
    print(f"{made.base} {made.version or made.generation}: {made.mode}{searched}")
    if made.note:
        print(f"note  {printable(made.note)}")
    if made.absent_words:
        print(f"words that stand nowhere  {', '.join(made.absent_words)}")
    rows = [
        {
            "rank": hit.rank,
            "score": hit.score,
            "by meaning": hit.dense_rank if hit.dense_rank is not None else hit.dense_score,
            "by words": hit.lexical_rank if hit.lexical_rank is not None else hit.lexical_score,
            "document": hit.document,
            "section": hit.section,
            "shared words": ", ".join(hit.shared_words),
            "text": hit.text,
        }
        for hit in made.hits
    ]
    columns = ("rank", "score", "by meaning", "by words", "document", "section", "shared words", "text")
    print_lines(rows, columns, shorten="text", empty="Nothing was found.")
    for stage in made.stages:
        taken = f", {len(stage.dropped)} taken out" if stage.dropped else ""
        print(f"stage {stage.name}  {stage.n_in:,} → {stage.n_out:,} in {stage.ms:.2f} ms{taken}")
    for each in made.found:
        print(f"found  {printable(each.label.name)}")
    for missed in made.missed:
        print(f"missed  {printable(missed.label.name)}: {printable(missed.sentence)}")
        if missed.near_words:
            near = "; ".join(f"{word}: {', '.join(others)}" for word, others in missed.near_words.items())
            print(f"  words nearly the same  {near}")
        if missed.next:
            print(f"  {printable(missed.next)}")


def _print_unanswered(made: UnansweredReport) -> None:
    print(f"{made.n_unanswered:,} of {made.n_asked:,} questions were not answered")
    rows = [
        {
            "n": each.n,
            "question": each.title,
            "why": ", ".join(f"{reason} {number}" for reason, number in each.reasons.items()),
            "last": time_text(each.last_ns),
            "near": ", ".join(each.candidates),
        }
        for each in made.clusters
    ]
    print_lines(rows, ("n", "question", "why", "last", "near"), give_up=("last",), shorten="question")
    if made.note:
        print(f"note  {printable(made.note)}")


def _print_stale(made: StaleReport) -> None:
    print(
        f"{sum(made.reasons.values()):,} of {made.n_documents:,} documents may be out of date; {made.n_cited:,} of them are cited"
    )
    rows = [
        {
            "document": row.path,
            "why": row.reason,
            "sentence": row.sentence,
            "found": row.n_retrieved,
            "cited": row.n_cited,
        }
        for row in made.rows
    ]
    print_lines(rows, ("document", "why", "found", "cited", "sentence"), shorten="sentence")


def _print_unused(made: UnusedReport) -> None:
    print(
        f"{made.n_unused:,} of {made.n_documents:,} documents were found by none of {made.n_retrievals:,} searches"
    )
    rows = [
        {"document": row.path, "passages": row.n_passages, "indexed": time_text(row.indexed_ns)}
        for row in made.rows
    ]
    print_lines(rows, ("document", "passages", "indexed"))
    if made.note:
        print(f"note  {printable(made.note)}")


def _interval(estimate: Estimate) -> str | None:
    if estimate.low is None or estimate.high is None:
        return None
    return f"{_number(estimate.low)} to {_number(estimate.high)}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _needed(questions: str | None) -> str:
    if questions is None:
        raise InvalidInput(
            "Say which questions: --questions dataset:NAME, or handbook:questions.",
            hint="penstock knowledge question list shows the sets that there are.",
            param="questions",
        )
    return questions


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise InvalidInput(f"{text!r} is no list of depths.", hint="Such as -k 5,10.", param="k") from error


def _modes(text: str) -> Any:
    named = tuple(part.strip() for part in text.split(","))
    unknown = [name for name in named if name not in _MODES]
    if unknown:
        raise InvalidInput(
            f"{unknown[0]!r} is no way of searching.", hint=f"There are {', '.join(_MODES)}.", param="modes"
        )
    return named
