"""What a search asks: a condition over one span and the spans around it, as a tree. Values only, no text and no SQL.

`penstock.traces.search` reads it from what people write (`kind:llm duration>2s any(status:error)`), span stores
compile it to what their engine speaks; alerts, dashboards, evaluations and queues keep and pass it on. In a list of
traces the span in question is the trace's root.
"""

from typing import Literal

import msgspec

Operator = Literal["=", "!=", "<", "<=", ">", ">=", "contains", "starts", "matches", "exists"]
"""`contains` and `starts` are case-blind; `matches` is a regular expression (RE2); `exists` takes no value."""
Relation = Literal["any", "child", "descendant", "parent", "ancestor", "root"]
"""Which other spans of the trace: `any` is every one of it, the span in question too."""
Scalar = str | int | float | bool


class Compare(msgspec.Struct, frozen=True, tag="compare"):
    """A field of the span compared with a value; a field without value satisfies nothing but `!=`.

    Durations are in milliseconds, money in dollars, times in nanoseconds since the epoch, whatever unit was written.
    """

    field: str
    """A name of the field table (`duration`, `model` …), or `attr.NAME`, `score.NAME`, `version.ASSET`."""
    operator: Operator
    value: Scalar | None = None


class Words(msgspec.Struct, frozen=True, tag="words"):
    """Text, case-blind, in name, input or output; `where` narrows it."""

    text: str
    where: Literal["anywhere", "name", "input", "output"] = "anywhere"


class Related(msgspec.Struct, frozen=True, tag="related"):
    """How many spans in this relation satisfy the condition: at least one unless `operator` and `count` say else."""

    relation: Relation
    condition: "Condition"
    operator: Literal["=", "!=", "<", "<=", ">", ">="] = ">="
    count: int = 1


class Negated(msgspec.Struct, frozen=True, tag="not"):
    """The condition does not hold."""

    condition: "Condition"


class All(msgspec.Struct, frozen=True, tag="all"):
    """Every part holds; of no parts it holds always."""

    parts: tuple["Condition", ...] = ()


class Either(msgspec.Struct, frozen=True, tag="either"):
    """At least one part holds."""

    parts: tuple["Condition", ...]


Condition = Compare | Words | Related | Negated | All | Either
