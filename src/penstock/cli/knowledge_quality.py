"""`penstock knowledge measure|compare|explain|report|watch`: is retrieval any good, and what was missed.

`register(app)` adds the verbs to the noun.
"""

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

import msgspec
import typer

from penstock.base.errors import InvalidInput
from penstock.base.late import late_imports
from penstock.cli.knowledge_quality_rows import (
    print_comparison,
    print_comparisons,
    print_explanation,
    print_measurement,
    print_measurements,
    print_stale,
    print_unanswered,
    print_unused,
)
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, open_home
from penstock.cli.output import print_json, print_record, print_rows
from penstock.cli.progress import ProgressLine
from penstock.knowledge.quality.report_types import StaleReport, TriadState, UnansweredReport
from penstock.knowledge.quality.types import CompareRequest, Granularity, MeasureRequest, Phrasing
from penstock.main.control_client import ControlClient

with late_imports():
    from penstock.main import retrieval_access

NameArgument = Annotated[str, typer.Argument(help="The knowledge base.")]
QuestionsOption = Annotated[
    str | None, typer.Option("--questions", help="dataset:NAME with labels, or handbook:questions.")
]
_EXIT_CODES = {"fail": 1, "undecided": 6, "invalid": 7}
"""As those of gates."""
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
    with retrieval_access.open_retrieval(opened) as access:
        if is_list:
            print_measurements(access.list_measurements(name, {"limit": limit or 50}).rows, as_json=as_json)
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
    print_json(made) if as_json else print_measurement(made)


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
    """Compare two generations on labelled and recorded questions. Exit 0: pass, 1: fail, 6: undecided, 7: invalid."""
    opened = open_home(home, as_json=as_json)
    with retrieval_access.open_retrieval(opened) as access:
        if is_list:
            rows = access.list_comparisons(name, 50).rows
            print_comparisons(rows, as_json=as_json)
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
    print_json(made) if as_json else print_comparison(made)
    if made.verdict != "pass":
        raise typer.Exit(_EXIT_CODES[made.verdict])


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
        list[str] | None,
        typer.Option("--as", "--principal", help="As whom, such as user:ada or group:staff. Repeatable."),
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
    with retrieval_access.open_retrieval(open_home(home, as_json=as_json)) as access:
        made = access.explain(name, asked)
    print_json(made) if as_json else print_explanation(made)


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
    with retrieval_access.open_retrieval(open_home(home, as_json=as_json)) as access:
        made = access.report(name, kind, options)
    if as_json:
        print_json(made)
    elif isinstance(made, UnansweredReport):
        print_unanswered(made)
    elif isinstance(made, StaleReport):
        print_stale(made)
    else:
        print_unused(made)


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
        states = msgspec.convert(client.get("/api/v1/knowledge-watches")["watches"], list[TriadState])
        rows = [{**msgspec.structs.asdict(each.settings), **msgspec.structs.asdict(each)} for each in states]
        columns = (
            "app",
            "judge",
            "share",
            "n_seen",
            "n_unreadable",
            "n_judged",
            "n_failed",
            "spent_usd",
            "last_error",
        )
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


def _needed(questions: str | None) -> str:
    if questions is None:
        raise InvalidInput(
            "Say which questions: --questions dataset:NAME, or handbook:questions.",
            hint="penstock knowledge question list shows the sets that there are.",
            param="questions",
        )
    if questions.endswith((".jsonl", ".ndjson")) or Path(questions).is_file():
        raise InvalidInput(
            f"{questions!r} is a file; what is measured is kept, so its questions have to be.",
            hint=f"Import it first: penstock knowledge question import {questions} --set SET, "
            "then --questions dataset:SET.",
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
