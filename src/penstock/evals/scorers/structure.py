"""Scorers of structure: is it JSON, does it keep to a schema, is it the expected object, are these the expected tool calls."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from penstock.evals.scorers.code import Judge, ScorerKind, Verdict
from penstock.evals.scorers.reading import (
    NOT_JSON,
    NoScore,
    Reading,
    follow_pointer,
    parse_json,
    read_expected,
    read_json,
)
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


def _validator(schema: Any) -> Any:
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import Draft202012Validator, validator_for
    from referencing import Registry

    kind = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"`schema` is no JSON schema: {error.message}") from error
    return kind(schema, registry=Registry())  # an empty registry: no reference is ever fetched


def _build_json_schema(parameters: SchemaParameters) -> Judge:
    fixed = None if parameters.schema is None else _validator(parameters.schema)

    def judge(case: Case, output: Output) -> Verdict:
        from referencing.exceptions import Unresolvable

        validator = fixed
        if validator is None:
            if not isinstance(case.expected, Mapping):
                raise NoScore("neither the scorer nor the case has a schema")
            try:
                validator = _validator(case.expected)
            except ValueError as error:
                raise NoScore(str(error)) from error
        found = read_json(output, fenced=parameters.fenced)
        if found is NOT_JSON:
            return Verdict(value=0.0, reason="the answer is no JSON")
        try:
            errors = list(validator.iter_errors(follow_pointer(found, parameters.pointer)))
        except Unresolvable as error:
            raise NoScore(f"the schema refers to what is not in it: {error}") from error
        told = [f"{each.json_path}: {each.message[:200]}" for each in errors[:MAX_TOLD]]
        return Verdict(
            value=float(not errors),
            reason="; ".join(told) or None,
            evidence={"errors": told, "n_errors": len(errors)},
        )

    return judge


class EqualityParameters(Reading, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How two JSON values are compared. Key order never counts; `extract` is not used."""

    mode: Literal["equal", "subset"] = "equal"
    """`subset`: all that is expected is there; more may be."""
    any_order: bool = False
    """Whether lists are equal in any order."""
    ignore: tuple[str, ...] = ()
    """JSON pointers of members that do not count, such as `/created`."""
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


def list_differences(
    expected: Any,
    found: Any,
    *,
    is_subset: bool = False,
    any_order: bool = False,
    ignored: frozenset[str] = frozenset(),
    tolerance: float = 0.0,
    at: str = "",
) -> list[str]:
    """Return how `found` differs from `expected`, each with its JSON pointer; empty when they are equal.

    True is not 1, but 1 is 1.0, as in JSON schema.
    """
    if at in ignored and at:
        return []
    options: dict[str, Any] = {
        "is_subset": is_subset,
        "any_order": any_order,
        "ignored": ignored,
        "tolerance": tolerance,
    }
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        told = []
        for name in expected:
            place = f"{at}/{_escape(name)}"
            if name in found:
                told += list_differences(expected[name], found[name], at=place, **options)
            elif place not in ignored:
                told.append(f"{place} is missing")
        if not is_subset:
            extra = [name for name in found if name not in expected]
            told += [
                f"{at}/{_escape(name)} is not expected"
                for name in extra
                if f"{at}/{_escape(name)}" not in ignored
            ]
        return told
    if isinstance(expected, list) and isinstance(found, list):
        return _list_list_differences(expected, found, at=at, options=options)
    return (
        []
        if _is_same(expected, found, tolerance)
        else [f"{at or '/'} is {_short(found)}, not {_short(expected)}"]
    )


def _list_list_differences(
    expected: Sequence[Any], found: Sequence[Any], *, at: str, options: Mapping[str, Any]
) -> list[str]:
    if not options["any_order"]:
        told = [
            difference
            for place, (left, right) in enumerate(zip(expected, found, strict=False))
            for difference in list_differences(left, right, at=f"{at}/{place}", **options)
        ]
        if len(found) < len(expected) or (len(found) > len(expected) and not options["is_subset"]):
            told.append(f"{at or '/'} has {len(found)} items, not {len(expected)}")
        return told
    left_over = list(found)
    told = []
    for place, each in enumerate(expected):
        match = next(
            (
                at_found
                for at_found, other in enumerate(left_over)
                if not list_differences(each, other, **options)
            ),
            None,
        )
        if match is None:
            told.append(f"{at}/{place} ({_short(each)}) is missing")
        else:
            del left_over[match]
    if left_over and not options["is_subset"]:
        told.append(f"{at or '/'} has {len(left_over)} more items than expected")
    return told


def _is_same(expected: Any, found: Any, tolerance: float) -> bool:
    if isinstance(expected, bool) or isinstance(found, bool):
        return expected is found
    if isinstance(expected, int | float) and isinstance(found, int | float):
        return expected == found or math.isclose(expected, found, rel_tol=tolerance, abs_tol=0.0)
    return type(expected) is type(found) and bool(expected == found)


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"


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
    left_over = list(found)
    told = []
    for name, arguments in wanted:
        candidates = range(len(left_over)) if parameters.any_order else range(min(1, len(left_over)))
        reasons = {
            place: _call_difference((name, arguments), left_over[place], parameters) for place in candidates
        }
        match = next((place for place, reason in reasons.items() if not reason), None)
        if match is not None:
            del left_over[match]
        else:
            same_name = [reason for place, reason in reasons.items() if left_over[place][0] == name]
            told.append(next(iter(same_name), f"{name} was not called"))
            if not parameters.any_order and left_over:
                del left_over[0]
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
