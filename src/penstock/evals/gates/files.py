"""Reads gate files: TOML, with rules as lines or as tables.

name = "triage"
evaluation = "triage.eval.toml"      # or a table [evaluation]
candidate = "prompt:triage@latest"   # or "eval:ID"
baseline = "prompt:triage@prod"
rules = ["token_f1 >= baseline - 1 point", "errors <= 1 %"]

[[rule]]
measure = "token_f1"
by = "split"
at_least = "baseline - 2 points"
"""

import tomllib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from penstock.base.errors import suggest
from penstock.evals.gates.errors import GateInvalid
from penstock.evals.gates.grammar import parse_rule
from penstock.evals.gates.types import GateSpec, Rule
from penstock.spec.evaluations import EvaluationSpec

_KEYS = (
    "name",
    "evaluation",
    "candidate",
    "baseline",
    "level",
    "correction",
    "min_coverage",
    "min_slice_cases",
    "rules",
    "rule",
    "description",
)
_TABLE_KEYS = ("measure", "statistic", "by", "at_least", "at_most", "above", "below", "equals", "level")
_WORDS = {"at_least": ">=", "at_most": "<=", "above": ">", "below": "<", "equals": "=="}


def read_gate(text: str, *, load_evaluation: Callable[[str], Mapping[str, Any]] | None = None) -> GateSpec:
    """Return the gate that a file's text says.

    `load_evaluation` returns what an evaluation file holds, by its name as written. Raises `GateInvalid`, `RuleInvalid`.
    """
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise GateInvalid(f"The gate file is no TOML: {error}.") from error
    return make_gate(given, load_evaluation=load_evaluation)


def make_gate(
    given: Mapping[str, Any], *, load_evaluation: Callable[[str], Mapping[str, Any]] | None = None
) -> GateSpec:
    """Return the gate that an object says, in the members of the file."""
    for key in given:
        if key not in _KEYS:
            raise GateInvalid(f"{key!r} is no key of a gate.", hint=suggest(key, _KEYS))
    name = given.get("name")
    if not isinstance(name, str) or not name.strip():
        raise GateInvalid("A gate needs a name.", hint='Write name = "triage".')
    fields = {
        "name": name.strip(),
        "evaluation": _evaluation(given.get("evaluation"), load_evaluation),
        "rules": _rules(given.get("rules", []), given.get("rule", [])),
        **{
            key: given[key]
            for key in (
                "candidate",
                "baseline",
                "level",
                "correction",
                "min_coverage",
                "min_slice_cases",
                "description",
            )
            if given.get(key) is not None
        },
    }
    try:
        spec = msgspec.convert(fields, GateSpec)
    except msgspec.ValidationError as error:
        raise GateInvalid(f"The gate {name!r} cannot be read: {error}.") from error
    if not spec.rules:
        raise GateInvalid(
            f"The gate {name!r} has no rules.", hint='Write rules = ["token_f1 >= baseline - 1 point"].'
        )
    if not 0.5 <= spec.level < 1.0:
        raise GateInvalid(f"level = {spec.level:g} is no level.", hint="Write 0.95 for 95 %.")
    if not 0.0 <= spec.min_coverage <= 1.0:
        raise GateInvalid("min_coverage lies between 0 and 1.", hint="Write 0.95 for 95 %.")
    return spec


def parse_table(table: Mapping[str, Any]) -> Rule:
    """Return the rule that a table says: measure, statistic, by, and one of at_least, at_most, above, below, equals."""
    for key in table:
        if key not in _TABLE_KEYS:
            raise GateInvalid(f"{key!r} is no key of a rule.", hint=suggest(key, _TABLE_KEYS))
    bounds = [key for key in _WORDS if key in table]
    if not table.get("measure") or len(bounds) != 1:
        raise GateInvalid(
            "A rule needs `measure` and exactly one of at_least, at_most, above, below and equals.",
            hint='Such as measure = "token_f1", at_least = "baseline - 1 point".',
        )
    parts = [f'"{table["measure"]}"']
    if table.get("statistic"):
        parts.append(str(table["statistic"]))
    if table.get("by"):
        parts += ["by", f'"{table["by"]}"']
    parts += [_WORDS[bounds[0]], str(table[bounds[0]])]
    if table.get("level") is not None:
        parts += ["at", f"{100 * float(table['level']):g} %"]
    rule = parse_rule(" ".join(parts))
    return msgspec.structs.replace(rule, text=rule.text.replace('"', ""))


def _rules(lines: Any, tables: Any) -> list[Rule]:
    if not isinstance(lines, list) or not isinstance(tables, list):
        raise GateInvalid("`rules` is a list of lines, `[[rule]]` a table each.")
    rules = []
    for given in [*lines, *tables]:
        if isinstance(given, Rule):
            rules.append(given)
        elif isinstance(given, str):
            rules.append(parse_rule(given))
        elif isinstance(given, Mapping):
            rules.append(parse_table(given))
        else:
            raise GateInvalid(f"{given!r} is no rule.", hint="A rule is a line of text or a table.")
    return rules


def _evaluation(given: Any, load: Callable[[str], Mapping[str, Any]] | None) -> EvaluationSpec | None:
    if given is None or isinstance(given, EvaluationSpec):
        return given
    if isinstance(given, str):
        if load is None:
            raise GateInvalid("Here an evaluation is given whole, not by a file's name.")
        given = load(given)
    try:
        return msgspec.convert(given, EvaluationSpec)
    except msgspec.ValidationError as error:
        raise GateInvalid(f"The gate's evaluation cannot be read: {error}.") from error
