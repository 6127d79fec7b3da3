"""JSON schemas from strangers: patterns run on RE2, no reference is fetched, and checking takes so many steps and no more.

The package `jsonschema` runs patterns on Python's `re`, whose time a pattern of five letters can make endless, and follows
references that double at each level. A schema may come with a row of a dataset, so neither may be.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

from penstock.evals.scorers.reading import NoScore, compile_pattern

MAX_STEPS = 300_000
"""Keywords that are looked at for one output."""
_VALUES = frozenset({"const", "enum", "default", "examples"})
"""Below these stand values, not schemas."""
_steps: ContextVar[list[int] | None] = ContextVar("penstock_schema_steps", default=None)
Keyword = Callable[[Any, Any, Any, Any], Any]


class Schema:
    """A schema that texts of models are held to."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        """Raise `ValueError` for what is no schema, or has a pattern that is not RE2."""
        from jsonschema.exceptions import SchemaError
        from jsonschema.validators import Draft202012Validator, validator_for
        from referencing import Registry

        try:
            kind = validator_for(schema, default=Draft202012Validator)
            kind.check_schema(schema, format_checker=None)
            self._check_patterns(schema)
            # an empty registry: no reference is ever fetched
            self._validator = _bounded(kind)(schema, registry=Registry())
        except SchemaError as error:
            raise ValueError(f"`schema` is no JSON schema: {error.message[:300]}") from error
        except (RecursionError, TypeError, AttributeError) as error:
            raise ValueError(f"`schema` cannot be read: {type(error).__name__}") from error

    def find_errors(self, value: Any, most: int) -> tuple[list[str], int]:
        """Return the first `most` errors and how many there are; raise `NoScore` where that cannot be told."""
        from referencing.exceptions import Unresolvable

        token = _steps.set([0])
        try:
            errors = list(self._validator.iter_errors(value))
        except Unresolvable as error:
            raise NoScore(f"the schema refers to what is not in it: {error}") from error
        finally:
            _steps.reset(token)
        return [f"{each.json_path}: {each.message[:200]}" for each in errors[:most]], len(errors)

    def _check_patterns(self, schema: Mapping[str, Any]) -> None:
        has_patterns = has_unevaluated = False
        for node in _nodes(schema):
            given = node.get("patternProperties")
            listed = list(given) if isinstance(given, Mapping) else []
            has_patterns = has_patterns or bool(listed)
            has_unevaluated = has_unevaluated or "unevaluatedProperties" in node
            if isinstance(node.get("pattern"), str):
                listed.append(node["pattern"])
            for pattern in listed:
                compile_pattern(pattern)
        if has_patterns and has_unevaluated:
            raise ValueError(
                "`patternProperties` and `unevaluatedProperties` in one schema are not supported"
            )


def _nodes(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    left: list[Any] = [schema]
    while left:
        each = left.pop()
        if isinstance(each, Mapping):
            yield each
            left.extend(value for name, value in each.items() if name not in _VALUES)
        elif isinstance(each, list):
            left.extend(each)


@lru_cache(maxsize=16)
def _bounded(kind: Any) -> Any:
    """Return the validator of a draft with our patterns and bounds."""
    from jsonschema.validators import extend

    own: dict[str, Keyword] = {"pattern": _pattern, "patternProperties": _pattern_properties}
    if "additionalProperties" in kind.VALIDATORS:
        own["additionalProperties"] = _additional_properties(kind.VALIDATORS["additionalProperties"])
    taken = {name: keyword for name, keyword in {**kind.VALIDATORS, **own}.items() if name in kind.VALIDATORS}
    made = extend(kind, {name: _counted(keyword) for name, keyword in taken.items()})

    def evolve(self: Any, **changes: Any) -> Any:
        # the package's own would go back to its own validators wherever a part names its draft
        return made(
            changes.get("schema", self.schema),
            format_checker=self.format_checker,
            registry=self._registry,
            _resolver=changes.get("_resolver", self._resolver),
        )

    made.evolve = evolve
    return made


def _counted(keyword: Keyword) -> Keyword:
    def count(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        if (steps := _steps.get()) is not None:
            steps[0] += 1
            if steps[0] > MAX_STEPS:
                raise NoScore(f"holding the answer to the schema takes more than {MAX_STEPS:,} steps")
        return keyword(validator, value, instance, schema)

    return count


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> Any:
    try:
        return compile_pattern(pattern)
    except ValueError as error:
        raise NoScore(str(error)) from error


def _finds(pattern: str, text: str) -> bool:
    return _compiled(pattern).search(text.encode("utf-8", "replace").decode()) is not None


def _pattern(validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError

    if validator.is_type(instance, "string") and not _finds(pattern, instance):
        yield ValidationError(f"{instance[:100]!r} does not match {pattern!r}")


def _pattern_properties(
    validator: Any, patterns: Mapping[str, Any], instance: Any, _schema: Any
) -> Iterator[Any]:
    if not validator.is_type(instance, "object"):
        return
    for pattern, subschema in patterns.items():
        for name, value in instance.items():
            if _finds(pattern, name):
                yield from validator.descend(value, subschema, path=name, schema_path=pattern)


def _additional_properties(keyword: Keyword) -> Keyword:
    def check(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        patterns: Sequence[str] = tuple(schema.get("patternProperties") or ())
        if not patterns or not validator.is_type(instance, "object"):
            return keyword(validator, value, instance, schema)
        others = {
            name: each
            for name, each in instance.items()
            if not any(_finds(pattern, name) for pattern in patterns)
        }
        without = {name: each for name, each in schema.items() if name != "patternProperties"}
        return keyword(validator, value, others, without)

    return check
