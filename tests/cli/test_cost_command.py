"""`penstock cost` on a stopped home: what is printed, and the exit codes that scripts rely on."""

from decimal import Decimal
from pathlib import Path

import pytest

from penstock.spec.home import Home
from penstock.spec.usage import Usage
from penstock.store.spans.duckdb import DuckDBSpanStore
from tests.cli.commands import call
from tests.fixtures.spans import T0, make_span

EXPORT = "day,model,requests,input,output,cost_usd\n2026-09-21,gpt-4o,2,2000,200,{cost}\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    store = DuckDBSpanStore(Home(root=tmp_path).span_db)
    store.append(
        [
            make_span(
                number,
                trace=number,
                kind="llm",
                service="gateway",
                route="chat",
                provider="lab",
                model="gpt-4o",
                key_id=f"key_{number}",
                start_ns=T0 + number,
                usage=Usage(input_uncached=1000, output_text=100),
                cost_usd=Decimal("0.0035"),
                cost_source="settings",
                attributes={"penstock.cost.rates": {"input_uncached": "2.5", "output_text": "10"}},
                input={"model": "chat", "messages": [{"role": "user", "content": "Hi"}]},
            )
            for number in (1, 2)
        ]
    )
    store.close()
    return tmp_path


def test_sums_are_by_model_unless_told(home: Path) -> None:
    told = call("cost", home=home)
    assert told.code == 0, told.err
    header, row = (line.split("\t") for line in told.out.splitlines())
    assert dict(zip(header, row, strict=True)) | {"unpriced": "-"} == {
        "model": "gpt-4o",
        "calls": "2",
        "input": "2000",
        "output": "200",
        "cost_usd": "0.007000",
        "unpriced": "-",
        "estimated": "-",
        "saved_usd": "-",
    }
    rows = call("cost", "--by", "day,key", "--since", "2026-09-21", "--json", home=home).json["rows"]
    assert {row["group"]["key"]: row["cost_usd"] for row in rows} == {"key_1": 0.0035, "key_2": 0.0035}
    assert call("cost", "--until", "2026-09-21", "--json", home=home).json["total"]["n_calls"] == 0


def test_show_prints_the_parts_and_the_source(home: Path) -> None:
    told = call("cost", "show", f"{1:032x}", home=home)
    assert "input_uncached\t1000\t2.5\t0.0025" in told.out
    assert "Priced by your own [[prices]]." in told.out
    assert call("cost", "show", "ffffffffffffffff", home=home).code == 2


@pytest.mark.parametrize(
    ("cost", "options", "code"), [("0.007", (), 0), ("0.008", (), 3), ("0.008", ("0.2",), 0)]
)
def test_reconcile_ends_with_3_when_the_bill_differs_by_more_than_the_tolerance(
    home: Path, cost: str, options: tuple[str, ...], code: int
) -> None:
    export = home / "export.csv"
    export.write_text(EXPORT.format(cost=cost))
    told = call("cost", "reconcile", str(export), *(f"--tolerance={one}" for one in options), home=home)
    assert told.code == code, told.err
    assert "numbers compared" in told.out
    if code:
        assert "PS-2661" in told.err
        assert "tokens agree, so the price differs" in told.out
    result = call("cost", "reconcile", str(export), "--json", home=home)
    assert result.json["n_compared"] == 4


@pytest.mark.parametrize(
    "arguments",
    [
        ("reconcile", "no-such-file.csv"),
        ("reconcile", "{export}", "--tolerance", "much"),
        ("reconcile", "{export}", "--tolerance", "7"),
        ("reconcile", "{export}", "--map", "input"),
        ("advice", "--candidate", "small"),
        ("--since", "yesterday"),
        ("--by", "colour"),
    ],
)
def test_mistakes_are_the_caller_s_and_say_what_to_write(home: Path, arguments: tuple[str, ...]) -> None:
    export = home / "export.csv"
    export.write_text(EXPORT.format(cost="1"))
    told = call("cost", *(one.format(export=export) for one in arguments), home=home)
    assert told.code == 2
    assert "PS-" in told.err


def test_advice_is_printed_with_its_doubt(home: Path) -> None:
    told = call("cost", "advice", "--since", "2026-09-01", home=home)
    assert told.code == 0, told.err
    assert "2 calls, 0.007000 USD." in told.out
    assert "chat\t2\t1\t0.003500\t0" in told.out
    assert "if quality holds" in told.out


def test_a_home_without_calls_says_how_to_make_one(tmp_path: Path) -> None:
    told = call("cost", home=tmp_path)
    assert told.code == 2
    assert "penstock up" in told.err
