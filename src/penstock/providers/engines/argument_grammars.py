"""A tool's parameters as a grammar (GBNF) of JSON objects: its own names, the types and enumerations it states.

Only the first level is held to. What stands deeper, and whatever a schema says beyond names, `type`, `enum` and
`required`, is any JSON: a caller checks the arguments of a call anyway, and no model's reply is refused for its sake.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from penstock.providers.engines.choices import quote_literal

MAX_NAMES = 64
MAX_ENUM = 128
JSON_RULES = r"""
object ::= "{" ( pair ( ", " pair )* )? "}"
pair ::= string ": " value
array ::= "[" ( value ( ", " value )* )? "]"
value ::= object | array | string | number | boolean | "null"
boolean ::= "true" | "false"
string ::= "\"" ( [^"\\\x00-\x1F\x7F] | "\\" ( ["\\/bfnrt] | "u" [0-9a-fA-F]{4} ) )* "\""
integer ::= "-"? ( "0" | [1-9] [0-9]{0,14} )
number ::= integer ( "." [0-9]{1,15} )? ( [eE] [-+]? [0-9]{1,2} )?
"""
"""Rules that the others rest on; one space behind `:` and `,`, as templates write JSON."""
_TYPES = {
    "object": "object",
    "array": "array",
    "string": "string",
    "number": "number",
    "integer": "integer",
    "boolean": "boolean",
    "null": '"null"',
}


def write_arguments(parameters: Any, rule: str) -> str:
    """Return the rules of which `rule` is an object of these parameters: required ones first, others may follow."""
    properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
    if not isinstance(properties, Mapping) or not 1 <= len(properties) <= MAX_NAMES:
        return f"{rule} ::= object"
    told = parameters.get("required")
    required = [name for name in properties if isinstance(told, list) and name in told]
    optional = [name for name in properties if name not in required]
    pairs = {
        name: f"{_quote(name)} {quote_literal(': ')} {_value(each)}" for name, each in properties.items()
    }
    rests = [f"{rule}-rest{number}" for number in range(len(optional) + 1)]
    rules = [
        f"{rests[number]} ::= ( {quote_literal(', ')} {pairs[name]} )? {rests[number + 1]}"
        for number, name in enumerate(optional)
    ]
    rules.append(f'{rests[-1]} ::= ""')
    if required:
        inner = f" {quote_literal(', ')} ".join(pairs[name] for name in required) + f" {rests[0]}"
    else:
        firsts = [f"{pairs[name]} {rests[number + 1]}" for number, name in enumerate(optional)]
        inner = f"( {' | '.join(firsts)} )?"
    return "\n".join([f'{rule} ::= "{{" {inner} "}}"', *rules])


def _value(schema: Any) -> str:
    """Return the expression of one parameter's value."""
    if not isinstance(schema, Mapping):
        return "value"
    enum = schema.get("enum")
    if isinstance(enum, list) and 1 <= len(enum) <= MAX_ENUM and all(_is_scalar(each) for each in enum):
        return f"( {' | '.join(_quote(each) for each in enum)} )"
    told = schema.get("type")
    names: Sequence[Any] = told if isinstance(told, list) else [told]
    if not names or not all(isinstance(name, str) and name in _TYPES for name in names):
        return "value"
    return f"( {' | '.join(_TYPES[name] for name in names)} )"


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | bool | int)


def _quote(value: Any) -> str:
    return quote_literal(json.dumps(value, ensure_ascii=False))
