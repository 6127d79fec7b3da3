"""The pure parts of pages of knowledge: rank changes, marked text, settings read from a line, charts with intervals."""

import pytest

from penstock.base.errors import InvalidInput
from penstock.console.interval_charts import Measured, draw_intervals
from penstock.console.knowledge_words import list_differences, read_changes, read_principals
from penstock.console.marked_text import cut_pieces
from penstock.console.search_sides import find_gone, make_side, tell_change
from penstock.console.source_forms import make_groups, read_settings
from penstock.knowledge.quality.report_types import ExplainedHit, Explanation
from penstock.knowledge.types import Passage
from penstock.spec.evaluations import Estimate


def hit(rank: int, passage: str, document: str = "a.md", section: str | None = "S") -> ExplainedHit:
    return ExplainedHit(
        rank=rank, passage_id=passage, document=document, section=section, text="t", score=1.0 / rank
    )


def passage(start: int, end: int, text: str) -> Passage:
    return Passage(id=f"p{start}", section=None, anchor=None, start=start, end=end, text=text[start:end])


def test_a_passage_cut_otherwise_is_told_by_its_section() -> None:
    others = [hit(1, "x"), hit(2, "y", section="T"), hit(3, "z", document="b.md")]
    assert tell_change(hit(1, "x"), others) == ("same rank", "same")
    assert tell_change(hit(1, "y", section="T"), others) == ("up 1", "up")
    assert tell_change(hit(5, "z", document="b.md"), others) == ("down 2", "down")
    assert tell_change(hit(1, "other", document="b.md"), others) == ("same section, up 2", "up")
    assert tell_change(hit(1, "n", document="new.md"), others) == ("new", "up")


def test_what_the_other_side_alone_found_is_listed() -> None:
    gone = find_gone("base", [hit(1, "x")], [hit(1, "x"), hit(2, "y"), hit(3, "z", document="d e.md")])
    assert [(each.rank, each.href) for each in gone] == [(3, "/knowledge/base/documents/d%20e.md#z")]


def test_a_side_that_failed_says_why_and_has_no_hits() -> None:
    side = make_side("base", "words", None, error="no such track")
    assert (side.error, side.lines, side.kind_of_search) == ("no such track", (), "")
    found = Explanation(base="base", generation="g", question="q", k=3, mode="lexical", hits=[])
    assert make_side("base", "words", found).kind_of_search == "by words"


def test_text_is_cut_into_passages_each_character_once() -> None:
    text = "One two. Three four. Five."
    pieces = cut_pieces(text, [passage(0, 8, text), passage(4, 20, text)])
    assert "".join(each.text for each in pieces) == text
    assert [each.number for each in pieces] == [1, 2, 0]
    assert pieces[1].n_overlap == 4


def test_text_that_does_not_fit_its_passages_shows_the_passages() -> None:
    pieces = cut_pieces("short", [passage(0, 8, "One two. Three.")])
    assert [each.text for each in pieces] == ["One two."]


def test_settings_are_read_from_a_line() -> None:
    assert read_changes("chunk.size=256 search.fusion=rrf") == {
        "chunk": {"size": 256},
        "search": {"fusion": "rrf"},
    }
    assert read_changes("fusion=rrf, search.diversity=0.2 rerank=none", part="search") == {
        "search": {"fusion": "rrf", "diversity": 0.2, "rerank": None}
    }
    for wrong in ("size", "=3", "chunk.=3"):
        with pytest.raises(InvalidInput):
            read_changes(wrong)


def test_recipes_differ_in_what_was_said_and_old_ones_are_read() -> None:
    (only,) = list_differences({"chunk": {"size": 256}}, {})
    assert (only.name, only.value, only.before) == ("chunk.size", "256", "160")
    assert list_differences({"max_words": 160}, {}) == ()


def test_nobody_told_sees_everything_and_somebody_is_also_everyone() -> None:
    assert read_principals("  ") is None
    assert read_principals("ada, group:finance") == ["user:ada", "group:finance", "everyone"]
    assert read_principals("everyone") == ["everyone"]


def test_what_is_left_at_its_default_is_no_setting() -> None:
    told = {"s-location": "/srv", "s-include": "a\r\nb\n", "s-watch": "no", "s-max_gone_share": "0.5"}
    read = read_settings("folder", told)
    assert {key: value for key, value in read.items() if value is not None} == {
        "location": "/srv",
        "include": ["a", "b"],
    }
    groups = make_groups("web", {"depth": 4}, {})
    assert next(each.value for each in groups.own if each.name == "depth") == "4"
    assert {each.name for each in groups.more} >= {"max_bytes", "properties"}


def test_a_chart_keeps_the_order_and_draws_intervals_within_it() -> None:
    def measured(value: float | None, group: str) -> Measured:
        estimate = Estimate(
            name="recall@5", value=value, low=value and value - 0.1, high=value, n=9, n_cases=9
        )
        return Measured(estimate=estimate, group=group, label="v1", href="/x")

    chart = draw_intervals(
        [measured(0.8, "a"), measured(None, "a"), measured(0.9, "b"), measured(0.95, "a")], title="recall@5"
    )
    assert chart is not None
    assert [point.x for point in chart.points] == [16.67, 50.0, 83.33]
    assert [point.tone for point in chart.points] == [1, 2, 1]
    assert len(chart.lines) == 1  # figures of other questions are never joined
    assert all(point.low is not None and 0 <= point.y <= point.low <= 100 for point in chart.points)
    assert draw_intervals([measured(None, "a")], title="x") is None
