"""Scorers of structure: is it JSON, does it keep to a schema, is it the expected object, are these the expected tool calls."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from penstock.evals.scorers.code import Judge, ScorerKind, Verdict
from penstock.evals.scorers.differences import list_differences
from penstock.evals.scorers.pairing import Effort, pair_items
from penstock.evals.scorers.reading import (
    NOT_JSON,
    NoScore,
    Reading,
    follow_pointer,
    parse_json,
    read_expected,
    read_json,
)
from penstock.evals.scorers.schemas import Schema
from penstock.spec.cases import Case, Output

MAX_TOLD = 5


class JsonParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What counts as JSON."""

    fenced: bool = False
    """Whether one Markdown fence around it is allowed."""
    kind: Literal["any", "object", "array"] = "any"


def _build_is_json(parameters: JsonParameters) -> Judge:
    kinds: dict[str, Any] = {"any": object, "object": Mapping, "array": list}

    def judge(case: Case, output: Output) -> Verdict:
        _ = case
        found = read_json(output, fenced=parameters.fenced)
        return Verdict(value=float(found is not NOT_JSON and isinstance(found, kinds[parameters.kind])))

    return judge


class SchemaParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The schema; None: what the case expects is one."""

    schema: dict[str, Any] | None = None
    pointer: str = ""
    """Which part of the output's JSON is held to it."""
    fenced: bool = False


def _build_json_schema(parameters: SchemaParameters) -> Judge:
    fixed = None if parameters.schema is None else Schema(parameters.schema)

    def judge(case: Case, output: Output) -> Verdict:
        schema = fixed
        if schema is None:
            if not isinstance(case.expected, Mapping):
                raise NoScore("neither the scorer nor the case has a schema")
            try:
                schema = Schema(case.expected)
            except ValueError as error:
                raise NoScore(str(error)) from error
        found = read_json(output, fenced=parameters.fenced)
        if found is NOT_JSON:
            return Verdict(value=0.0, reason="the answer is no JSON")
        told, n_errors = schema.find_errors(follow_pointer(found, parameters.pointer), MAX_TOLD)
        return Verdict(
            value=float(not n_errors),
            reason="; ".join(told) or None,
            evidence={"errors": told, "n_errors": n_errors},
        )

    return judge


class EqualityParameters(Reading, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How two JSON values are compared. Key order never counts; `extract` is not used."""

    mode: Literal["equal", "subset"] = "equal"
    """`subset`: all that is expected is there; more may be."""
    any_order: bool = False
    """Whether lists are equal in any order."""
    ignore: tuple[str, ...] = ()
    """JSON pointers of members that do not count, such as `/created`; with `any_order` the places of lists are those of
    what is expected."""
    tolerance: float = 0.0
    """How far numbers may lie apart, relative to the larger."""
    fenced: bool = True
    alternatives: bool = False
    """Whether a list that is expected holds several values of which one must be met."""


def _build_json_equal(parameters: EqualityParameters) -> Judge:
    ignored = frozenset(parameters.ignore)

    def judge(case: Case, output: Output) -> Verdict:
        expected = read_expected(case, parameters)
        accepted = expected if parameters.alternatives and isinstance(expected, list) else [expected]
        if not accepted:
            raise NoScore("the case's list of acceptable answers is empty")
        found = read_json(output, fenced=parameters.fenced)
        if found is NOT_JSON:
            return Verdict(value=0.0, reason="the answer is no JSON")
        if parameters.pointer is not None:
            found = follow_pointer(found, parameters.pointer)
        told = min(
            (
                list_differences(
                    _parsed(each),
                    found,
                    is_subset=parameters.mode == "subset",
                    any_order=parameters.any_order,
                    ignored=ignored,
                    tolerance=parameters.tolerance,
                )
                for each in accepted
            ),
            key=len,
        )[:MAX_TOLD]
        return Verdict(value=float(not told), reason="; ".join(told) or None, evidence={"differences": told})

    return judge


def _parsed(expected: Any) -> Any:
    """Return the JSON that an expected text is, or the text itself."""
    if isinstance(expected, str) and (parsed := parse_json(expected)) is not NOT_JSON:
        return parsed
    return expected


class ToolParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which calls are right."""

    expected: Any = None
    """Takes the place of what the case expects: {name, arguments} or a list of them; a text is a name alone; an empty
    list: no call."""
    arguments: Literal["equal", "subset", "ignore"] = "equal"
    any_order: bool = True
    allow_more: bool = False
    """Whether further calls do no harm."""


def _build_tool_call(parameters: ToolParameters) -> Judge:
    def judge(case: Case, output: Output) -> Verdict:
        expected = case.expected if parameters.expected is None else parameters.expected
        if expected is None:
            raise NoScore("the case expects no tool call, and does not say that there is none")
        wanted = [_read_call(each) for each in (expected if isinstance(expected, list) else [expected])]
        if any(name is None for name, _ in wanted):
            raise NoScore("what the case expects is no tool call: write {name, arguments}")
        found = [_read_call(each) for each in output.tool_calls]
        told = _compare_calls(wanted, found, parameters)
        evidence = {"called": [{"name": name, "arguments": arguments} for name, arguments in found][:20]}
        return Verdict(value=float(not told), reason="; ".join(told[:MAX_TOLD]) or None, evidence=evidence)

    return judge


Call = tuple[str | None, Any]


def _compare_calls(wanted: Sequence[Call], found: Sequence[Call], parameters: ToolParameters) -> list[str]:
    if not parameters.any_order:
        return _compare_in_order(wanted, found, parameters)
    differences: dict[tuple[int, int], str] = {}

    def fits(left: int, right: int) -> bool:
        differences[left, right] = _call_difference(wanted[left], found[right], parameters)
        return not differences[left, right]

    pairs = pair_items(len(wanted), len(found), fits, Effort())
    left_over = [at for at in range(len(found)) if at not in set(pairs)]
    told = []
    for place, (name, _) in enumerate(wanted):
        if pairs[place] is None:
            near = (differences.get((place, at), "") for at in left_over if found[at][0] == name)
            told.append(next(filter(None, near), f"{name} was not called"))
    if left_over and not parameters.allow_more:
        told.append("also called: " + ", ".join(str(found[at][0]) for at in left_over))
    return told


def _compare_in_order(wanted: Sequence[Call], found: Sequence[Call], parameters: ToolParameters) -> list[str]:
    told = []
    for place, call in enumerate(wanted):
        if place >= len(found):
            told.append(f"{call[0]} was not called")
        elif reason := _call_difference(call, found[place], parameters):
            told.append(reason if found[place][0] == call[0] else f"{call[0]} was not called")
    left_over = found[len(wanted) :]
    if left_over and not parameters.allow_more:
        told.append("also called: " + ", ".join(str(name) for name, _ in left_over))
    return told


def _call_difference(wanted: Call, found: Call, parameters: ToolParameters) -> str:
    if wanted[0] != found[0]:
        return f"{found[0]} was called, not {wanted[0]}"
    if parameters.arguments == "ignore" or wanted[1] is None:
        return ""
    if found[1] is NOT_JSON:
        return f"the arguments of {found[0]} are no JSON"
    differences = list_differences(wanted[1], found[1], is_subset=parameters.arguments == "subset")
    return f"{found[0]}: {differences[0]}" if differences else ""


def _read_call(call: Any) -> Call:
    """Return name and arguments of a call in OpenAI's shape, of {name, arguments}, or of a name; arguments None: not told."""
    if isinstance(call, str):
        return call, None
    if not isinstance(call, Mapping):
        return None, None
    inner = call.get("function") if isinstance(call.get("function"), Mapping) else call
    assert isinstance(inner, Mapping)
    name, arguments = inner.get("name"), inner.get("arguments")
    if isinstance(arguments, str):
        arguments = parse_json(arguments) if arguments.strip() else {}
    return (name if isinstance(name, str) else None), arguments


KINDS: tuple[ScorerKind[Any], ...] = (
    ScorerKind(
        name="is_json",
        group="structure",
        summary="1 when the answer is JSON (RFC 8259: no NaN, no comments).",
        parameters=JsonParameters,
        build=_build_is_json,
        scale="binary",
    ),
    ScorerKind(
        name="json_schema",
        group="structure",
        summary="1 when the answer is JSON that keeps to the schema (drafts 3 to 2020-12).",
        undefined_when="neither the scorer nor the case has a schema; the schema refers to what is not in it",
        parameters=SchemaParameters,
        build=_build_json_schema,
        scale="binary",
        needs=frozenset({"expected"}),
        adapt=lambda parameters: {} if parameters.schema is None else {"needs": frozenset()},
    ),
    ScorerKind(
        name="json_equal",
        group="structure",
        summary="1 when the answer is the expected JSON value, or holds it.",
        undefined_when="the case has no expected answer",
        parameters=EqualityParameters,
        build=_build_json_equal,
        scale="binary",
        needs=frozenset({"expected"}),
    ),
    ScorerKind(
        name="tool_call",
        group="structure",
        summary="1 when the expected tools are called, with the expected arguments.",
        undefined_when="the case does not say which calls are right",
        parameters=ToolParameters,
        build=_build_tool_call,
        scale="binary",
        needs=frozenset({"expected"}),
    ),
)
