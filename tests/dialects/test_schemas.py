"""JSON Schema for Google: what can be said is lowered exactly, what cannot is admitted, nothing is changed in place."""

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.dialects import schemas
from penstock.dialects.schemas import lower_schema, raise_schema, resolve_references

EXACT: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"type": "string", "format": "date-time"}, {"type": "STRING", "format": "date-time"}),
    ({"type": ["integer", "null"], "minimum": 1}, {"type": "INTEGER", "nullable": True, "minimum": 1}),
    ({"type": "integer", "exclusiveMinimum": 0}, {"type": "INTEGER", "minimum": 1}),
    ({"anyOf": [{"type": "string"}, {"type": "null"}]}, {"type": "STRING", "nullable": True}),
    (
        {"oneOf": [{"type": "string"}, {"type": "integer"}]},
        {"anyOf": [{"type": "STRING"}, {"type": "INTEGER"}]},
    ),
    ({"type": ["string", "number"]}, {"anyOf": [{"type": "STRING"}, {"type": "NUMBER"}]}),
    ({"const": "a"}, {"type": "STRING", "enum": ["a"]}),
    ({"enum": ["a", None]}, {"type": "STRING", "enum": ["a"], "nullable": True}),
    (
        {"items": {"type": "string"}, "maxItems": 2},
        {"type": "ARRAY", "items": {"type": "STRING"}, "maxItems": 2},
    ),
    (
        {"properties": {"type": {"type": "string"}}, "required": ["type"], "additionalProperties": False},
        {"type": "OBJECT", "properties": {"type": {"type": "STRING"}}, "required": ["type"]},
    ),
    (
        {"allOf": [{"type": "object", "properties": {"a": {"type": "string"}}}], "description": "d"},
        {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}, "description": "d"},
    ),
    (
        {
            "$schema": "x",
            "type": "object",
            "properties": {"a": {"$ref": "#/$defs/A", "description": "mine"}},
            "$defs": {"A": {"type": "string", "description": "its"}},
        },
        {"type": "OBJECT", "properties": {"a": {"type": "STRING", "description": "mine"}}},
    ),
]


@pytest.mark.parametrize(("schema", "expected"), EXACT)
def test_what_google_can_say_is_exact(schema: dict[str, Any], expected: dict[str, Any]) -> None:
    before = copy.deepcopy(schema)
    lowered = lower_schema(schema)
    assert (lowered.schema, lowered.is_exact) == (expected, True)
    assert schema == before
    assert lower_schema(before) is lowered, "kept by content"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "format": "email"},
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"enum": [1, 2]},
        {"type": "number", "exclusiveMinimum": 0},
        {"not": {"type": "string"}},
        {"type": "array", "prefixItems": [{"type": "string"}]},
        {"type": "array", "items": [{"type": "string"}, {"type": "integer"}]},
        {"type": "object", "patternProperties": {"^a": {}}},
        {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
    ],
)
def test_what_it_cannot_say_is_admitted(schema: dict[str, Any]) -> None:
    assert not lower_schema(schema).is_exact


def test_numbers_of_an_enum_are_named_in_the_description() -> None:
    lowered = lower_schema({"type": "integer", "enum": [1, 2], "description": "Size."})
    assert lowered.schema == {"type": "INTEGER", "description": "Size. One of [1,2]."}


def test_references_are_resolved_and_recursion_ends() -> None:
    tree = {
        "$ref": "#/$defs/Node",
        "$defs": {
            "Node": {
                "type": "object",
                "properties": {
                    "value": {"$ref": "#/definitions/V~1x"},
                    "children": {"type": "array", "items": {"$ref": "#/$defs/Node"}},
                    "lost": {"$ref": "#/$defs/None"},
                    "far": {"$ref": "https://example.org/schema", "title": "kept"},
                },
            }
        },
        "definitions": {"V/x": {"type": "integer"}},
    }
    before = copy.deepcopy(tree)
    assert resolve_references(tree) == {
        "type": "object",
        "properties": {
            "value": {"type": "integer"},
            "children": {"type": "array", "items": {}},
            "lost": {},
            "far": {"title": "kept"},
        },
    }
    assert tree == before


def test_properties_named_like_keywords_are_properties() -> None:
    schema = {
        "type": "object",
        "properties": {
            "$ref": {"type": "string"},
            "definitions": {"$ref": "#/$defs/A"},
            "enum": {"type": "string"},
        },
        "$defs": {"A": {"type": "boolean"}},
    }
    assert resolve_references(schema)["properties"] == {
        "$ref": {"type": "string"},
        "definitions": {"type": "boolean"},
        "enum": {"type": "string"},
    }


def test_references_that_multiply_are_cut() -> None:
    levels: dict[str, Any] = {
        f"L{n}": {"properties": {x: {"$ref": f"#/$defs/L{n + 1}"} for x in "abcd"}} for n in range(30)
    }
    grown = resolve_references({"$ref": "#/$defs/L0", "$defs": levels})
    assert len(msgspec.json.encode(grown)) < 4_000_000


def test_text_that_references_repeat_is_bounded() -> None:
    long = {"type": "string", "description": "x" * 100_000, "enum": ["y" * 100_000]}
    schema = {
        "properties": {f"p{number}": {"$ref": "#/$defs/Long"} for number in range(1000)},
        "$defs": {"Long": long},
    }
    assert len(msgspec.json.encode(resolve_references(schema))) < 6_000_000
    assert not lower_schema(schema).is_exact


def chain(length: int) -> dict[str, Any]:
    links: dict[str, Any] = {
        f"L{n}": {"type": "object", "properties": {"next": {"$ref": f"#/$defs/L{n + 1}"}}}
        for n in range(length)
    }
    return {"$ref": "#/$defs/L0", "$defs": {**links, f"L{length}": {"type": "string"}}}


def test_a_chain_of_references_is_followed_to_its_end_or_cut_with_notice() -> None:
    assert lower_schema(chain(20)).is_exact
    assert b'"STRING"' in msgspec.json.encode(lower_schema(chain(20)).schema)
    for length in (100, 600, 5000):
        assert not lower_schema(chain(length)).is_exact
        assert b'"string"' not in msgspec.json.encode(resolve_references(chain(length)))


@pytest.mark.parametrize("name", ["items", "properties", "anyOf", "allOf", "not"])
def test_the_deepest_schema_that_settings_allow_is_answered(name: str) -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(250):
        inner: Any = {"p": schema} if name == "properties" else [schema] if name.endswith("Of") else schema
        schema = {name: inner}
    assert not lower_schema(schema).is_exact
    assert isinstance(resolve_references({**schema, "$defs": {}}), dict)


def test_large_schemas_are_not_kept_and_the_sum_of_small_ones_is_bounded() -> None:
    large = {"type": "string", "description": "x" * 40_000}
    assert lower_schema(large).schema == lower_schema(large).schema
    assert lower_schema(large) is not lower_schema(large)
    for number in range(200):
        text = f"{number} " + "x" * 10_000
        small = {"$ref": "#/$defs/A", "$defs": {"A": {"type": "string", "description": text}}}
        assert lower_schema(small) is lower_schema(small)
    swollen = {  # small itself, large when resolved
        "properties": {f"p{number}": {"$ref": "#/$defs/A"} for number in range(500)},
        "$defs": {"A": {"type": "string", "description": "x" * 1000}},
    }
    assert lower_schema(swollen) is not lower_schema(swollen)
    for kept in (schemas._lowered, schemas._resolved):
        assert 500_000 < kept.n_bytes <= 1024 * 1024
        assert kept.n_bytes == sum(size for _, size in kept._kept.values())


def test_googles_schema_becomes_json_schema() -> None:
    google = {
        "type": "OBJECT",
        "properties": {
            "a": {"type": "ARRAY", "items": {"type": "STRING", "nullable": True}, "min_items": "2"},
            "nullable": {"anyOf": [{"type": "INTEGER"}], "nullable": True},
            "c": {"type": "STRING", "format": "enum", "enum": ["x"], "nullable": True},
        },
        "propertyOrdering": ["a"],
    }
    before = copy.deepcopy(google)
    assert raise_schema(google) == {
        "type": "object",
        "properties": {
            "a": {"type": "array", "items": {"type": ["string", "null"]}, "minItems": 2},
            "nullable": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            "c": {"type": ["string", "null"], "enum": ["x", None]},
        },
    }
    assert google == before


LEAVES = st.sampled_from(
    [{"type": "string"}, {"type": ["integer", "null"]}, {"enum": ["a", "b"]}, {}, {"type": "boolean"}]
)
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: (
        st.builds(lambda items: {"type": "array", "items": items}, inner)
        | st.builds(
            lambda properties: {"type": "object", "properties": properties},
            st.dictionaries(st.sampled_from(["a", "b", "$ref", "type"]), inner, max_size=3),
        )
        | st.builds(lambda options: {"anyOf": options}, st.lists(inner, min_size=2, max_size=3))
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(SCHEMAS)
def test_lowering_twice_changes_nothing_more(schema: dict[str, Any]) -> None:
    before = copy.deepcopy(schema)
    once = lower_schema(schema)
    assert schema == before
    again = lower_schema(raise_schema(once.schema))
    assert again.schema == once.schema


@settings(max_examples=150, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "type",
                        "anyOf",
                        "allOf",
                        "$ref",
                        "$defs",
                        "properties",
                        "items",
                        "required",
                        "enum",
                        "const",
                        "nullable",
                        "additionalProperties",
                        "exclusiveMinimum",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=15,
    )
)
def test_schemas_of_any_shape_never_raise(value: Any) -> None:
    if isinstance(value, dict):
        lower_schema(value)
        raise_schema(value)
