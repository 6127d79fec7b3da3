"""JSON compared in any order, and schemas that come from strangers."""

import json
import random
from typing import Any

import pytest

from penstock.evals.scorers import schemas
from penstock.evals.scorers.errors import BadScorerParameters
from penstock.evals.scorers.pairing import Effort, pair_items
from penstock.spec.cases import Case, Output
from tests.evals.scorers.judging import ask, judge, make


@pytest.mark.parametrize(
    ("expected", "found", "parameters", "value"),
    [
        ([{"a": 1}, {"a": 1, "b": 2}], [{"a": 1, "b": 2}, {"a": 1}], {"mode": "subset"}, 1.0),
        ([{"a": 1}, {"a": 1, "b": 2}], [{"a": 1, "c": 2}, {"a": 1}], {"mode": "subset"}, 0.0),
        ([1.0, 1.1], [1.05, 0.96], {"tolerance": 0.06}, 1.0),
        ([1.0, 1.1], [1.05, 1.2], {"tolerance": 0.06}, 0.0),
        ([{"a": 1, "created": 2}], [{"a": 1, "created": 3}], {"ignore": ["/0/created"]}, 1.0),
        (
            {"x": [{"a": 1, "n": 2}, {"a": 2}]},
            {"x": [{"a": 2}, {"a": 1, "n": 3}]},
            {"ignore": ["/x/0/n"]},
            1.0,
        ),
        ([{"a": 1, "created": 2}], [{"a": 1, "created": 3}], {"ignore": ["/1/created"]}, 0.0),
        ([1, True, 2.0], [2, 1.0, True], {}, 1.0),
        ([1, 1], [True, 1], {}, 0.0),
        ([1, 1, 2], [1, 2, 2], {}, 0.0),
        ([1], [1, 2], {}, 0.0),
        ([1], [2, 1], {"mode": "subset"}, 1.0),
        ([[1, 2], [3]], [[3], [2, 1]], {}, 1.0),
    ],
)
def test_lists_in_any_order_are_equal_when_any_pairing_fits(
    expected: Any, found: Any, parameters: dict[str, Any], value: float
) -> None:
    assert judge("json_equal", json.dumps(found), expected, any_order=True, **parameters).value == value


def test_as_many_items_are_paired_as_can_be() -> None:
    rng = random.Random(4)
    for _ in range(200):
        n_wanted, n_found = rng.randint(0, 5), rng.randint(0, 5)
        edges = {(a, b) for a in range(n_wanted) for b in range(n_found) if rng.random() < 0.4}
        pairs = pair_items(n_wanted, n_found, lambda a, b, edges=edges: (a, b) in edges, Effort())  # type: ignore[misc]
        taken = [(a, b) for a, b in enumerate(pairs) if b is not None]
        assert set(taken) <= edges
        assert len({b for _, b in taken}) == len(taken)
        assert len(taken) == _most(edges, 0, n_wanted, frozenset())


def _most(edges: set[tuple[int, int]], at: int, end: int, used: frozenset[int]) -> int:
    if at == end:
        return 0
    best = _most(edges, at + 1, end, used)
    for a, b in edges:
        if a == at and b not in used:
            best = max(best, 1 + _most(edges, at + 1, end, used | {b}))
    return best


def test_long_lists_in_any_order_take_no_quadratic_time_and_too_long_ones_have_no_score() -> None:
    rows = [{"id": n, "name": f"n{n}"} for n in range(3000)]
    assert judge("json_equal", json.dumps(rows[::-1]), rows, any_order=True).value == 1.0
    other = [{"id": n, "name": f"m{n}"} for n in range(3000)]
    assert judge("json_equal", json.dumps(other), rows, any_order=True).value == 0.0
    near = judge("json_equal", json.dumps(other), rows, any_order=True, tolerance=0.1)
    assert (near.status, "any order" in str(near.reason)) == ("undefined", True)


def test_calls_in_any_order_are_paired_so_that_all_fit() -> None:
    wanted = [{"name": "find", "arguments": {"a": 1}}, {"name": "find", "arguments": {"a": 1, "b": 2}}]
    called = [{"name": "find", "arguments": {"a": 1, "b": 2}}, {"name": "find", "arguments": {"a": 1}}]
    scorer = make("tool_call", arguments="subset")
    assert ask(scorer, Case(id="1", expected=wanted), Output(case_id="1", tool_calls=called)).value == 1.0
    missing = ask(scorer, Case(id="1", expected=wanted), Output(case_id="1", tool_calls=called[1:]))
    assert (missing.value, "find" in str(missing.reason)) == (0.0, True)


def test_patterns_of_schemas_cannot_stop_the_worker() -> None:
    evil = "^(a+)+$"
    text = "a" * 40 + "!"
    for schema, value in (
        ({"type": "string", "pattern": evil}, text),
        ({"patternProperties": {evil: {"type": "integer"}}, "additionalProperties": False}, {text: 1}),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "$ref": "#/definitions/a",
          "definitions": {"a": {"$schema": "http://json-schema.org/draft-07/schema#", "pattern": evil}}}, text),
    ):  # fmt: skip
        assert judge("json_schema", json.dumps(value), schema).value == 0.0
    assert judge("json_schema", '"aaa"', {"pattern": evil}).value == 1.0


def test_properties_that_a_pattern_names_are_not_additional() -> None:
    schema = {
        "properties": {"a": {}},
        "patternProperties": {"^x-": {"type": "integer"}},
        "additionalProperties": False,
    }
    assert judge("json_schema", '{"a": 1, "x-b": 2}', schema=schema).value == 1.0
    assert judge("json_schema", '{"a": 1, "x-b": "2"}', schema=schema).value == 0.0
    assert judge("json_schema", '{"a": 1, "y": 2}', schema=schema).value == 0.0


def test_a_schema_that_cannot_be_used_is_told_and_no_fail() -> None:
    with pytest.raises(BadScorerParameters, match="RE2"):
        make("json_schema", schema={"pattern": "(?=a)"})
    for schema in ({"pattern": "(?=a)"}, {"patternProperties": {"(": {}}}, {"type": "wrong"}):
        assert judge("json_schema", '"a"', schema).status == "undefined"
    assert judge("json_schema", '{"pattern": "("}', {"const": {"pattern": "("}}).value == 1.0


def test_references_that_double_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schemas, "MAX_STEPS", 10_000)
    defs: dict[str, Any] = {
        f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}, {"$ref": f"#/$defs/d{n + 1}"}]} for n in range(40)
    }
    score = judge("json_schema", "1", {"$ref": "#/$defs/d0", "$defs": {**defs, "d40": {}}})
    assert (score.status, "steps" in str(score.reason)) == ("undefined", True)
