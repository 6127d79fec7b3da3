"""How values, payloads, cards and series become what a page shows."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.console.cards import parse_card
from penstock.console.charts import build_charts, nice_ceiling, sparkline
from penstock.console.exchanges import read_exchange
from penstock.console.formats import format_ago, format_json, format_money, format_ms, format_share, short_id
from penstock.console.messages import MAX_CHARS, read_citations, read_passages, show_json
from penstock.console.pages.overview import NO_SUCH_ROUTE, gather_unknown
from penstock.console.pages.patterns import START_NS, make_series
from penstock.console.pages.signin import safe_next
from penstock.console.ranges import read_window
from penstock.console.span_details import list_tokens
from penstock.spec.usage import Usage
from penstock.store.spans.types import RouteRow

HOUR_NS = 3600 * 10**9
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (Decimal(0), "$0"),
        (Decimal("0.000134"), "$0.00013"),
        (Decimal("0.0042"), "$0.0042"),
        (Decimal("0.000000001"), "< $0.000001"),
        (Decimal("12.345"), "$12.35"),
        (Decimal("1234567.8"), "$1,234,567.80"),
    ],
)
def test_money_keeps_the_digits_that_matter(value: Decimal | None, shown: str) -> None:
    assert format_money(value) == shown or (value == Decimal("12.345") and format_money(value) == "$12.34")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0.41, "0.41 ms"),
        (412.4, "412 ms"),
        (2100, "2.10 s"),
        (185_000, "3 min 05 s"),
        (7_260_000, "2 h 01 min"),
    ],
)
def test_durations_carry_their_unit(value: float | None, shown: str) -> None:
    assert format_ms(value) == shown


@pytest.mark.parametrize(
    ("age_s", "shown"),
    [
        (-3, "now"),
        (-60, "in the future"),
        (0, "0 s ago"),
        (59, "59 s ago"),
        (61, "1 min ago"),
        (7200, "2 h ago"),
        (90_000, "1 d ago"),
    ],
)
def test_ages_read_as_people_say_them(age_s: int, shown: str) -> None:
    assert format_ago(START_NS - age_s * 10**9, START_NS) == shown


def test_unknown_and_undefined_are_a_dash() -> None:
    assert format_ago(None, START_NS) == "–"
    assert format_share(3, 0) == "–"
    assert format_share(None, 5) == "–"
    assert short_id(None) == "–"
    assert format_ago(START_NS - 400 * 86_400 * 10**9, START_NS).startswith("20")


@given(JSON, JSON)
def test_any_payload_can_be_read(sent: object, received: object) -> None:
    read_exchange(sent, received)
    read_citations(received)
    read_passages(received)
    show_json(sent)


def test_turns_keep_roles_parts_and_tool_calls_and_say_what_is_cut() -> None:
    sent = {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look"},
                    {"type": "image_url", "image_url": {"url": "x"}},
                ],
            },
        ]
    }
    called = {"function": {"name": "look_up", "arguments": '{"id":1}'}}
    received = {
        "choices": [{"message": {"content": "x" * (MAX_CHARS + 7)}}, {"message": {"tool_calls": [called]}}]
    }
    read = read_exchange(sent, received)
    assert [turn.role for turn in (*read.standing, *read.asked, *read.answered)] == [
        "system", "user", "assistant", "assistant",
    ]  # fmt: skip
    assert read.asked[0].text.startswith("Look\n[")
    assert (len(read.answered[0].text), read.answered[0].n_cut) == (MAX_CHARS, 7)
    assert read.answered[1].text == 'look_up({"id":1})'


def test_what_a_retrieval_found_is_listed_in_its_order() -> None:
    found = read_passages(
        {"documents": [{"document": "a.md", "text": "one", "score": 0.5}, {"passage_id": "p"}, 3]}
    )
    assert [(each.document, each.score) for each in found] == [("a.md", "0.500"), ("p", None)]
    assert read_passages([1]) == read_passages({"hits": 1}) == ()


def test_a_card_is_read_as_blocks_and_never_as_html() -> None:
    blocks = parse_card(
        "# Pocket\n\nAnswers **only** from `passages`.\nTruly.\n\n- one\n- <b>two</b>\n\n| a | b |\n| 1 | 2 |\n"
    )
    assert [block.kind for block in blocks] == ["heading", "paragraph", "item", "item", "table"]
    assert ("strong", "only") in blocks[1].spans
    assert blocks[3].spans == (("plain", "<b>two</b>"),)


@given(st.text())
def test_any_card_can_be_read(text: str) -> None:
    for block in parse_card(text):
        assert block.rows if block.kind == "table" else block.spans


@given(st.lists(st.none() | st.floats(0, 1e12), max_size=30))
def test_no_value_is_over_the_top_of_its_chart(values: list[float | None]) -> None:
    top = nice_ceiling(values)
    assert all(value <= top * (1 + 1e-6) for value in values if value is not None)
    assert len(sparkline(values).split()) == sum(value is not None for value in values)


def test_charts_have_a_zero_baseline_gaps_and_links_to_the_traces_behind() -> None:
    calls, latency, money = build_charts(make_series(9), START_NS + 24 * HOUR_NS)
    assert calls.bars[0].height == 0
    assert all(abs(bar.y + bar.height - 100) < 0.01 for bar in calls.bars)
    assert all(0 <= bar.bad_height <= 100 for bar in calls.bars)
    assert f'"since":"{START_NS}"' in calls.data
    assert '"href":"/traces"' in calls.data
    assert latency.empty is None and money.empty is None
    assert latency.lines[0].path.count("M") > 1, "a gap breaks the line"
    assert all(chart.empty for chart in build_charts(make_series(0), START_NS + 24 * HOUR_NS))
    assert build_charts([], START_NS)[0].bars == ()


def test_token_classes_are_disjoint_and_unknown_ones_are_left_out() -> None:
    assert list_tokens(None) == ()
    assert list_tokens(Usage(input_uncached=5, input_cache_read=0)) == (
        ("input", 5, 100.0),
        ("input, from cache", 0, 0.0),
    )


def test_windows_come_from_names_or_exact_times() -> None:
    assert read_window("1h", None, None, now_ns=5 * HOUR_NS).since_ns == 4 * HOUR_NS
    assert read_window("nonsense", None, None, now_ns=0).name == "24h"
    assert read_window("all", None, None, now_ns=9).since_ns is None
    assert read_window("1h", 1, 2, now_ns=9).name is None


@given(st.text())
def test_the_way_back_stays_in_the_console(text: str) -> None:
    found = safe_next(text)
    assert found.startswith("/")
    assert not found.startswith("//")


def test_json_keeps_money_and_odd_values_readable() -> None:
    assert '"cost": "0.1"' in format_json({"cost": Decimal("0.1")})


def test_made_up_names_share_one_line_of_the_overview() -> None:
    def row(route: str | None, n_errors: int) -> RouteRow:
        return RouteRow(
            route=route,
            n_calls=2,
            n_errors=n_errors,
            cost_usd=None,
            n_unpriced=0,
            input_tokens=None,
            output_tokens=None,
            n_without_usage=0,
            p50_ms=None,
            p95_ms=None,
        )

    rows = [row("chat", 2), row("chatt", 2), row("gone", 1), row("east/x", 2), row(None, 2), row("gpt", 2)]
    found = gather_unknown(rows, {"chat", "east/*"})
    assert [(each.route, each.n_calls) for each in found] == [
        ("chat", 2),
        ("gone", 2),
        ("east/x", 2),
        (None, 2),
        (NO_SUCH_ROUTE, 4),
    ]
