"""`penstock loadtest`: plan, run, list, show, compare, export, stop, delete. `penstock loadtest ROUTE` runs one."""

import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import typer
import typer.core

from penstock.base.errors import InvalidInput
from penstock.base.late import late_imports
from penstock.cli.loadtest_rows import print_plan, print_record_report, print_sides, summary_row
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app, open_home
from penstock.cli.output import print_json, print_record, print_rows
from penstock.cli.progress import ProgressLine
from penstock.cli.saving import print_pieces, save_pieces
from penstock.deploy.load.sides import SideBySide
from penstock.deploy.load.types import FINAL_STATES, LoadPlan, LoadRecord, LoadSpec, ShapeKind
from penstock.main.control_client import ControlClient
from penstock.main.errors import JobFailed
from penstock.main.eval_files import read_document

with late_imports():
    from penstock.deploy.load import reports
    from penstock.deploy.load import service as load_service

ROOT = "/api/v1/load-tests"
POLL_S = 0.4


class _RunUnlessNamed(typer.core.TyperGroup):
    """`penstock loadtest triage --rate 5` is `penstock loadtest run triage --rate 5`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = noun_app("Load tests: run (or just a route), plan, list, show, compare, export, stop, delete.")
app.info.cls = _RunUnlessNamed

RouteArgument = Annotated[
    str | None, typer.Argument(help="A route, or model:NAME@…, prompt:NAME, an app; the file's unless told.")
]
FileOption = Annotated[
    Path | None,
    typer.Option("--file", "-f", help="TOML or JSON file with the whole test; options change it."),
]
AgainstOption = Annotated[
    str | None, typer.Option(help="Another target, asked in turn in the same run; says how the two differ.")
]
RateOption = Annotated[float | None, typer.Option(help="Requests a second, whatever becomes of them.")]
ArrivalsOption = Annotated[
    Literal["poisson", "constant", "burst", "ramp"] | None, typer.Option(help="How calls come.")
]
ToRateOption = Annotated[float | None, typer.Option(help="Of a ramp: the rate it grows to.")]
BurstOption = Annotated[int | None, typer.Option(min=1, help="Of bursts: calls at the same moment.")]
RatesOption = Annotated[str | None, typer.Option(help="One stage at each rate, such as 1,2,4,8.")]
ConcurrencyOption = Annotated[
    int | None, typer.Option(min=1, help="Instead of a rate: so many callers, each waits for its reply.")
]
SecondsOption = Annotated[float | None, typer.Option(help="Of each stage; 30 unless told.")]
RequestsOption = Annotated[int | None, typer.Option(min=1, help="Of each stage.")]
LimitOption = Annotated[
    list[str] | None,
    typer.Option("--limit", help="Such as 'ttft.p95 <= 300ms', 'e2e <= 4s', 'goodput >= 0.99'. Repeatable."),
]
FindOption = Annotated[
    bool, typer.Option("--find-rate", help="Look for the largest rate that keeps the limits.")
]
PromptOption = Annotated[str | None, typer.Option(help="Tokens of made-up prompts: 200, or 50-400.")]
CompletionOption = Annotated[str | None, typer.Option(help="Tokens of replies at most: 64, or 16-256.")]
SourceOption = Annotated[
    str | None, typer.Option(help="words, traffic (lengths of recorded calls), or dataset:NAME@VERSION.")
]
PairsOption = Annotated[int | None, typer.Option(min=1, help="Of blocks, with --against.")]
CostOption = Annotated[float | None, typer.Option(help="Send no call that might pass this many dollars.")]
LateOption = Annotated[
    float | None,
    typer.Option(
        help="How late the sender itself may be (99th percentile) before the test is invalid; "
        "a tenth of the median reply, at least 10, unless told."
    ),
]
WholeOption = Annotated[bool, typer.Option("--whole", help="Ask for whole replies instead of streams.")]
CacheOption = Annotated[bool, typer.Option("--cache", help="Let the gateway answer from kept replies.")]
WarmupOption = Annotated[
    int | None, typer.Option(min=0, help="Calls one after another before anything counts.")
]
SeedOption = Annotated[int | None, typer.Option(help="Moments and prompts are drawn from it.")]
NameOption = Annotated[str | None, typer.Option(help="How it is called in lists.")]
TestId = Annotated[str, typer.Argument(help="Its id, from `penstock loadtest list`.")]


@app.command(
    epilog="Example: penstock loadtest run pocket --rate 2 --limit 'ttft.p95 <= 300ms'. "
    "Exit codes: 0 pass (or no limit), 1 fail, 6 undecided, 7 invalid; 2 to 5 and 70 are errors."
)
def run(
    route: RouteArgument = None,
    *,
    file: FileOption = None,
    against: AgainstOption = None,
    rate: RateOption = None,
    arrivals: ArrivalsOption = None,
    to_rate: ToRateOption = None,
    burst: BurstOption = None,
    rates: RatesOption = None,
    concurrency: ConcurrencyOption = None,
    seconds: SecondsOption = None,
    requests: RequestsOption = None,
    limit: LimitOption = None,
    find_rate: FindOption = False,
    prompt_tokens: PromptOption = None,
    completion_tokens: CompletionOption = None,
    source: SourceOption = None,
    pairs: PairsOption = None,
    max_cost_usd: CostOption = None,
    max_late_ms: LateOption = None,
    whole: WholeOption = False,
    cache: CacheOption = False,
    warmup: WarmupOption = None,
    seed: SeedOption = None,
    name: NameOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Agree to what calls to providers cost.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the end.")] = False,
    markdown: Annotated[Path | None, typer.Option(help="Write the report as Markdown to this file.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the report as HTML to this file.")] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Send calls at a stated rate and tell latency, throughput and goodput with intervals, held against limits."""
    opened = open_home(home, as_json=as_json)
    spec = build_spec(
        file,
        {
            "route": route,
            "against": against,
            "name": name,
            "rates": None if rates is None else _numbers(rates),
            "seconds": seconds,
            "requests": requests,
            "limits": limit or None,
            "find_rate": {} if find_rate else None,
            "pairs": pairs,
            "max_cost_usd": None if max_cost_usd is None else Decimal(str(max_cost_usd)),
            "max_late_ms": max_late_ms,
            "stream": False if whole else None,
            "cache": True if cache else None,
            "warmup": warmup,
            "seed": seed,
        },
        shape={
            "kind": _kind(arrivals, concurrency, to_rate, burst),
            "rate": rate,
            "to_rate": to_rate,
            "burst": burst,
            "concurrency": concurrency,
        },
        mix={
            "prompt_tokens": None if prompt_tokens is None else _length(prompt_tokens),
            "completion_tokens": None if completion_tokens is None else _length(completion_tokens),
            "source": source,
        },
    )
    client = ControlClient(opened)
    told = {"spec": msgspec.to_builtins(spec)}
    planned = msgspec.convert(client.post(f"{ROOT}/plan", told), LoadPlan, strict=False)
    is_agreed = yes
    if planned.must_confirm and not yes and spec.max_cost_usd is None and not as_json and sys.stdin.isatty():
        print_plan(planned)  # where nobody can answer, control refuses and says what to do
        is_agreed = typer.confirm("Send these calls?", abort=True)
    record = read_record(client.post(ROOT, {**told, "agreed": is_agreed}))
    if detach:
        print_json(record) if as_json else print(f"{record.id} is queued: penstock loadtest show {record.id}")
        return
    with ProgressLine("load test", quiet=as_json) as line:
        record = follow(client, record.id, line.tell)
    finish(record, markdown=markdown, html=html, as_json=as_json)


@app.command(epilog="Example: penstock loadtest plan pocket --file chat.load.toml")
def plan(
    route: RouteArgument = None,
    *,
    file: FileOption = None,
    against: AgainstOption = None,
    rate: RateOption = None,
    rates: RatesOption = None,
    concurrency: ConcurrencyOption = None,
    seconds: SecondsOption = None,
    requests: RequestsOption = None,
    limit: LimitOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Say what a test would do and cost. Asks no model."""
    opened = open_home(home, as_json=as_json)
    spec = build_spec(
        file,
        {
            "route": route,
            "against": against,
            "rates": None if rates is None else _numbers(rates),
            "seconds": seconds,
            "requests": requests,
            "limits": limit or None,
        },
        shape={"kind": _kind(None, concurrency, None, None), "rate": rate, "concurrency": concurrency},
        mix={},
    )
    told = ControlClient(opened).post(f"{ROOT}/plan", {"spec": msgspec.to_builtins(spec)})
    planned = msgspec.convert(told, LoadPlan, strict=False)
    print_json(planned) if as_json else print_plan(planned)


@app.command("list", epilog="Example: penstock loadtest list --route pocket")
def list_tests(
    *,
    route: Annotated[str | None, typer.Option(help="Only of this route.")] = None,
    verdict: Annotated[str | None, typer.Option(help="pass, fail, undecided, invalid or unjudged.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many.")] = 30,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List load tests, newest first."""
    client = ControlClient(open_home(home, as_json=as_json))
    page = client.get(ROOT, route=route, verdict=verdict, limit=limit)
    rows = page["rows"] if as_json else [summary_row(each) for each in page["rows"]]
    columns = (
        "id",
        "route",
        "asked",
        "state",
        "verdict",
        "calls",
        "ttft p95",
        "e2e p95",
        "requests/s",
        "made",
    )
    print_rows(rows, columns, as_json=as_json, empty="No load tests yet: `penstock loadtest ROUTE --rate 2`.")


@app.command(epilog="Example: penstock loadtest show load_01kc3… --html report.html")
def show(
    test_id: TestId,
    *,
    markdown: Annotated[Path | None, typer.Option(help="Write the report as Markdown to this file.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the report as HTML to this file.")] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show what a test found; write its report."""
    client = ControlClient(open_home(home, as_json=as_json))
    record = read_record(client.get(f"{ROOT}/{test_id}"))
    _write(record, markdown, html)
    print_json(record) if as_json else print_record_report(record)


@app.command(epilog="Example: penstock loadtest compare load_01kc3… load_01kc4…")
def compare(
    first: TestId,
    second: Annotated[str, typer.Argument(help="The other one.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Put two tests side by side that were run apart. Better evidence: one run with --against."""
    client = ControlClient(open_home(home, as_json=as_json))
    told = client.get(f"{ROOT}/compare", first=first, second=second)
    sides = msgspec.convert(told, SideBySide, strict=False)
    print_json(sides) if as_json else print_sides(sides)


@app.command(epilog="Example: penstock loadtest export load_01kc3… --out calls.jsonl")
def export(
    test_id: TestId,
    *,
    out: Annotated[Path | None, typer.Option(help="File to write; standard output without it.")] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Write each call of a test, one JSON object a line: moments, tokens, how it ended."""
    pieces = ControlClient(open_home(home, as_json=as_json)).stream(f"{ROOT}/{test_id}/samples")
    if out is None:
        print_pieces(pieces)
    else:
        print_record({"file": str(out), "size_bytes": save_pieces(pieces, out)}, as_json=as_json)


@app.command(epilog="Example: penstock loadtest stop load_01kc3…")
def stop(test_id: TestId, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """End a test; what it has measured is kept."""
    client = ControlClient(open_home(home, as_json=as_json))
    record = read_record(client.post(f"{ROOT}/{test_id}/stop", {}))
    print_record({"id": record.id, "state": record.state}, as_json=as_json)


@app.command(epilog="Example: penstock loadtest delete load_01kc3…")
def delete(test_id: TestId, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Forget a test and its calls."""
    client = ControlClient(open_home(home, as_json=as_json))
    print_record(client.delete(f"{ROOT}/{test_id}"), as_json=as_json)


def build_spec(
    file: Path | None, given: dict[str, Any], *, shape: dict[str, Any], mix: dict[str, Any]
) -> LoadSpec:
    """Return the test of a file with what the options say put over it; raise `InvalidInput`, `InvalidLoadTest`."""
    content = read_document(file) if file is not None else {}
    if file is not None:
        content.setdefault("name", file.stem.removesuffix(".load"))
    content |= {key: value for key, value in given.items() if value is not None}
    changed = {key: value for key, value in shape.items() if value is not None}
    if changed:
        content["shape"] = {**content.get("shape", {}), **changed}
    lengths = {key: value for key, value in mix.items() if value is not None}
    if lengths:
        classes = content.get("mix", [{}])
        if len(classes) > 1:
            raise InvalidInput(
                "The file's mix has several classes; lengths stand in each of them.", where="mix"
            )
        content["mix"] = [{**classes[0], **lengths}]
    if "route" not in content:
        raise InvalidInput(
            "A load test needs a route.",
            hint="penstock loadtest ROUTE, or route = in the file.",
            where="route",
        )
    return load_service.read_spec(content)


def follow(client: ControlClient, test_id: str, tell: Any) -> LoadRecord:
    """Return the record once the test has ended. Interrupted, it goes on in control."""
    try:
        while True:
            record = read_record(client.get(f"{ROOT}/{test_id}"))
            if record.state in FINAL_STATES:
                return record
            if record.job_id is not None:
                job = client.get(f"/api/v1/jobs/{record.job_id}")["job"]
                tell(job.get("progress"), job.get("message") or record.state)
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        print(
            f"\nIt goes on in the background: `penstock loadtest show {test_id}`, `penstock loadtest stop {test_id}`.",
            file=sys.stderr,
        )
        raise


def finish(record: LoadRecord, *, markdown: Path | None, html: Path | None, as_json: bool) -> None:
    """Print and write what a test found; exit with its verdict's code."""
    if record.state == "failed":
        error = record.error or {}
        raise JobFailed(
            f"Load test {record.id} failed: {record.sentence or 'no reason given'}", hint=error.get("hint")
        )
    _write(record, markdown, html)
    print_json(record) if as_json else print_record_report(record)
    code = reports.EXIT_CODES[record.verdict] if record.verdict is not None else 0
    if code:
        raise typer.Exit(code)


def read_record(told: Any) -> LoadRecord:
    """Return the record that REST gave."""
    return msgspec.convert(told, LoadRecord, strict=False)


def _write(record: LoadRecord, markdown: Path | None, html: Path | None) -> None:
    if markdown is not None:
        markdown.write_text(reports.to_markdown(record), encoding="utf-8")
    if html is not None:
        html.write_text(reports.to_html(record), encoding="utf-8")


def _kind(
    arrivals: ShapeKind | None, concurrency: int | None, to_rate: float | None, burst: int | None
) -> ShapeKind | None:
    if concurrency is not None:
        if arrivals is not None or to_rate is not None or burst is not None:
            raise InvalidInput("Callers that wait for each reply have no arrivals.", where="concurrency")
        return "closed"
    return arrivals or ("ramp" if to_rate is not None else "burst" if burst is not None else None)


def _length(text: str) -> int | tuple[int, int]:
    low, dash, high = text.partition("-")
    try:
        return (int(low), int(high)) if dash else int(text)
    except ValueError as error:
        raise InvalidInput(f"{text!r} is no number of tokens.", hint="Write 200, or 50-400.") from error


def _numbers(text: str) -> list[float]:
    try:
        return [float(each) for each in text.split(",") if each.strip()]
    except ValueError as error:
        raise InvalidInput(f"{text!r} are no rates.", hint="Write them like 1,2,4.") from error
