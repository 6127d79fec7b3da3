"""Reads evaluations exported from OpenAI's hosted Evals: the `eval` objects with their testing criteria, runs, and items.

Files are JSON or JSONL, in any number, as the REST API returns them: objects `eval`, `eval.run`, `eval.run.output_item`, lists of
these, and lines `{"item": {…}}`. Criteria that are Python are reported with their source and never run.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from penstock.evals.importers.documents import Folder, as_list, as_mapping
from penstock.evals.importers.errors import ImportUnreadable
from penstock.evals.importers.templates import fill, to_jinja
from penstock.evals.importers.types import UNSET_MODEL, Imported, ImportOptions, slug
from penstock.spec.cases import Case
from penstock.spec.evaluations import EvaluationSpec, ScorerSpec, TargetSpec
from penstock.spec.prompts import PromptContent, PromptMessage, PromptVariable

_ANSWER = re.compile(
    r"\{\{\s*sample\.(?:output_text|output_json[\w.]*|choices\[0\]\.message\.content)\s*\}\}"
)
_ITEM = re.compile(r"\{\{\s*item\.([\w.]+)\s*\}\}")
_SIMILAR = {
    "fuzzy_match": ("levenshtein", {"ignore_case": True}, 1.0),
    "bleu": ("bleu", {}, 100.0),
    "meteor": ("meteor", {}, 1.0),
    "rouge_1": ("rouge_1", {}, 1.0),
    "rouge_2": ("rouge_2", {}, 1.0),
    "rouge_l": ("rouge_l", {}, 1.0),
    "cosine": ("embedding_similarity", {}, 1.0),
}
_STRING_CHECKS: dict[str, tuple[str, dict[str, Any]]] = {
    "eq": ("exact", {}),
    "ne": ("exact", {"not": True}),
    "like": ("contains", {}),
    "ilike": ("contains", {"ignore_case": True}),
}


def import_hosted(path: Path, options: ImportOptions) -> Imported:
    """Return every exported evaluation that has items; raise `ImportUnreadable` when there is no `eval` object."""
    folder = Folder(path if path.is_dir() else path.parent)
    files, outside = folder.list_files(path, (".json", ".jsonl"))
    evals: list[tuple[Mapping[str, Any], str]] = []
    runs: list[Mapping[str, Any]] = []
    items: list[tuple[Mapping[str, Any], str, str | None]] = []
    for file in files:
        for where, value in _objects(folder, file):
            kind = value.get("object")
            if kind == "eval" or "testing_criteria" in value:
                evals.append((value, where))
            elif kind == "eval.run" or "data_source" in value:
                runs.append(value)
                items += [
                    (as_mapping(each).get("item", {}), where, value.get("eval_id"))
                    for each in as_list(
                        as_mapping(as_mapping(value.get("data_source")).get("source")).get("content")
                    )
                ]
            elif kind == "eval.run.output_item":
                items.append((as_mapping(value.get("datasource_item")), where, value.get("eval_id")))
            elif isinstance(value.get("item"), Mapping):
                items.append((value["item"], where, None))
    if not evals:
        raise ImportUnreadable(f"{path.name} holds no exported `eval` object with testing_criteria.")
    found = Imported(source="OpenAI hosted evals")
    for name in outside:
        found.note("left out", name, "it lies outside the folder and is not read")
    for value, where in evals:
        own_runs = [run for run in runs if run.get("eval_id") in {value.get("id"), None}]
        own_items = [item for item, _, owner in items if owner in {value.get("id"), None} and item]
        _Reader(found, options, value, where).read(own_runs, own_items)
    return found


def _objects(folder: Folder, file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    values: Any
    if file.suffix == ".jsonl":
        values = folder.json_lines(file)
    else:
        try:
            values = [(0, json.loads(folder.text(file)))]
        except (ValueError, RecursionError) as error:
            raise ImportUnreadable(f"{folder.name(file)} is no JSON: {error}.") from error
    for number, value in values:
        where = folder.name(file) + (f":{number}" if number else "")
        listed = value.get("data") if isinstance(value, Mapping) and value.get("object") == "list" else value
        for each in as_list(listed):
            if isinstance(each, Mapping):
                yield where, each


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


class _Reader:
    def __init__(self, found: Imported, options: ImportOptions, value: Mapping[str, Any], where: str) -> None:
        self._found, self._options, self._value = found, options, value
        self._where = where
        self._name = slug(str(value.get("name") or value.get("id") or "eval"), taken=found.evaluations)

    def read(self, runs: list[Mapping[str, Any]], items: list[Mapping[str, Any]]) -> None:
        """Carry the evaluation over with these runs and items."""
        unique = list({json.dumps(item, sort_keys=True, default=str): item for item in items}.values())
        if not unique:
            self._found.note(
                "left out", self._where, f"{self._name}: no items; export its runs or data file beside it"
            )
            return
        kind = as_mapping(self._value.get("data_source_config")).get("type")
        if kind not in {None, "custom"}:
            self._found.note(
                "changed",
                self._where,
                f"data_source_config.type {kind!r}: the exported items are taken as they are",
            )
        expected, scorers, checks = self._criteria()
        if not scorers:
            self._found.note(
                "left out", self._where, f"{self._name}: none of its criteria can be carried over"
            )
            return
        cases = []
        for number, item in enumerate(unique, 1):
            metadata: dict[str, Any] = {
                key: [self._fill_check(part, item) for part in parts] for key, parts in checks.items()
            }
            answer = item.get(expected) if expected else None
            cases.append(Case(id=str(number), inputs=dict(item), expected=answer, metadata=metadata))
        self._found.datasets[self._name] = cases
        self._found.evaluations[self._name] = EvaluationSpec(
            name=self._name, target=self._target(runs), file=self._name, scorers=scorers
        )

    def _target(self, runs: list[Mapping[str, Any]]) -> TargetSpec:
        source: Mapping[str, Any] = {}
        for run in runs:
            source = as_mapping(run.get("data_source"))
            if as_mapping(source.get("input_messages")).get("template"):
                break
        template = as_list(as_mapping(source.get("input_messages")).get("template"))
        model = self._options.model or source.get("model")
        if not isinstance(model, str):
            model = UNSET_MODEL
            self._found.note(
                "to do", f"{self._name}.eval.toml", "name the route that answers as target.model"
            )
        sampling = as_mapping(source.get("sampling_params"))
        parameters = {
            {"max_completions_tokens": "max_completion_tokens"}.get(key, key): value
            for key, value in sampling.items()
            if isinstance(value, str | int | float | bool)
        }
        for key, value in sampling.items():
            if key not in parameters and isinstance(value, Mapping | list):
                self._found.note("left out", self._where, f"sampling_params.{key}")
        if not template:
            self._found.note(
                "to do",
                f"{self._name}.eval.toml",
                "no run says which messages are sent: each case sends its first text",
            )
            return TargetSpec(model=model, parameters=parameters)
        messages = []
        for turn in template:
            text, unknown = to_jinja(_ITEM.sub(r"{{ \1 }}", _text_of(as_mapping(turn))))
            for each in unknown:
                self._found.note("changed", self._where, f"input_messages: {each}")
            role = str(as_mapping(turn).get("role", "user"))
            if role not in {"system", "developer", "user", "assistant"}:
                role = "user"
            messages.append(PromptMessage(role=role, content=text))  # type: ignore[arg-type]
        names = {
            name.split(".")[0] for turn in template for name in _ITEM.findall(_text_of(as_mapping(turn)))
        }
        variables = {name: PromptVariable(type=self._variable_type(name)) for name in sorted(names)}
        self._found.prompts[self._name] = PromptContent(messages=messages, variables=variables)
        return TargetSpec(model=model, prompt=f"prompt:{self._name}@latest", parameters=parameters)

    def _variable_type(self, name: str) -> Any:
        schema = as_mapping(as_mapping(self._value.get("data_source_config")).get("schema"))
        properties = as_mapping(
            as_mapping(as_mapping(schema.get("properties")).get("item")).get("properties")
        )
        properties = properties or as_mapping(
            as_mapping(as_mapping(self._value.get("data_source_config")).get("item_schema")).get("properties")
        )
        kind = as_mapping(properties.get(name)).get("type")
        return {
            "number": "number",
            "integer": "integer",
            "boolean": "boolean",
            "array": "list",
            "object": "object",
        }.get(str(kind), "text")

    def _criteria(self) -> tuple[str | None, list[ScorerSpec], dict[str, list[dict[str, Any]]]]:
        """Return the item's member that is expected, the scorers, and the checks whose parameters differ by item."""
        listed = [as_mapping(each) for each in as_list(self._value.get("testing_criteria"))]
        references = [
            str(each.get("reference"))
            for each in listed
            if each.get("type") in {"string_check", "text_similarity"}
        ]
        plain = [match[1] if (match := _ITEM.fullmatch(text.strip())) else None for text in references]
        expected = plain[0] if plain and len(set(plain)) == 1 and plain[0] and "." not in plain[0] else None
        scorers: list[ScorerSpec] = []
        checks: dict[str, list[dict[str, Any]]] = {}
        for criterion in listed:
            taken = {scorer.name for scorer in scorers}
            name = slug(str(criterion.get("name") or criterion.get("type")), taken=taken)
            made = self._scorer(criterion, name)
            if made is None:
                continue
            reference = criterion.get("reference")
            if isinstance(reference, str) and expected is None:
                part = {
                    "scorer": made.scorer,
                    "name": name,
                    "parameters": {**made.parameters, "expected": reference},
                }
                checks[f"checks_{name}"] = [part]
                scorers.append(ScorerSpec(scorer="checks", name=name, parameters={"key": f"checks_{name}"}))
            else:
                scorers.append(made)
        return expected, scorers, checks

    def _fill_check(self, part: Mapping[str, Any], item: Mapping[str, Any]) -> dict[str, Any]:
        filled, left = fill(str(part["parameters"]["expected"]), {"item": item})
        for each in left:
            self._found.note("changed", self._where, f"{part['name']}: {each} in `reference` stays as it is")
        return {**part, "parameters": {**part["parameters"], "expected": filled}}

    def _scorer(self, criterion: Mapping[str, Any], name: str) -> ScorerSpec | None:
        kind = criterion.get("type")
        where = f"{self._where}: testing_criteria {criterion.get('name')!r}"
        if kind in {"string_check", "text_similarity"} and not _ANSWER.fullmatch(
            str(criterion.get("input")).strip()
        ):
            self._found.note(
                "changed",
                where,
                f"`input` is {str(criterion.get('input'))[:80]!r}; the whole answer is judged instead",
            )
        if kind == "string_check":
            known = _STRING_CHECKS.get(str(criterion.get("operation")))
            if known:
                return ScorerSpec(scorer=known[0], name=name, parameters=dict(known[1]))
        elif kind == "text_similarity":
            return self._similarity(criterion, name, where)
        elif kind == "label_model":
            labels = [str(each) for each in as_list(criterion.get("labels"))]
            passing = {str(each) for each in as_list(criterion.get("passing_labels"))}
            choices = {label: 1.0 if label in passing else 0.0 for label in labels}
            return self._judge("classify", criterion, name, where, {"choices": choices})
        elif kind == "score_model":
            bounds = as_list(criterion.get("range")) or [0, 1]
            if len(bounds) != 2 or not all(map(_is_number, bounds)) or not bounds[0] < bounds[1]:
                self._found.note("left out", where, f"range {str(bounds)[:80]} is no pair of rising numbers")
                return None
            low, high = bounds
            scale: dict[str, float] = {"low": 0, "high": 10}
            threshold = criterion.get("pass_threshold")
            if _is_number(threshold):
                scale["threshold"] = 10 * (threshold - low) / (high - low)
            self._found.note(
                "changed", where, f"a number from {low} to {high} is asked for as one from 0 to 10"
            )
            return self._judge("rating", criterion, name, where, scale)
        elif kind == "python":
            source = " ".join(str(criterion.get("source", "")).split())[:120]
            self._found.note(
                "left out", where, f"Python is never run from a file; make it a scorer of your own: {source}"
            )
            return None
        self._found.note("left out", where, f"type {kind!r}, operation {criterion.get('operation')!r}")
        return None

    def _similarity(self, criterion: Mapping[str, Any], name: str, where: str) -> ScorerSpec | None:
        metric = str(criterion.get("evaluation_metric"))
        known = _SIMILAR.get(metric)
        if known is None:
            self._found.note("left out", where, f"evaluation_metric {metric!r}")
            return None
        scorer, parameters, factor = known
        made: dict[str, Any] = dict(parameters)
        threshold = criterion.get("pass_threshold")
        if isinstance(threshold, int | float) and not isinstance(threshold, bool):
            made["threshold"] = threshold * factor
        if metric in {"fuzzy_match", "cosine", "meteor"}:
            self._found.note(
                "changed",
                where,
                f"{metric} becomes {scorer}, which may give other numbers: look at the threshold",
            )
        return ScorerSpec(scorer=scorer, name=name, parameters=made)

    def _judge(
        self, scorer: str, criterion: Mapping[str, Any], name: str, where: str, more: Mapping[str, Any]
    ) -> ScorerSpec:
        texts = [_text_of(as_mapping(each)) for each in as_list(criterion.get("input"))]
        text = _ANSWER.sub("the OUTPUT", "\n\n".join(texts))
        hidden = sorted(set(_ITEM.findall(text)))
        text = _ITEM.sub(lambda match: f"the item's {match[1]}", text)
        self._found.note(
            "changed", where, "the judge is shown input, answer and expected answer between marks"
            + (f"; look after {', '.join(hidden)}, which its words refer to" if hidden else "")
        )  # fmt: skip
        model = self._options.judge or criterion.get("model") or UNSET_MODEL
        asked = {"classify": "question", "rating": "criterion"}[scorer]
        return ScorerSpec(scorer=scorer, name=name, parameters={"model": model, asked: text, **more})


def _text_of(turn: Mapping[str, Any]) -> str:
    content = turn.get("content")
    if isinstance(content, Mapping):
        return str(content.get("text", ""))
    if isinstance(content, list):
        return "\n".join(_text_of({"content": each}) for each in content)
    return str(content or "")
