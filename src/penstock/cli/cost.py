"""`penstock cost`: sums, show, reconcile, advice. Asks the running control process, else reads the file."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, get_args

import msgspec
import typer

from penstock.base.errors import InvalidInput, NotFound
from penstock.base.late import late_imports
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, open_home
from penstock.cli.output import print_json, print_record, print_rows, time_text
from penstock.store.spans.ledger_types import CostDimension, CostQuery, CostRow
from penstock.traces.costs.errors import BillDiffers
from penstock.traces.costs.exports import read_export

with late_imports():
    from penstock.main import cost_access
    from penstock.traces.costs import service as cost_service

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_MAX_LINES = 40
DIMENSIONS: tuple[str, ...] = get_args(CostDimension)
DEFAULT_TTL_S = 3600
"""How long a cache would keep replies, as the service of costs has it."""

app = typer.Typer(
    help="What calls cost: sums by anything, why one call cost what it did, your provider's bill, advice.",
    epilog="Example: penstock cost --by model --since 7d",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

SinceOption = Annotated[
    str | None, typer.Option(help="Not older than (2h, 7d), or from this day on (2026-03-01).")
]
UntilOption = Annotated[str | None, typer.Option(help="Before: 2h or 7d ago, or this day (2026-04-01), UTC.")]
RouteOption = Annotated[str | None, typer.Option(help="Only this route.")]
ProjectOption = Annotated[str | None, typer.Option(help="Only this project.")]


@app.callback(epilog="Example: penstock cost --by model --by key --since 30d")
def sums(
    context: typer.Context,
    *,
    by: Annotated[
        list[str] | None, typer.Option(help=f"Group by: {', '.join(DIMENSIONS)}. May be repeated.")
    ] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    project: ProjectOption = None,
    key: Annotated[str | None, typer.Option(help="Only this key's id.")] = None,
    user: Annotated[str | None, typer.Option(help="Only this user.")] = None,
    route: RouteOption = None,
    provider: Annotated[str | None, typer.Option(help="Only this provider.")] = None,
    model: Annotated[str | None, typer.Option(help="Only this model.")] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Sum what billed calls cost; by model unless told."""
    if context.invoked_subcommand is not None:
        return
    since_ns, until_ns = _window(since, until)
    query = CostQuery(
        since_ns=since_ns,
        until_ns=until_ns,
        project=project,
        key=key,
        user=user,
        route=route,
        provider=provider,
        model=model,
    )
    names = [name for item in by or ["model"] for name in item.split(",") if name]
    with cost_access.open_costs(open_home(home, as_json=as_json)) as costs:
        report = costs.sum_costs(query, names)
    if as_json:
        print_json(report)
        return
    rows = [_sum_row(row) for row in report.rows]
    if sys.stdout.isatty() and len(rows) > 1:
        rows.append({**_sum_row(report.total), names[0]: "total"})
    columns = [*names, "calls", "input", "output", "cost_usd", "unpriced", "estimated", "saved_usd"]
    print_rows(rows, columns, as_json=False, empty="No billed calls yet: make a call through the gateway.")


@app.command(epilog="Example: penstock cost show 4bf92f3577b34da6a3ce929d0e0e4736")
def show(
    identity: Annotated[str, typer.Argument(help="The id of a trace (32 characters) or span (16).")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Say why a call cost what it did: tokens by class, times their price, and where the price is from."""
    with cost_access.open_costs(open_home(home, as_json=as_json)) as costs:
        found = costs.explain(identity)
    if as_json:
        print_json(found)
        return
    for number, one in enumerate(found):
        if number:
            print()
        _print_explanation(one)


@app.command(epilog="Example: penstock cost reconcile usage.csv --tolerance 0.02")
def reconcile(
    file: Annotated[
        Path, typer.Argument(help="The export: JSON of OpenAI's or Anthropic's interface, or CSV.")
    ],
    *,
    provider: Annotated[
        str | None, typer.Option(help="Compare with the calls to this provider (its name in your settings).")
    ] = None,
    tolerance: Annotated[str, typer.Option(help="Part by which numbers may differ: 0.01 is 1 %.")] = "0.01",
    columns: Annotated[
        list[str] | None,
        typer.Option("--map", help="For another CSV: OURS=COLUMN, such as input=Tokens. May be repeated."),
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Compare a provider's usage or cost export with the ledger, by day, model and class.

    Ends with exit code 3 when a number differs by more than the tolerance.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise NotFound(f"{file} cannot be read: {error.strerror}.") from error
    export = read_export(data, columns=_mapping(columns or []))
    with cost_access.open_costs(open_home(home, as_json=as_json)) as costs:
        result = cost_access.reconcile_through(costs, export, provider=provider, tolerance=_share(tolerance))
    if as_json:
        print_json(result)
    else:
        days = f"{result.days[0]} to {result.days[-1]}" if len(result.days) > 1 else result.days[0]
        print(f"{result.export}, {days}: {result.n_compared} numbers compared, {len(result.lines)} differ.")
        rows = [
            {
                "day": line.day,
                "model": line.model,
                "what": line.measure,
                "ours": line.ours,
                "theirs": line.theirs,
                "differs": f"{line.share * 100:.2f} %" + (" !" if line.is_over else ""),
                "likely": "; ".join(line.causes),
            }
            for line in result.lines[:_MAX_LINES]
        ]
        if rows:
            print_rows(rows, ["day", "model", "what", "ours", "theirs", "differs", "likely"], as_json=False)
        if len(result.lines) > _MAX_LINES:
            print(f"… and {len(result.lines) - _MAX_LINES} more; --json shows all.")
    if not result.is_within:
        n_over = sum(line.is_over for line in result.lines)
        raise BillDiffers(
            f"{n_over} numbers differ by more than {tolerance}.",
            hint="The likely causes stand beside them; a larger --tolerance accepts more.",
        )


@app.command(epilog="Example: penstock cost advice --since 7d --candidate openai/gpt-4o-mini")
def advice(
    *,
    since: SinceOption = None,
    until: UntilOption = None,
    project: ProjectOption = None,
    route: RouteOption = None,
    ttl: Annotated[
        int, typer.Option(min=1, help="How long a cache would keep replies, in seconds.")
    ] = DEFAULT_TTL_S,
    candidate: Annotated[
        list[str] | None, typer.Option(help="Price the traffic at this PROVIDER/MODEL too. May be repeated.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Say what a cache, another model or the provider's prompt cache would have saved on the recorded calls."""
    since_ns, until_ns = _window(since, until)
    query = CostQuery(since_ns=since_ns, until_ns=until_ns, project=project, route=route)
    with cost_access.open_costs(open_home(home, as_json=as_json)) as costs:
        found = costs.advise(query, ttl_s=ttl, candidates=candidate or [])
    if as_json:
        print_json(found)
        return
    if not found.n_calls:
        print("No billed calls yet: make a call through the gateway.")
        return
    newest = " (the newest; there were more)" if found.is_cut else ""
    print(f"{found.n_calls} calls{newest}, {_money(found.cost_usd)} USD.")
    print(f"\nAn exact cache that keeps replies {found.ttl_s} s would have answered:")
    rows = [{**msgspec.structs.asdict(one), "saved_usd": _money(one.saved_usd)} for one in found.cache]
    _print_or(
        rows,
        ["route", "n_calls", "n_repeats", "saved_usd", "n_unpriced"],
        "nothing: no request came twice in time.",
    )
    print("\nThe same tokens at another model (if quality holds: try it, its answers were not compared):")
    models = [
        {
            "route": one.route,
            "now": f"{one.provider}/{one.model}",
            "candidate": one.candidate,
            "calls": one.n_calls,
            "cost_usd": _money(one.cost_usd),
            "would_cost_usd": _money(one.candidate_usd),
            "saved_usd": _money(one.saved_usd),
        }
        for one in found.models[:_MAX_LINES]
    ]
    _print_or(
        models, list(models[0]) if models else [], "no cheaper model is known; name some with --candidate."
    )
    print("\nBeginnings of prompts that providers had just seen:")
    prefixes = [
        {
            "route": one.route,
            "model": one.model,
            "repeats": one.n_repeats,
            "tokens": one.prefix_tokens,
            "paid_in_full": f"{one.missed_share * 100:.0f} %",
            "saved_usd": _money(one.saved_usd),
        }
        for one in found.prefixes
    ]
    _print_or(
        prefixes,
        list(prefixes[0]) if prefixes else [],
        "none of 1024 tokens or more came again within minutes.",
    )


def _print_explanation(one: cost_service.CostExplanation) -> None:
    call = one.call
    print_record(
        {
            "trace": call.trace_id,
            "span": call.span_id,
            "time": time_text(call.start_ns),
            "route": call.route,
            "provider": call.provider,
            "model": call.model,
            "cost_usd": call.cost_usd,
            "source": call.cost_source,
        },
        as_json=False,
    )
    rows: list[dict[str, Any]] = [
        {
            "class": part.usage_class,
            "tokens": part.tokens,
            "usd_per_million": part.usd_per_million,
            "usd": part.usd,
        }
        for part in one.parts
    ]
    if one.other_usd:
        rows.append({"class": "other", "usd": one.other_usd})
    if rows:
        print_rows(rows, ["class", "tokens", "usd_per_million", "usd"], as_json=False)
    for sentence in one.why:
        print(sentence)


def _print_or(rows: list[dict[str, Any]], columns: list[str], otherwise: str) -> None:
    if rows:
        print_rows(rows, columns, as_json=False)
    else:
        print(f"  {otherwise}")


def _sum_row(row: CostRow) -> dict[str, Any]:
    return {
        **row.group,
        "calls": row.n_calls,
        "input": row.input_tokens,
        "output": row.output_tokens,
        "cost_usd": _money(row.cost_usd),
        "unpriced": row.n_unpriced or None,
        "estimated": row.n_estimated or None,
        "saved_usd": _money(row.saved_usd),
    }


def _money(amount: Decimal | None) -> str | None:
    """Return an amount for a table: to a millionth of a dollar; `--json` has every digit."""
    return None if amount is None else f"{amount:.6f}"


def _window(since: str | None, until: str | None) -> tuple[int, int]:
    return (
        0 if since is None else _moment_ns(since),
        2**63 - 1 if until is None else _moment_ns(until),
    )


def _moment_ns(text: str) -> int:
    number, unit = text[:-1], text[-1:]
    if number.isdigit() and unit in _UNITS_S:
        return max(0, time.time_ns() - int(number) * _UNITS_S[unit] * 1_000_000_000)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(f"{text!r} is no moment.", hint="Write it like 2h, 7d, or 2026-03-31.") from error
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return max(0, int(aware.timestamp()) * 1_000_000_000)


def _mapping(items: list[str]) -> dict[str, str]:
    pairs = [item.partition("=") for item in items]
    for ours, sign, theirs in pairs:
        if not sign or not ours or not theirs:
            raise InvalidInput(
                f"{ours!r} is no mapping.", hint="Write it as OURS=COLUMN, such as input=Tokens."
            )
    return {ours: theirs for ours, _, theirs in pairs}


def _share(text: str) -> Decimal:
    try:
        share = Decimal(text)
    except InvalidOperation as error:
        raise InvalidInput(f"{text!r} is no number.", hint="Write 0.01 for 1 %.") from error
    if not share.is_finite() or not 0 <= share <= 1:
        raise InvalidInput(f"{text!r} is not between 0 and 1.", hint="Write 0.01 for 1 %.")
    return share
