"""Which field a name means, and what may be asked of it."""

from typing import NamedTuple, get_args

from penstock.base.errors import suggest
from penstock.spec.search import Relation
from penstock.spec.search_fields import (
    ATTRIBUTE,
    BY_NAME,
    METADATA,
    NUMERIC_TYPES,
    PREFIXES,
    SCORE,
    VERSION,
    FieldType,
)
from penstock.traces.search.errors import SearchInvalid
from penstock.traces.search.scanner import unquote

RELATIONS: tuple[str, ...] = get_args(Relation)
ANYWHERE, HAS, COUNT, NONE = "text", "has", "count", "none"
WORDS_OF_THE_LANGUAGE = (ANYWHERE, HAS, COUNT, *RELATIONS)
_STARTS = tuple(start for start, _, _ in PREFIXES)


class Asked(NamedTuple):
    """A field as a search names it."""

    name: str
    """As conditions name it."""
    type: FieldType | None
    """None where any value may stand: attributes, scores, versions."""
    values: tuple[str, ...]

    @property
    def has_order(self) -> bool:
        """Whether it can be compared with < and >."""
        return self.type in NUMERIC_TYPES or self.name.startswith((ATTRIBUTE, METADATA, SCORE))

    @property
    def has_text(self) -> bool:
        """Whether `*` and regular expressions make sense."""
        return self.type in {"text", "tag", None}


def find_field(query: str, name: str, start: int) -> Asked:
    """Return the field of this name, which stands at `start`; raise `SearchInvalid` when there is none."""
    end = start + len(name)
    for prefix in _STARTS:
        if name.lower().startswith(prefix):
            rest = name[len(prefix) :]
            rest = unquote(rest) if rest.startswith('"') else rest
            if not rest:
                raise SearchInvalid.at(
                    query, start, end, f"A name must follow {prefix!r}.", hint=_example(prefix)
                )
            if prefix == VERSION and (":" not in rest or rest.endswith(":")):
                raise SearchInvalid.at(
                    query,
                    start,
                    end,
                    "A version is asked as version.KIND:NAME:VERSION.",
                    hint=_example(prefix),
                )
            return Asked(prefix + rest, None, ())
    field = BY_NAME.get(name.lower())
    if field is None:
        near = suggest(name.lower(), [*BY_NAME, *WORDS_OF_THE_LANGUAGE, *_STARTS])
        hint = near or "`penstock traces fields` lists what can be asked."
        raise SearchInvalid.at(
            query,
            start,
            end,
            f"There is no field {name!r}.",
            hint=f'{hint} Put text to look for in "quotes".',
        )
    return Asked(field.name, field.type, field.values)


def _example(prefix: str) -> str:
    return next(f"Write it like {example}." for start, _, example in PREFIXES if start == prefix)
