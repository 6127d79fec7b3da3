"""What people read about a scorer: its parameters with types, defaults and explanations, taken from the code itself."""

import ast
import inspect
import textwrap
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from penstock.evals.scorers.catalogue import KINDS
from penstock.evals.scorers.code import ScorerKind
from penstock.evals.scorers.composites import ChecksParameters, CompositeParameters

PARAMETERS_OF_COMPOSITES: dict[str, type[msgspec.Struct]] = {
    "composite": CompositeParameters,
    "checks": ChecksParameters,
}


@dataclass(frozen=True, kw_only=True)
class ParameterInfo:
    """One parameter of a scorer."""

    name: str
    type: str
    default: Any
    explanation: str


def describe_parameters(name: str) -> list[ParameterInfo]:
    """Return the parameters of a built-in scorer, its own first; `not` and `threshold`, which all take, are not among them."""
    kind: ScorerKind[Any] | None = KINDS.get(name)
    return describe_struct(kind.parameters if kind else PARAMETERS_OF_COMPOSITES[name])


def describe_struct(struct: type[msgspec.Struct]) -> list[ParameterInfo]:
    """Return the fields of a parameter record with their annotation as written and the docstring below them."""
    found: dict[str, tuple[str, str]] = {}
    for base in struct.__mro__:
        if base is not msgspec.Struct and issubclass(base, msgspec.Struct):
            for name, told in _read_fields(base).items():
                found.setdefault(name, told)
    defaults = {field.name: field for field in msgspec.structs.fields(struct)}
    hints = get_type_hints(struct)
    infos = []
    for name, (annotation, explanation) in found.items():
        default = defaults[name].default
        infos.append(
            ParameterInfo(
                name=name,
                type=_spell(hints[name], annotation),
                default=None if default is msgspec.NODEFAULT else msgspec.to_builtins(default),
                explanation=explanation,
            )
        )
    return infos


def _spell(hint: Any, annotation: str) -> str:
    """Return a type for people: choices as they are written, everything else as in the code."""
    if get_origin(hint) is Literal:
        return " | ".join(
            f'"{choice}"' if isinstance(choice, str) else str(choice) for choice in get_args(hint)
        )
    return annotation.replace("tuple[str, ...]", "list of texts").replace(
        "tuple[Part, ...]", "list of scorers"
    )


def _read_fields(struct: type) -> dict[str, tuple[str, str]]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(struct))).body[0]
    assert isinstance(tree, ast.ClassDef)
    fields: dict[str, tuple[str, str]] = {}
    last = ""
    for statement in tree.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            last = statement.target.id
            fields[last] = (ast.unparse(statement.annotation).replace("'", '"'), "")
        elif (
            last
            and isinstance(statement, ast.Expr)
            and isinstance(statement.value, ast.Constant)
            and isinstance(statement.value.value, str)
        ):
            fields[last] = (fields[last][0], " ".join(statement.value.value.split()))
            last = ""
    return fields
