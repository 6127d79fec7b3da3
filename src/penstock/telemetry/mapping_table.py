"""The table of attribute names as data: reads `penstock/data/mapping/attributes.toml` and answers what a name means.

Nothing here knows a name: whoever wants to understand another dialect edits the file and raises its version. What
was found out about a name is remembered, since the same few hundred names come again with every span.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from typing import Any, Literal, NamedTuple, cast

from penstock.spec.spans import SpanKind
from penstock.telemetry.flattened import is_flattened, is_under
from penstock.telemetry.metadata import is_metadata
from penstock.telemetry.shapes import PayloadNames, Shape, Shapes

MAX_REMEMBERED = 20_000
Overlap = Literal["inclusive", "exclusive"]


class NameFacts(NamedTuple):
    """What the table says of one attribute name."""

    field: str | None
    """The field of `fields` or `usage` that it may fill."""
    rank: int
    """Which of the field's names it is: the lowest that is present wins."""
    is_flat: bool
    """Whether it is a part of a flattened list: a level of it is a number."""
    is_content: bool
    """Whether people wrote or models said what it holds."""
    is_known: bool
    is_expanded: bool
    """Whether it holds JSON whose members are names of their own."""
    kind_rank: int | None
    """Which of the attributes that tell a span's kind it is; None for all others."""


@dataclass(frozen=True, kw_only=True)
class OverlapRule:
    """Whether counts contain their parts, for what begins as `scope`, `provider` and `names` say."""

    scope: str = ""
    provider: str = ""
    names: str = ""
    input: Overlap | None = None
    output: Overlap | None = None


@dataclass(frozen=True, kw_only=True)
class MappingTable:
    """The whole table. Immutable but for what it remembers."""

    version: int
    resource: Mapping[str, Sequence[str]]
    usage_fields: frozenset[str]
    usage_parts: frozenset[str]
    """Those of them that may be parts of others."""
    rules: Sequence[OverlapRule]
    kinds: Sequence[Mapping[str, SpanKind]]
    """By rank, which values mean which kind."""
    kind_ranks: Mapping[str, int]
    """By attribute, its rank in `kinds`: the lowest that has one of its values decides."""
    names: Sequence[tuple[str, Mapping[str, SpanKind]]]
    hints: Sequence[tuple[str, SpanKind]]
    payload: PayloadNames
    errors: Sequence[tuple[str, str]]
    first_token: frozenset[str]
    places: Mapping[str, tuple[str, int]]
    expanded: frozenset[str]
    providers: Mapping[str, str]
    """By what senders write, in lower case: the conventions' name, or nothing for what is no provider."""
    no_content: frozenset[str]
    content: frozenset[str]
    content_prefixes: tuple[str, ...]
    known: frozenset[str]
    known_prefixes: tuple[str, ...]
    remembered: dict[str, NameFacts] = field(default_factory=dict, repr=False)
    shapes: Shapes = field(default_factory=Shapes, repr=False, compare=False)

    def look_up(self, name: str) -> NameFacts:
        """Return what is known of an attribute name."""
        found = self.remembered.get(name)
        if found is None:
            found = self._find(name)
            if len(self.remembered) < MAX_REMEMBERED:
                self.remembered[name] = found
        return found

    def shape_of(self, names: tuple[str, ...]) -> Shape:
        """Return what is known of all spans whose attributes have these names."""
        found = self.shapes.find(names)
        if found is None:
            found = self._find_shape(names)
            self.shapes.keep(names, found)
        return found

    def _find_shape(self, names: tuple[str, ...]) -> Shape:
        ranked: dict[str, list[tuple[int, str]]] = {}
        kinds: list[tuple[int, str]] = []
        flat, unknown, expanded = [], [], []
        for name in names:
            facts = self.look_up(name)
            if facts.is_flat:
                flat.append(name)
            if facts.kind_rank is not None:
                kinds.append((facts.kind_rank, name))
            if facts.field is not None:
                ranked.setdefault(facts.field, []).append((facts.rank, name))
            elif facts.is_expanded:
                expanded.append(name)
            elif not facts.is_known:
                unknown.append(name)
        return Shape(
            candidates=[(wanted, [name for _, name in sorted(found)]) for wanted, found in ranked.items()],
            kinds=[(name, self.kinds[rank]) for rank, name in sorted(kinds)],
            hints=[hint for hint in self.hints if hint[0] in names],
            errors=[error for error in self.errors if error[0] in names],
            flat=flat,
            unknown=unknown,
            expanded=expanded,
            payload=_present(self.payload, frozenset(names), flat),
            has_metadata=any(map(is_metadata, names)),
        )

    def is_content(self, name: str) -> bool:
        """Return whether an attribute of this name holds what people wrote or models said."""
        return self.look_up(name).is_content

    def _find(self, name: str) -> NameFacts:
        place = self.places.get(name)
        is_content = name not in self.no_content and (
            name in self.content or name.startswith(self.content_prefixes)
        )
        is_known = (
            is_content or place is not None or name in self.known or name.startswith(self.known_prefixes)
        )
        return NameFacts(
            field=place[0] if place else None,
            rank=place[1] if place else 0,
            is_flat=is_flattened(name),
            is_content=is_content,
            is_known=is_known,
            is_expanded=name in self.expanded,
            kind_rank=self.kind_ranks.get(name),
        )


@cache
def load_table() -> MappingTable:
    """Return the table that comes with this version, read once."""
    text = resources.files("penstock.data").joinpath("mapping", "attributes.toml").read_text(encoding="utf-8")
    return build_table(tomllib.loads(text))


def build_table(raw: Mapping[str, Any]) -> MappingTable:
    """Return the table that the file's content describes."""
    fields, usage, payload = raw["fields"], raw["usage"], raw["payload"]
    joined = payload["joined"]
    sources = {
        *payload["input"],
        *payload["output"],
        *payload["tools"],
        *payload["events"],
        payload["system"],
    }
    exact, prefixes = _split({*raw["content"]["names"], *sources})
    known, known_prefixes = _split(raw["known"]["names"])
    asked = {item["name"] for item in raw["kinds"]} | {*raw["hints"], *raw["errors"], *raw["expand"]["names"]}
    return MappingTable(
        version=raw["version"],
        resource=raw["resource"],
        usage_fields=frozenset(usage),
        usage_parts=frozenset(usage) - {"input", "output", "total"},
        rules=[OverlapRule(**item) for item in raw["rules"]],
        kinds=[_kinds(item["values"]) for item in raw["kinds"]],
        kind_ranks={item["name"]: rank for rank, item in enumerate(raw["kinds"])},
        names=[(item["scope"], _kinds(item["values"])) for item in raw["names"]],
        hints=[(name, cast("SpanKind", kind)) for name, kind in raw["hints"].items()],
        payload=PayloadNames(
            messages=frozenset(payload["messages"]),
            input=payload["input"],
            output=payload["output"],
            system=payload["system"],
            tools=payload["tools"],
            events=payload["events"],
            joined_name=joined["name"],
            joined_content=joined["content"],
            joined_tool_calls=joined["tool_calls"],
            levels=frozenset(payload["levels"]),
        ),
        errors=list(raw["errors"].items()),
        first_token=frozenset(raw["first_token"]["events"]),
        places={
            name: (field_name, rank)
            for table in (fields, usage)
            for field_name, names in table.items()
            for rank, name in enumerate(names)
        },
        expanded=frozenset(raw["expand"]["names"]),
        providers=raw["providers"],
        no_content=frozenset(raw["content"]["except"]),
        content=exact,
        content_prefixes=prefixes,
        known=known | asked,
        known_prefixes=known_prefixes,
    )


def _present(payload: PayloadNames, names: frozenset[str], flat: Sequence[str]) -> PayloadNames:
    """Return those of the sources that are among `names`, or that flattened ones lie below."""

    def those(sources: Sequence[str]) -> list[str]:
        return [
            source for source in sources if source in names or any(is_under(name, source) for name in flat)
        ]

    joined = payload.joined_name
    tools, events, joined_content = those(payload.tools), those(payload.events), those(payload.joined_content)
    is_joined = bool(joined_content) or payload.joined_tool_calls in names
    has_system = payload.system in names
    return replace(
        payload,
        input=those(payload.input),
        output=[source for source in payload.output if source == joined or those((source,))],
        tools=tools,
        events=events,
        joined_content=joined_content,
        is_joined=is_joined,
        has_system=has_system,
        is_plain=not (tools or events or is_joined or has_system or flat),
    )


def _kinds(values: Mapping[str, str]) -> dict[str, SpanKind]:
    return {value: cast("SpanKind", kind) for value, kind in values.items()}


def _split(names: Any) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return exact names, and prefixes: those that end as one, and whatever is flattened below an exact name."""
    exact = frozenset(name for name in names if name[-1] not in ".:")
    return exact, (*sorted(set(names) - exact), *(f"{name}." for name in sorted(exact)))
