"""JSON Schema for targets that understand only some of it: references resolved, keywords lowered, nothing mutated.

Google's `Schema` is a subset of OpenAPI 3.0: one type a schema, `nullable`, `anyOf`, string enums, no references. Where
a schema says more than it can hold, `lower_schema` says so (`is_exact`), and the writer sends the resolved JSON Schema
in the member that takes one. Results are kept by digest, because a client sends the same tools with every call; large
ones are worked out each time, because clients choose how large they are.

References are followed only so deep and so far: a few kilobytes of them can name a tree without end.
"""

from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from urllib.parse import unquote

import msgspec

Schema = dict[str, Any]

_MAX_KEPT = 512
_MAX_KEPT_BYTES = 32 * 1024
"""A schema is kept if it and what it becomes are no longer than this as JSON."""
_MAX_ALL_KEPT_BYTES = 1024 * 1024
"""The sum of what is kept of one kind, as JSON; as objects it is about ten times as much."""
_MAX_NODES = 20_000
"""A schema that resolves to more than this is left with its references cut: they can grow without bound."""
_MAX_COPIED_BYTES = 4 * 1024 * 1024
"""The same for the text that references repeat."""
_MAX_REFERENCE_DEPTH = 100
"""A reference that lies deeper than this, other references counted in, is cut."""
_MAX_DEPTH = 200
"""What lies deeper than this allows anything."""
_KEPT = frozenset(
    {
        "title",
        "description",
        "default",
        "minItems",
        "maxItems",
        "minLength",
        "maxLength",
        "minProperties",
        "maxProperties",
        "minimum",
        "maximum",
        "pattern",
        "example",
        "propertyOrdering",
        "nullable",
    }
)
_SILENT = frozenset(
    {
        "$schema",
        "$id",
        "$comment",
        "$defs",
        "definitions",
        "$anchor",
        "readOnly",
        "writeOnly",
        "deprecated",
        "examples",
    }
)
"""Keywords that constrain nothing once references are resolved."""
_FORMATS = frozenset({"date-time", "enum", "int32", "int64", "float", "double"})
_TYPES = frozenset({"string", "number", "integer", "boolean", "array", "object", "null"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Lowered:
    """A schema for Google. `schema` must not be changed: it is shared."""

    schema: Schema
    is_exact: bool
    """Whether `schema` allows just what the original allows."""


class _Cache:
    """The last small results of one lowering, by the digest of what was lowered; bounded in number and in bytes."""

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, tuple[Any, int]] = OrderedDict()
        self.n_bytes = 0

    def get(self, key: bytes) -> Any:
        found = self._kept.get(key)
        if found is None:
            return None
        self._kept.move_to_end(key)
        return found[0]

    def put(self, key: bytes, value: Any, size: int) -> None:
        if size > _MAX_KEPT_BYTES or key in self._kept:
            return
        self._kept[key] = value, size
        self.n_bytes += size
        while len(self._kept) > _MAX_KEPT or self.n_bytes > _MAX_ALL_KEPT_BYTES:
            _, (_, oldest) = self._kept.popitem(last=False)
            self.n_bytes -= oldest


_lowered = _Cache()
_resolved = _Cache()


def lower_schema(schema: Schema) -> Lowered:
    """Return `schema` as Google's `Schema` object, types in upper case."""
    written = msgspec.json.encode(schema)
    key = sha256(written).digest()
    found: Lowered | None = _lowered.get(key)
    if found is None:
        resolved, is_whole = _resolve(schema, written, key)
        lowering = _Lowering()
        lowered = lowering.lower(resolved)
        found = Lowered(schema=lowered, is_exact=is_whole and not lowering.lost)
        _keep(_lowered, key, found, written, lowered)
    return found


def resolve_references(schema: Schema) -> Schema:
    """Return `schema` with every local `$ref` replaced by what it names, definitions left out.

    A reference inside what it names (a recursive schema) becomes `{}` at the second level, which allows anything; so
    does one that leads nowhere, or too far.
    """
    written = msgspec.json.encode(schema)
    return _resolve(schema, written, sha256(written).digest())[0]


def _resolve(schema: Schema, written: bytes, key: bytes) -> tuple[Schema, bool]:
    """Return the schema without references, and whether all of them could be followed as far as they go."""
    if not any(name in schema for name in ("$defs", "definitions")) and b'"$ref"' not in written:
        return schema, True
    found: tuple[Schema, bool] | None = _resolved.get(key)
    if found is None:
        resolver = _Resolver(schema)
        found = resolver.resolve(), not resolver.is_cut
        _keep(_resolved, key, found, written, found[0])
    return found


def _keep(cache: _Cache, key: bytes, value: Any, written: bytes, becomes: Schema) -> None:
    if len(written) <= _MAX_KEPT_BYTES:
        cache.put(key, value, max(len(written), len(msgspec.json.encode(becomes))))


class _Resolver:
    def __init__(self, root: Schema) -> None:
        self._root = root
        self._n_nodes = 0
        self._n_copied = 0
        self.is_cut = False
        """Whether a reference was left out because it leads too far."""

    def resolve(self) -> Schema:
        resolved = self._walk(self._root, (), 0)
        return resolved if isinstance(resolved, dict) else {}

    def _walk(self, node: Any, open_refs: tuple[str, ...], depth: int, *, is_schema: bool = True) -> Any:
        self._n_nodes += 1
        if depth > _MAX_DEPTH and isinstance(node, list | dict):
            self.is_cut = True
            return type(node)()
        if isinstance(node, list):
            return [self._walk(item, open_refs, depth + 1) for item in node]
        if not isinstance(node, dict):
            if open_refs and isinstance(node, str):
                self._n_copied += len(node)
            return node
        reference = node.get("$ref") if is_schema else None
        if not isinstance(reference, str):
            return self._members(node, open_refs, depth, is_schema=is_schema)
        beside = {name: item for name, item in node.items() if name != "$ref"}
        target = self._find(reference)
        around = self._members(beside, open_refs, depth)
        if target is None or reference in open_refs or self._is_too_far(depth):
            return around
        named = self._walk(target, (*open_refs, reference), depth + 1)
        return {**named, **around} if isinstance(named, dict) else around

    def _members(
        self, node: Schema, open_refs: tuple[str, ...], depth: int, *, is_schema: bool = True
    ) -> Schema:
        out: Schema = {}
        for name, item in node.items():
            if is_schema and name in ("$defs", "definitions"):
                continue
            if is_schema and name in ("enum", "const", "default", "examples", "example", "required"):
                out[name] = item
                if open_refs:
                    self._n_copied += len(msgspec.json.encode(item))
            else:
                # below `properties` a name is a property's, not a keyword
                inner_is_schema = not (is_schema and name in ("properties", "patternProperties"))
                out[name] = self._walk(item, open_refs, depth + 1, is_schema=inner_is_schema)
        return out

    def _is_too_far(self, depth: int) -> bool:
        is_too_far = (
            depth >= _MAX_REFERENCE_DEPTH or self._n_nodes > _MAX_NODES or self._n_copied > _MAX_COPIED_BYTES
        )
        self.is_cut = self.is_cut or is_too_far
        return is_too_far

    def _find(self, reference: str) -> Any:
        if not reference.startswith("#"):
            return None
        node: Any = self._root
        for step in reference[1:].strip("/").split("/") if reference != "#" else ():
            name = unquote(step).replace("~1", "/").replace("~0", "~")
            if isinstance(node, dict) and name in node:
                node = node[name]
            elif isinstance(node, list) and name.isdigit() and int(name) < len(node):
                node = node[int(name)]
            else:
                return None
        return node


class _Lowering:
    """One run over one schema; `lost` says whether something could not be said."""

    def __init__(self) -> None:
        self.lost = False
        self._depth = 0

    def lower(self, node: Any) -> Schema:
        if not isinstance(node, dict):
            self.lost = self.lost or node is False
            return {}
        if self._depth >= _MAX_DEPTH // 2:  # a schema in `properties` lies two levels below the one around it
            self.lost = True
            return {}
        self._depth += 1
        out = self._lower(node)
        self._depth -= 1
        return out

    def _lower(self, node: Schema) -> Schema:
        out: Schema = {}
        self._types(node, out)
        self._choices(node, out)
        for name in ("properties", "items", "required", "prefixItems", "additionalProperties"):
            if name in node:
                self._structure(name, node[name], out)
        for name, value in node.items():
            if name in _KEPT:
                out[name] = value
            elif name == "format":
                if isinstance(value, str) and value in _FORMATS:
                    out[name] = value
                else:
                    self.lost = True
            elif name in ("exclusiveMinimum", "exclusiveMaximum"):
                self._bound(name, value, out)
            elif name not in _HANDLED and name not in _SILENT:
                self.lost = True
        self._enum(node, out)
        return out

    def _types(self, node: Schema, out: Schema) -> None:
        kinds = node.get("type")
        listed = [kind for kind in (kinds if isinstance(kinds, list) else [kinds]) if isinstance(kind, str)]
        if "null" in (kind.lower() for kind in listed) and len(listed) > 1:
            out["nullable"] = True
            listed = [kind for kind in listed if kind.lower() != "null"]
        listed = [kind for kind in listed if kind.lower() in _TYPES]
        if len(listed) == 1:
            out["type"] = listed[0].upper()
        elif listed:
            out["anyOf"] = [{"type": kind.upper()} for kind in listed]
        elif "properties" in node:
            out["type"] = "OBJECT"
        elif "items" in node:
            out["type"] = "ARRAY"

    def _choices(self, node: Schema, out: Schema) -> None:
        for name in ("anyOf", "oneOf"):
            options = node.get(name)
            if not isinstance(options, list):
                continue
            kept = [option for option in options if not _is_null(option)]
            if len(kept) < len(options):
                out["nullable"] = True
            if len(kept) == 1:  # `X or null`, as most generators write an optional member
                out |= {key: value for key, value in self.lower(kept[0]).items() if key not in out}
            elif kept:
                self.lost = self.lost or "anyOf" in out
                out["anyOf"] = [self.lower(option) for option in kept]
                if "properties" not in node:
                    out.pop("type", None)
        for option in node["allOf"] if isinstance(node.get("allOf"), list) else ():
            self._merge(self.lower(option), out)

    def _merge(self, more: Schema, out: Schema) -> None:
        for name, value in more.items():
            if name == "properties" and isinstance(out.get(name), dict):
                out[name] = {**out[name], **value}
            elif name == "required" and isinstance(out.get(name), list):
                out[name] = _joined(out[name], value)
            elif name not in out:
                out[name] = value
            elif out[name] != value:
                self.lost = True

    def _enum(self, node: Schema, out: Schema) -> None:
        values = [node["const"]] if "const" in node else node.get("enum")
        if not isinstance(values, list):
            return
        if None in values:
            out["nullable"] = True
            values = [value for value in values if value is not None]
        if all(isinstance(value, str) for value in values):
            if values:
                out["enum"] = list(values)
                out.setdefault("type", "STRING")
            return
        # only strings can be listed: other values keep their type and are named in the description
        self.lost = True
        said = msgspec.json.encode(values).decode()
        out["description"] = f"{node.get('description', '')} One of {said}.".strip()

    def _structure(self, name: str, value: Any, out: Schema) -> None:
        if name == "properties" and isinstance(value, dict):
            merged = out.get("properties")
            lowered = {key: self.lower(item) for key, item in value.items()}
            out["properties"] = {**(merged if isinstance(merged, dict) else {}), **lowered}
        elif name == "items":
            if isinstance(value, list):
                self.lost = True
                value = value[0] if value else {}
            out["items"] = self.lower(value)
        elif name == "prefixItems":
            self.lost = True
        elif name == "required" and isinstance(value, list):
            out["required"] = _joined(out.get("required"), value)
        elif name == "additionalProperties" and isinstance(value, dict) and value:
            self.lost = True  # a map: what its values are cannot be said

    def _bound(self, name: str, value: Any, out: Schema) -> None:
        is_whole = out.get("type") == "INTEGER" and isinstance(value, int) and not isinstance(value, bool)
        if not is_whole:
            self.lost = True
            return
        if name == "exclusiveMinimum":
            out.setdefault("minimum", value + 1)
        else:
            out.setdefault("maximum", value - 1)


_HANDLED = frozenset(
    {
        "type",
        "anyOf",
        "oneOf",
        "allOf",
        "enum",
        "const",
        "properties",
        "items",
        "required",
        "prefixItems",
        "additionalProperties",
    }
)


def _joined(first: Any, second: list[Any]) -> list[str]:
    names = [*(first if isinstance(first, list) else []), *second]
    return list(dict.fromkeys(name for name in names if isinstance(name, str)))


def _is_null(option: Any) -> bool:
    return isinstance(option, dict) and option.get("type") == "null"


def raise_schema(schema: Schema) -> Schema:
    """Return Google's `Schema` object as JSON Schema: types in lower case, `nullable` as a type, numbers as numbers."""
    out: Schema = {}
    for name, value in schema.items():
        key = _SNAKE.get(name, name)
        if key == "properties" and isinstance(value, dict):
            out[key] = {
                inner: raise_schema(item) if isinstance(item, dict) else item for inner, item in value.items()
            }
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            out[key] = raise_schema(value)
        elif key in ("anyOf", "oneOf", "allOf", "prefixItems") and isinstance(value, list):
            out[key] = [raise_schema(item) if isinstance(item, dict) else item for item in value]
        elif key == "type" and isinstance(value, str):
            if value != "TYPE_UNSPECIFIED":
                out[key] = value.lower()
        elif key in _COUNTS and isinstance(value, str) and value.isdigit():
            out[key] = int(value)  # protobuf writes 64-bit numbers as text
        elif key not in ("nullable", "propertyOrdering"):
            out[key] = value
    if schema.get("nullable") is True:
        if isinstance(out.get("type"), str):
            out["type"] = [out["type"], "null"]
            if "enum" in out:
                out["enum"] = [*out["enum"], None]
        elif "anyOf" in out:
            out["anyOf"] = [*out["anyOf"], {"type": "null"}]
    if out.get("format") == "enum":
        del out["format"]
    return out


_COUNTS = frozenset({"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"})
_SNAKE = {
    "any_of": "anyOf",
    "min_items": "minItems",
    "max_items": "maxItems",
    "min_length": "minLength",
    "max_length": "maxLength",
    "min_properties": "minProperties",
    "max_properties": "maxProperties",
    "property_ordering": "propertyOrdering",
    "additional_properties": "additionalProperties",
}
