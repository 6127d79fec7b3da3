"""Assertions of promptfoo as checks of a case: `{scorer, parameters, weight, name}`. Those that are code or have no like are reported."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from penstock.evals.importers.documents import as_list, as_mapping, line_of, read_yaml
from penstock.evals.importers.errors import ImportTooLarge, ImportUnreadable
from penstock.evals.importers.templates import fill_all
from penstock.evals.importers.types import Imported, ImportOptions

Check = dict[str, Any]
_CODE = frozenset({"javascript", "python", "ruby", "webhook"})
_COMMON = frozenset(
    {"type", "value", "threshold", "weight", "metric", "provider", "assert", "config", "$ref"}
)
_MIN_SIMILARITY = 0.75
MAX_SETS = 10
MAX_ASSERTS = 200_000


class AssertReader:
    """Makes checks of assertions, and notes what is not the same afterwards."""

    def __init__(
        self, found: Imported, options: ImportOptions, where: str, templates: Mapping[str, Any]
    ) -> None:
        self._found, self._options, self._file = found, options, where
        self._templates = templates
        self._depth = self._n_read = 0

    def read(self, given: Any, values: Mapping[str, Any], *, where: str = "") -> Check | None:
        """Return the check of one assertion with the test's variables filled in, or None when it is left out.

        Raises `ImportTooLarge` where templates that name templates unfold to too many.
        """
        place = where or f"{self._file}{line_of(given)}"
        self._n_read += 1
        if self._n_read > MAX_ASSERTS:
            raise ImportTooLarge(f"{self._file} unfolds to more than {MAX_ASSERTS:,} assertions.")
        if self._depth >= MAX_SETS:
            self._found.note("left out", place, f"assertions nested deeper than {MAX_SETS} levels")
            return None
        self._depth += 1
        try:
            return self._read(given, values, place)
        finally:
            self._depth -= 1

    def _read(self, given: Any, values: Mapping[str, Any], place: str) -> Check | None:
        if isinstance(given, Mapping) and "$ref" in given:
            name = str(given["$ref"]).rpartition("/")[2]
            if name not in self._templates:
                self._found.note("left out", place, f"$ref {given['$ref']!r} names no assertion template")
                return None
            given = {
                **as_mapping(self._templates[name]),
                **{key: each for key, each in given.items() if key != "$ref"},
            }
        if not isinstance(given, Mapping) or not isinstance(given.get("type"), str):
            self._found.note("left out", place, "an assertion without a type")
            return None
        for key in given:
            if key not in _COMMON:
                self._found.note("left out", place, f"assertion {given['type']}: `{key}`")
        if given["type"] == "assert-set":
            return self._read_set(given, values, place)
        left: list[str] = []
        filled = {key: fill_all(each, values, left) for key, each in given.items() if key in _COMMON}
        for each in dict.fromkeys(left):
            self._found.note("changed", place, f"template {each} is not filled in; the text stays as it is")
        kind = str(given["type"])
        is_negated = kind.startswith("not-")
        kind = kind.removeprefix("not-")
        made = self._make(kind, filled, place)
        if made is None:
            return None
        scorer, parameters = made
        check: Check = {"scorer": scorer, "name": str(given["type"])}
        if is_negated:
            parameters = {**parameters, "not": True}
        if parameters:
            check["parameters"] = parameters
        weight = given.get("weight")
        if isinstance(weight, int | float) and not isinstance(weight, bool):
            check["weight"] = float(weight)
        return check

    def _read_set(self, given: Mapping[str, Any], values: Mapping[str, Any], place: str) -> Check | None:
        parts = [
            part for each in as_list(given.get("assert")) if (part := self.read(each, values)) is not None
        ]
        if not parts:
            self._found.note("left out", place, "assert-set: nothing in it can be carried over")
            return None
        threshold = given.get("threshold")
        has_threshold = isinstance(threshold, int | float) and not isinstance(threshold, bool)
        parameters: dict[str, Any] = {"parts": parts, "combine": "mean" if has_threshold else "all"}
        if has_threshold:
            parameters["threshold"] = threshold
        check: Check = {
            "scorer": "composite",
            "name": str(given.get("metric") or "assert-set"),
            "parameters": parameters,
        }
        if isinstance(given.get("weight"), int | float):
            check["weight"] = float(given["weight"])
        return check

    def _make(self, kind: str, given: Mapping[str, Any], place: str) -> tuple[str, dict[str, Any]] | None:
        value, threshold = given.get("value"), given.get("threshold")
        if isinstance(value, str) and value.startswith("file://"):
            self._found.note("left out", place, f"{kind}: the value lies in {value}; write it into the file")
            return None
        if kind in _CODE:
            self._found.note(
                "left out",
                place,
                f"{kind} is code and is never run from a file: {' '.join(str(value).split())[:120]}",
            )
            return None
        maker = _MAKERS.get(kind)
        if maker is not None:
            try:
                made = maker(value, threshold)
            except (TypeError, ValueError, OverflowError) as error:
                self._found.note("left out", place, f"{kind}: {str(error)[:200]}")
                return None
            except (ImportUnreadable, ImportTooLarge) as error:
                self._found.note("left out", place, f"{kind}: {error.message}")
                return None
            if (said := _SAID.get(kind)) is not None:
                self._found.note("changed", place, f"{kind}: {said}")
            return made
        if kind in _JUDGES:
            return self._judge(kind, value, threshold, given.get("provider"), place)
        self._found.note("left out", place, f"assertion type {kind!r} has no like here")
        return None

    def _judge(
        self, kind: str, value: Any, threshold: Any, provider: Any, place: str
    ) -> tuple[str, dict[str, Any]] | None:
        model = self._options.judge
        if model is None and isinstance(provider, str):
            model = provider.split(":")[-1]
        if model is None:
            self._found.note(
                "to do", place, f"{kind}: name the route that judges as `model` (or import with --judge)"
            )
        text = value if isinstance(value, str) else "\n".join(map(str, as_list(value)))
        parameters: dict[str, Any] = {"model": model or self._options.judge_model}
        scorer, member = _JUDGES[kind]
        if member and not text.strip():
            self._found.note("left out", place, f"{kind} without a value")
            return None
        if member:
            parameters[member] = [text] if scorer == "rubric" else text
        if isinstance(threshold, int | float) and not isinstance(threshold, bool):
            parameters["threshold"] = 1 + 4 * float(threshold) if scorer == "g_eval" else float(threshold)
        elif scorer == "g_eval":
            parameters["threshold"] = 1 + 4 * 0.7  # promptfoo's own default
        self._found.note(
            "changed",
            place,
            f"{kind} becomes the judge {scorer}: other words are put to the model; calibrate it",
        )
        return scorer, parameters


def _texts(value: Any) -> list[str]:
    """Return the texts of a list, or of a text with commas between them, quoted ones kept whole."""
    if isinstance(value, list):
        return [_text(each) for each in value]
    import csv

    return [each.strip() for row in csv.reader([_text(value)], skipinitialspace=True) for each in row]


def _text(value: Any) -> str:
    if value is None:
        raise ValueError("it has no value")
    if isinstance(value, Mapping | list):
        raise TypeError("its value is no text")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _number(value: Any, default: float | None = None) -> float:
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("its threshold is no number")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("its threshold is no number")
    return number


Maker = Callable[[Any, Any], tuple[str, dict[str, Any]]]


def _contains(*, ignore_case: bool, mode: str | None) -> Maker:
    def make(value: Any, threshold: Any) -> tuple[str, dict[str, Any]]:
        _ = threshold
        texts = [_text(value)] if mode is None else _texts(value)
        if not texts:
            raise ValueError("it has no value")
        more = {"mode": mode} if mode == "all" else {}
        return "contains", {"values": texts, **({"ignore_case": True} if ignore_case else {}), **more}

    return make


def _equals(value: Any, threshold: Any) -> tuple[str, dict[str, Any]]:
    _ = threshold
    if isinstance(value, Mapping | list):
        return "json_equal", {"expected": value}
    return "exact", {"expected": _text(value)}


def _json(value: Any, threshold: Any) -> tuple[str, dict[str, Any]]:
    _ = threshold
    if value is None:
        return "is_json", {}
    schema = read_yaml(value, "the schema") if isinstance(value, str) else value
    if not isinstance(schema, Mapping):
        raise ImportUnreadable("The schema is no object.")
    return "json_schema", {"schema": schema}


def _contains_json(value: Any, threshold: Any) -> tuple[str, dict[str, Any]]:
    scorer, parameters = _json(value, threshold)
    return scorer, {**parameters, "fenced": True}


def _words(value: Any, threshold: Any) -> tuple[str, dict[str, Any]]:
    _ = threshold
    if isinstance(value, Mapping):
        bounds = {"minimum": value.get("min"), "maximum": value.get("max")}
        return "length", {
            "unit": "words",
            **{key: int(each) for key, each in bounds.items() if each is not None},
        }
    return "length", {"unit": "words", "minimum": int(_number(value)), "maximum": int(_number(value))}


def _overlap(scorer: str, default: float, factor: float = 1.0) -> Maker:
    def make(value: Any, threshold: Any) -> tuple[str, dict[str, Any]]:
        expected = [_text(each) for each in value] if isinstance(value, list) else _text(value)
        return scorer, {"expected": expected, "threshold": factor * _number(threshold, default)}

    return make


_MAKERS: dict[str, Maker] = {
    "equals": _equals,
    "contains": _contains(ignore_case=False, mode=None),
    "icontains": _contains(ignore_case=True, mode=None),
    "contains-all": _contains(ignore_case=False, mode="all"),
    "contains-any": _contains(ignore_case=False, mode="any"),
    "icontains-all": _contains(ignore_case=True, mode="all"),
    "icontains-any": _contains(ignore_case=True, mode="any"),
    "starts-with": lambda value, _: ("starts_with", {"values": [_text(value)]}),
    "regex": lambda value, _: ("regex", {"pattern": _text(value)}),
    "is-json": _json,
    "contains-json": _contains_json,
    "is-refusal": lambda _value, _threshold: ("refusal", {}),
    "word-count": _words,
    "latency": lambda _, threshold: ("latency", {"threshold": _number(threshold)}),
    "cost": lambda _, threshold: ("cost", {"threshold": _number(threshold)}),
    "levenshtein": lambda value, threshold: (
        "levenshtein",
        {"expected": _text(value), "measure": "edits", "threshold": _number(threshold, 5)},
    ),
    "rouge-n": _overlap("rouge_1", _MIN_SIMILARITY),
    "bleu": _overlap("bleu", 0.5, 100.0),
    "meteor": _overlap("meteor", 0.5),
    "similar": _overlap("embedding_similarity", _MIN_SIMILARITY),
}
_SAID = {
    "regex": "patterns run on RE2: look-around and back-references do not exist there",
    "contains-json": "the answer must be JSON, bare or as one fenced block; JSON within other text does not count",
    "is-refusal": "other lists of phrases",
    "rouge-n": "words are split as in every script; look at the threshold",
    "bleu": "sacrebleu's BLEU of the sentence, 0 to 100; look at the threshold",
    "meteor": "without synonyms; look at the threshold",
    "similar": "embedded by the route minilm unless you set `model`; look at the threshold",
}
_JUDGES: dict[str, tuple[str, str]] = {
    "llm-rubric": ("rubric", "items"),
    "model-graded-closedqa": ("closed_qa", "criterion"),
    "factuality": ("factuality", "expected"),
    "model-graded-factuality": ("factuality", "expected"),
    "g-eval": ("g_eval", "criteria"),
    "context-faithfulness": ("groundedness", ""),
    "context-relevance": ("context_relevance", ""),
    "answer-relevance": ("answer_relevance", ""),
}
