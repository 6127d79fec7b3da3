"""Plots: gaps stay gaps, scales hold every value, labels never overlap, colours stay with what they mean."""

import itertools
import json
import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.console.formats import end_cut
from penstock.console.measured import format_change, format_value
from penstock.console.panels import build_card, shorten
from penstock.console.plots import (
    Series,
    choose_width_ns,
    dots_of,
    draw_bars,
    draw_lines,
    path_of,
    round_up,
    scale_of,
    spread_labels,
    tone_of,
)
from penstock.spec.measures import MetricCell, find_measure
from penstock.traces.measures.types import Panel, PanelView, Report, ReportRow, Zoom

MINUTE = 60_000_000_000
values = st.lists(st.none() | st.floats(-1e9, 1e9), min_size=1, max_size=30)


@given(values)
def test_every_known_value_lies_within_the_scale(found: list[float | None]) -> None:
    known = [value for value in found if value is not None]
    low, high = scale_of(known)
    assert low <= 0 <= high
    assert low < high
    assert all(low * 1.0001 - 1e-9 <= value <= high * 1.0001 + 1e-9 for value in known)


@given(values)
def test_a_path_draws_each_known_value_once_and_no_line_over_a_gap(found: list[float | None]) -> None:
    low, high = scale_of([value for value in found if value is not None])
    path = path_of(found, low, high)
    runs = "".join("x" if value is None else "o" for value in found).replace("x", " ").split()
    assert path.count("M") == len(runs)
    alone = sum(len(run) == 1 for run in runs)
    assert len(re.findall(r"[ML]", path)) == sum(map(len, runs)) + alone


def test_a_value_without_neighbours_is_a_point_that_can_be_seen() -> None:
    assert dots_of([None, 1.0, None, 2.0, 3.0, None, 4.0], 0.0, 4.0).count("M") == 2
    assert dots_of([1.0, 2.0], 0.0, 4.0) == ""


def test_a_share_of_nothing_but_zeros_is_not_drawn_on_a_scale_up_to_the_whole() -> None:
    def top(found: list[float | None]) -> str:
        series = [Series(name="error_share", values=found, tone="bad")]
        return draw_lines(
            series,
            title="",
            unit="share",
            starts=[0, MINUTE],
            width_ns=MINUTE,
            until_ns=2 * MINUTE,
            zoom_href="",
        ).top

    assert top([0.0, 0.0]) == format_value(0.1, "share")
    assert top([0.0, 0.9]) == format_value(1.0, "share")


@given(st.lists(st.floats(0, 100), max_size=10))
def test_labels_keep_their_order_and_their_distance(heights: list[float]) -> None:
    placed = spread_labels(heights)
    ranked = sorted(range(len(heights)), key=lambda index: heights[index])
    ordered = [placed[index] for index in ranked]
    assert all(later - earlier >= 8.9 for earlier, later in itertools.pairwise(ordered))
    assert all(3.9 <= value <= 96.1 for value in placed)


def test_a_value_keeps_its_colour_whatever_stands_beside_it() -> None:
    alone = tone_of("model", "gpt-4o", {})
    assert tone_of("model", "gpt-4o", {"9": "other"}) == alone
    assert tone_of("model", "gpt-4o", {alone: "taken"}) != alone
    assert tone_of("status", "error", {}) == "bad"
    assert tone_of("status", None, {}) == "quiet"


def test_a_plot_tells_what_is_behind_each_slice_and_marks_the_unfinished_one() -> None:
    plot = draw_lines(
        [
            Series(
                name="p95",
                tone="1",
                values=[120.0, None, 90.0],
                before=[60.0, 70.0, None],
                behind=[4, 0, 2],
                href="/traces?q=a",
            )
        ],
        title="Latency",
        unit="ms",
        starts=(0, MINUTE, 2 * MINUTE),
        width_ns=MINUTE,
        until_ns=2 * MINUTE + MINUTE // 2,
        zoom_href="/dashboards/x",
    )
    data = json.loads(plot.data)
    assert data["lines"][0]["words"][0] == "120 ms, before 60 ms, of 4"
    assert data["lines"][0]["words"][1] == "–, of 0"
    assert [each["name"].endswith("so far") for each in data["slices"]] == [False, False, True]
    assert data["slices"][2]["until"] == str(2 * MINUTE + MINUTE // 2)
    assert plot.lines[0].path.count("M") == 2
    assert plot.lines[0].before
    assert (plot.top, plot.base_y, plot.is_labelled) == ("120 ms", 100.0, False)


def test_bars_stand_on_the_baseline_with_the_bad_part_inside() -> None:
    plot = draw_bars(
        Series(name="calls", tone="quiet", values=[10.0, 0.0]),
        Series(name="failed", tone="bad", values=[2.0, 0.0]),
        title="",
        unit="count",
        starts=(0, MINUTE),
        width_ns=MINUTE,
        until_ns=2 * MINUTE,
        zoom_href="",
    )
    first = plot.bars[0]
    assert (first.y + first.height, first.bad_y + first.bad_height) == (100.0, 100.0)
    assert first.bad_height == first.height / 5
    assert plot.empty is None


def test_nothing_known_is_said_and_not_drawn() -> None:
    plot = draw_lines(
        [Series(name="p95", tone="1", values=[None])],
        title="",
        unit="ms",
        starts=(0,),
        width_ns=1,
        until_ns=1,
        zoom_href="",
    )
    assert plot.empty == "No value in this window"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "ms", "–"),
        (0.0, "count", "0"),
        (12.0, "count", "12"),
        (1.25, "count", "1.25"),
        (1_234_567.0, "tokens", "1.2 M"),
        (0.014, "share", "1.4 %"),
        (0.99987, "share", "> 99.9 %"),
        (1.0, "share", "100.0 %"),
        (0.5, "score", "0.50"),
        (41.0, "tokens/s", "41 tok/s"),
        (0.00042, "usd", "$0.00042"),
        (1530.0, "ms", "1.53 s"),
    ],
)
def test_values_read_with_their_unit(value: float | None, unit: str, text: str) -> None:
    assert format_value(value, unit) == text  # type: ignore[arg-type]
    assert format_value(0.3, "usd", Decimal("0.30")) == "$0.30"


def test_changes_have_a_sign_and_no_false_digits() -> None:
    assert [format_change(each) for each in (0.034, -0.5, 0.0, None)] == ["+3.4 %", "−50 %", "±0.0 %", "–"]


def test_titles_are_told_without_what_all_of_them_say() -> None:
    assert shorten(["Latency p50", "Latency p95"]) == ["p50", "p95"]
    assert shorten(["Input tokens", "Output tokens"]) == ["Input tokens", "Output tokens"]
    assert shorten(["Calls"]) == ["Calls"]


@given(st.integers(1, 10**17), st.integers(1, 200))
def test_a_window_is_cut_into_few_slices(length: int, n_most: int) -> None:
    assert -(-length // choose_width_ns(0, length, n_most=n_most)) <= n_most


def test_scales_end_at_round_numbers() -> None:
    assert [round_up([value]) for value in (0.0, 0.7, 23.0, 61.0, 1001.0)] == [1.0, 0.8, 25.0, 80.0, 1200.0]


@pytest.mark.parametrize(
    ("measure", "since", "drawn"),
    [("calls", 30, [None, 9.0, 9.0]), ("calls", 0, [9.0, 9.0, 9.0]), ("latency_p50", 30, [9.0, 9.0, 9.0])],
)
def test_the_sum_of_a_slice_that_began_before_the_window_is_not_drawn_as_a_fall(
    measure: str, since: int, drawn: list[float | None]
) -> None:
    found = find_measure(measure)
    assert found is not None
    cells = {measure: MetricCell(value=9.0, n=9)}
    zoom = Zoom(search="", since_ns=0, until_ns=3 * MINUTE, spans=False)
    report = Report(
        measures=(found,),
        by=(),
        since_ns=since * 1_000_000_000,
        until_ns=3 * MINUTE,
        bucket_ns=MINUTE,
        slices=(0, MINUTE, 2 * MINUTE),
        rows=[
            ReportRow(cells=cells, n=9, group={}, start_ns=at * MINUTE, zoom=zoom, before={}, change={})
            for at in range(3)
        ],
        n_groups=1,
        n_matched=27,
    )
    panel = Panel(title="It", measures=(measure,))
    plot = build_card(PanelView(panel=panel, report=report), zoom_href="/dashboards/it?").plot
    assert plot is not None
    assert json.loads(plot.data)["lines"][0]["values"] == drawn


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("How long should I", "How long should I"),
        ("How long should I sle", "How long should I …"),
        ("How" + "g" * 18, "How" + "g" * 18 + " …"),
    ],
)
def test_one_sees_that_a_question_was_cut(text: str, shown: str) -> None:
    assert end_cut(text, 21) == shown


@pytest.mark.parametrize(("n_lines", "has_bands"), [(3, True), (4, False)])
def test_intervals_of_many_lines_are_not_drawn_over_each_other(n_lines: int, has_bands: bool) -> None:
    series = [
        Series(name=f"line {at}", tone="1", values=[0.2, 0.3], lows=[0.1, 0.2], highs=[0.3, 0.4])
        for at in range(n_lines)
    ]
    plot = draw_lines(
        series,
        title="It",
        unit="share",
        starts=[0, MINUTE],
        width_ns=MINUTE,
        until_ns=2 * MINUTE,
        zoom_href="/x",
    )
    assert [bool(line.band) for line in plot.lines] == [has_bands] * n_lines
    assert "10.0 % to 30.0 %" in plot.data
