"""Rows from traffic and feedback."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine

from penstock.base.errors import InvalidInput, NotFound
from penstock.datasets.errors import EmptyDataset
from penstock.datasets.service import DatasetService
from penstock.datasets.types import Judgement, RowEdit, TrafficRow
from penstock.main.dataset_traffic import read_payload
from tests.datasets.workbench import MadeUpTraffic, make_call, make_datasets


def judged(call: TrafficRow | None, value: float | None, **changes: Any) -> Judgement:
    values: dict[str, Any] = {
        "name": "thumbs",
        "label": None,
        "comment": None,
        "correction": None,
        "time_ns": 1,
    }
    return Judgement(**{**values, **changes}, value=value, call=call)


@pytest.fixture
def traffic() -> MadeUpTraffic:
    calls = [
        make_call(1, "How long?", "Eight hours."),
        make_call(2, "How long?", "Nine hours."),
        make_call(3, "Gone", dropped=True),
        make_call(4, "No reply", None),
        make_call(5, "", None, messages=[], inputs={"query": "naps", "k": 4}),
        make_call(6, "", None, messages=[]),
    ]
    feedback = [
        judged(calls[0], 1.0),
        judged(calls[1], 0.0, comment="no"),
        judged(calls[1], None, name="correction", correction="Seven hours."),
        judged(None, 1.0),
        judged(calls[2], 1.0),
    ]
    return MadeUpTraffic(calls, feedback)


@pytest.fixture
def datasets(tmp_path: Path, sqlite_engine: Engine, traffic: MadeUpTraffic) -> DatasetService:
    return make_datasets(tmp_path, sqlite_engine, traffic)


def test_calls_become_cases_and_what_makes_none_is_counted(datasets: DatasetService) -> None:
    made = datasets.from_traces("asked", "pocket")
    rows = list(datasets.read(made.ref))
    assert [row.fields for row in rows] == [
        {"messages": [{"role": "user", "content": "How long?"}]},
        {"messages": [{"role": "user", "content": "No reply"}]},
        {"inputs": {"query": "naps", "k": 4}},
    ]
    assert made.facts.left_out == {"asks the same again": 1, "payload not kept": 1, "nothing was asked": 1}
    assert (rows[0].group, rows[0].metadata) == ("s1", {"model": "pocket"})
    assert rows[0].provenance is not None
    assert rows[0].provenance.source == f"{1:032x}/{1:016x}"
    assert made.facts.sources[0]["kind"] == "trace"


def test_replies_or_corrections_are_expected_where_asked(datasets: DatasetService) -> None:
    made = datasets.from_traces("replies", "pocket", expected="reply", dedupe=False)
    assert [row.fields["expected"] for row in datasets.read(made.ref)] == ["Eight hours.", "Nine hours."]
    made = datasets.from_traces("corrected", "pocket", expected="feedback")
    assert [(row.id[-1], row.fields["expected"]) for row in datasets.read(made.ref)] == [
        ("2", "Seven hours.")
    ]
    with pytest.raises(InvalidInput):
        datasets.from_traces("x", expected="hope")
    with pytest.raises(EmptyDataset, match="nothing was found"):
        datasets.from_traces("x", "no such model")


def test_traffic_is_appended_once(datasets: DatasetService, traffic: MadeUpTraffic) -> None:
    datasets.from_traces("asked", "pocket")
    again = datasets.from_traces("asked", "pocket", append=True)
    assert again.number == 1
    traffic.calls.append(make_call(9, "Something new"))
    more = datasets.from_traces("asked", "pocket", append=True)
    assert (more.number, more.facts.n_rows) == (2, 4)


def test_feedback_becomes_cases_labels_and_preferences(datasets: DatasetService) -> None:
    made = datasets.from_feedback("cases")
    rows = list(datasets.read(made.ref))
    assert [(row.fields.get("expected"), row.tags) for row in rows] == [
        ("Eight hours.", ["approved"]),
        ("Seven hours.", ["disapproved"]),
    ]
    assert rows[1].metadata["feedback"] == {"name": "thumbs", "value": 0.0, "comment": "no"}
    assert made.facts.left_out == {"judged call not found": 1, "payload not kept": 1}
    labels = datasets.from_feedback("labels", form="label", score="thumbs")
    assert [row.fields for row in datasets.read(labels.ref)] == [
        {"text": "Eight hours.", "label": "good"},
        {"text": "Nine hours.", "label": "bad"},
    ]
    pairs = datasets.from_feedback("pairs", form="preference")
    (pair,) = datasets.read(pairs.ref)
    assert (pair.fields["chosen"], pair.fields["rejected"]) == ("Seven hours.", "Nine hours.")
    assert pairs.facts.left_out["no correction by a person"] == 1
    with pytest.raises(InvalidInput):
        datasets.from_feedback("x", form="chat")


def test_a_call_is_added_once_and_its_expectation_can_be_mended(datasets: DatasetService) -> None:
    trace = f"{1:032x}"
    first = datasets.add_trace("hard", trace, tags=["sleep"])
    assert (first.number, first.facts.tags) == (1, {"sleep": 1})
    assert datasets.add_trace("hard", trace).number == 1
    assert datasets.add_trace("hard", trace, expected="Eight.").number == 2
    assert datasets.add_trace("hard", f"{2:032x}", expected="Nine.").facts.n_rows == 2
    assert [row.fields.get("expected") for row in datasets.read("hard")] == ["Eight.", "Nine."]
    with pytest.raises(InvalidInput, match="payload not kept"):
        datasets.add_trace("hard", f"{3:032x}")
    with pytest.raises(NotFound):
        datasets.add_trace("hard", f"{77:032x}")


def test_without_traffic_it_says_so(tmp_path: Path, sqlite_engine: Engine) -> None:
    with pytest.raises(NotFound, match="no record of traffic"):
        make_datasets(tmp_path, sqlite_engine).from_traces("x")


@pytest.mark.parametrize(
    ("sent", "received", "messages", "inputs", "reply"),
    [
        (
            {"messages": [{"role": "user", "content": "q"}]},
            {"choices": [{"message": {"role": "assistant", "content": "a"}}]},
            [{"role": "user", "content": "q"}],
            {},
            "a",
        ),
        (
            {"system": "be kind", "messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}]},
            {"content": [{"type": "text", "text": "a"}]},
            [{"role": "system", "content": "be kind"}, {"role": "user", "content": "q"}],
            {},
            "a",
        ),
        (
            {"contents": [{"role": "model", "parts": [{"functionCall": {"name": "f", "args": {"x": 1}}}]}]},
            None,
            [
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {
                            "id": "call_0",
                            "type": "function",
                            "function": {"name": "f", "arguments": '{"x":1}'},
                        }
                    ],
                }
            ],
            {},
            None,
        ),
        ({"city": "Bonn"}, {"degrees": 3}, [], {"city": "Bonn"}, {"degrees": 3}),
        (None, None, [], {}, None),
    ],
)
def test_payloads_of_any_dialect_are_told_in_one_shape(
    sent: Any, received: Any, messages: Any, inputs: Any, reply: Any
) -> None:
    assert read_payload(sent, received) == (messages, inputs, reply)


def test_adding_a_call_again_leaves_what_a_person_made_of_its_row(datasets: DatasetService) -> None:
    trace = f"{1:032x}"
    datasets.add_trace("hard", trace, expected="gold", tags=["hard"], split="test")
    (row,) = datasets.read("hard")
    edited = msgspec.structs.replace(
        row, group="g", metadata={"seen": True}, fields={**row.fields, "passages": ["p"]}
    )
    datasets.edit("hard", RowEdit(set=[edited]))
    assert datasets.add_trace("hard", trace).number == 2
    assert datasets.add_trace("hard", trace, tags=["hard", "new"], split="dev").number == 3
    datasets.add_trace("hard", trace, expected="better")
    (row,) = datasets.read("hard")
    assert row == msgspec.structs.replace(
        edited, tags=["hard", "new"], split="dev", fields={**edited.fields, "expected": "better"}
    )
