"""Reads a registry folder of OpenAI Evals: `evals/*.yaml` that name a class and its samples, `data/**/*.jsonl`, `modelgraded/*.yaml`.

Match, Includes, FuzzyMatch, JsonMatch and ModelBasedClassify are carried over; other classes are code and are reported.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from penstock.evals.importers.documents import Folder, Located, as_list, as_mapping, line_of
from penstock.evals.importers.errors import ImportUnreadable
from penstock.evals.importers.types import UNSET_MODEL, Imported, ImportOptions, slug
from penstock.spec.cases import Case
from penstock.spec.evaluations import EvaluationSpec, ScorerSpec, TargetSpec

_KNOWN_ARGS = frozenset(
    {"samples_jsonl", "few_shot_jsonl", "num_few_shot", "max_tokens", "ignore_case", "eval_type", "modelgraded_spec", "modelgraded_spec_args", "multicomp_n", "sample_kwargs", "eval_kwargs", "registry", "seed", "n_samples"}
)  # fmt: skip
_PLACES = {"completion": "the OUTPUT", "input": "the INPUT", "ideal": "the EXPECTED answer"}


def is_registry(path: Path) -> bool:
    """Return whether a folder looks like a registry, or like the `evals` folder of one."""
    return path.is_dir() and bool(_eval_files(path))


def _eval_files(root: Path) -> list[Path]:
    folder = root / "evals" if (root / "evals").is_dir() else root
    return sorted(each for each in folder.rglob("*") if each.suffix in {".yaml", ".yml"} and each.is_file())


def import_registry(path: Path, options: ImportOptions) -> Imported:
    """Return every evaluation of the folder; raise `ImportUnreadable` when there is none."""
    folder = Folder(path)
    reader = _Reader(folder, options)
    for file in _eval_files(path):
        reader.read_file(file)
    if not reader.found.evaluations and not reader.found.notes:
        raise ImportUnreadable(f"{path.name} holds no evaluation of OpenAI Evals.")
    return reader.found


class _Reader:
    def __init__(self, folder: Folder, options: ImportOptions) -> None:
        self._folder, self._options = folder, options
        self.found = Imported(source="OpenAI Evals registry")
        self._graders = self._read_graders()

    def _read_graders(self) -> dict[str, tuple[Any, str]]:
        graders: dict[str, tuple[Any, str]] = {}
        for file in sorted((self._folder.root / "modelgraded").glob("*.y*ml")):
            for name, spec in as_mapping(self._folder.document(file)).items():
                graders[name] = (spec, f"{self._folder.name(file)}{line_of(spec)}")
        return graders

    def read_file(self, file: Path) -> None:
        """Read one file of specifications; those that only name another one are aliases."""
        for name, spec in as_mapping(self._folder.document(file)).items():
            where = f"{self._folder.name(file)}{line_of(spec)}"
            if not isinstance(spec, Mapping) or "class" not in spec:
                if isinstance(spec, Mapping) and "id" not in spec and spec:
                    self.found.note("left out", where, f"{name} has neither `id` nor `class`")
                continue
            try:
                self._read_eval(name, spec, where)
            except ImportUnreadable as error:
                self.found.note("left out", where, f"{name}: {error.message}")

    def _read_eval(self, name: str, spec: Mapping[str, Any], where: str) -> None:
        args = as_mapping(spec.get("args"))
        kind = str(spec["class"]).rpartition(":")[2]
        scorers = self._scorers(kind, args, where)
        if not scorers:
            self.found.note(
                "left out",
                where,
                f"{name}: class {spec['class']} is code of its own; write it as a Python scorer",
            )
            return
        for key in args:
            if key not in _KNOWN_ARGS:
                self.found.note("left out", where, f"{name}: args.{key}")
        samples = args.get("samples_jsonl")
        if not isinstance(samples, str):
            self.found.note("left out", where, f"{name}: args.samples_jsonl is missing")
            return
        own = slug(name.rpartition(".")[0] or name, taken=self.found.evaluations)
        shots = self._shots(args, where)
        cases = self._cases(samples, shots, kind)
        if not cases:
            self.found.note("left out", where, f"{name}: {samples} holds no sample with an input")
            return
        self.found.datasets[own] = cases
        if self._options.model is None:
            self.found.note(
                "to do",
                f"{own}.eval.toml",
                "name the route that answers as target.model (or import with --model)",
            )
        parameters = {"max_tokens": args["max_tokens"]} if isinstance(args.get("max_tokens"), int) else {}
        self.found.evaluations[own] = EvaluationSpec(
            name=own,
            target=TargetSpec(
                model=self._options.model or UNSET_MODEL, parameters={"temperature": 0, **parameters}
            ),
            file=own,
            scorers=scorers,
        )
        self.found.note("assumed", where, f"{name}: temperature 0, as the tool asks unless told otherwise")

    def _find_data(self, name: str) -> Path:
        try:
            return self._folder.find(f"data/{name}")
        except ImportUnreadable:
            return self._folder.find(name)

    def _shots(self, args: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
        n, name = args.get("num_few_shot", 0), args.get("few_shot_jsonl")
        if not n:
            return []
        if not isinstance(name, str) or not isinstance(n, int):
            self.found.note("left out", where, "args.num_few_shot without args.few_shot_jsonl")
            return []
        turns: list[dict[str, Any]] = []
        for _, sample in list(self._folder.json_lines(self._find_data(name)))[:n]:
            turns += [
                dict(each) for each in as_list(as_mapping(sample).get("sample")) if isinstance(each, Mapping)
            ]
        return turns

    def _cases(self, samples: str, shots: list[dict[str, Any]], kind: str) -> list[Case]:
        file = self._find_data(samples)
        cases = []
        for number, sample in self._folder.json_lines(file):
            where = f"{self._folder.name(file)}:{number}"
            asked = as_mapping(sample).get("input")
            if isinstance(asked, str):
                messages: list[dict[str, Any]] = [{"role": "user", "content": asked}]
            elif isinstance(asked, list) and all(
                isinstance(turn, Mapping) and turn.get("content") for turn in asked
            ):
                messages = [dict(turn) for turn in asked]
            else:
                self.found.note("left out", where, "the sample has no `input` that could be sent")
                continue
            ideal = sample.get("ideal", sample.get("expected"))
            if kind == "JsonMatch":
                ideal = ideal[0] if isinstance(ideal, list) and len(ideal) == 1 else ideal
            extra = {
                key: value for key, value in sample.items() if key not in {"input", "ideal", "expected", "id"}
            }
            cases.append(
                Case(
                    id=f"{number}",
                    messages=[*messages[:-1], *shots, messages[-1]],
                    expected=ideal,
                    metadata={"sample": extra} if extra else {},
                )
            )
        return cases

    def _scorers(self, kind: str, args: Mapping[str, Any], where: str) -> list[ScorerSpec]:
        ignores = bool(args.get("ignore_case", False))
        if kind == "Match":
            return [ScorerSpec(scorer="starts_with", name="match")]
        if kind == "Includes":
            return [ScorerSpec(scorer="contains", name="includes", parameters={"ignore_case": ignores})]
        if kind == "FuzzyMatch":
            self.found.note(
                "changed",
                where,
                "FuzzyMatch also takes an answer that is a part of the ideal one; `contains` does not",
            )
            loose = {"ignore_case": True, "ignore_punctuation": True, "ignore_articles": True}
            return [
                ScorerSpec(scorer="contains", name="fuzzy_match", parameters=loose),
                ScorerSpec(scorer="token_f1", parameters={"tokenizer": "squad"}),
            ]
        if kind == "JsonMatch":
            return [
                ScorerSpec(
                    scorer="json_equal", name="json_match", parameters={"fenced": False, "alternatives": True}
                )
            ]
        if kind == "ModelBasedClassify":
            return self._classify(args, where)
        return []

    def _classify(self, args: Mapping[str, Any], where: str) -> list[ScorerSpec]:
        named = args.get("modelgraded_spec")
        spec, place = (
            (named, where) if isinstance(named, Mapping) else self._graders.get(str(named), (None, where))
        )
        if not isinstance(spec, Mapping) or not isinstance(spec.get("prompt"), str):
            self.found.note("left out", where, f"modelgraded/{named}.yaml with a prompt is not there")
            return []
        choices = self._choices(spec, place)
        if choices is None:
            return []
        fixed = {**as_mapping(spec.get("args")), **as_mapping(args.get("modelgraded_spec_args"))}
        question = self._question(spec["prompt"], fixed, place)
        if self._options.judge is None:
            self.found.note(
                "to do", place, "name the route that judges as `model` of the scorer (or import with --judge)"
            )
        self.found.note(
            "changed",
            place,
            "the question keeps its words; input, answer and expected answer stand between marks below it, not within",
        )
        return [
            ScorerSpec(
                scorer="classify",
                name=slug(str(named)) if isinstance(named, str) else "classify",
                parameters={
                    "model": self._options.judge_model,
                    "question": question,
                    "choices": choices,
                    "reason_first": str(
                        args.get("eval_type", spec.get("eval_type", "cot_classify"))
                    ).startswith("cot"),
                },
            )
        ]

    def _choices(self, spec: Mapping[str, Any], where: str) -> dict[str, float | None] | None:
        strings = spec.get("choice_strings")
        labels = [str(each) for each in strings] if isinstance(strings, str | list) else []
        scores = spec.get("choice_scores")
        if not labels or strings == "from_n":
            self.found.note("left out", where, f"choice_strings: {strings!r}: comparisons of several answers")
            return None
        if scores == "from_strings":
            values = {label: _as_float(label) for label in labels}
        elif isinstance(scores, Mapping):
            values = {label: _as_float(as_mapping(scores).get(label)) for label in labels}
        else:
            values = dict.fromkeys(labels)
        if all(value is None for value in values.values()):
            self.found.note(
                "to do",
                where,
                "no choice_scores: the labels are worth nothing yet; say in `choices` what each is worth",
            )
            values = {label: 1.0 if at == 0 else 0.0 for at, label in enumerate(labels)}
        return values

    def _question(self, prompt: str, fixed: Mapping[str, Any], where: str) -> str:
        def replace(match: re.Match[str]) -> str:
            name = match[1]
            if name in fixed:
                return str(fixed[name])
            if name in _PLACES:
                return _PLACES[name]
            self.found.note(
                "changed",
                where,
                f"{{{name}}} is not shown to the judge; it sees input, answer, expected answer",
            )
            return f"({name})"

        return re.sub(r"\{(\w+)\}", replace, prompt).strip()


def _as_float(value: Any) -> float | None:
    try:
        return None if value is None or isinstance(value, bool | Located) else float(value)
    except (TypeError, ValueError):
        return None
