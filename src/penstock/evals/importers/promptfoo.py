"""Reads a promptfoo configuration: prompts, providers, tests, scenarios, defaultTest. JavaScript and Python in it are never run.

Each test becomes a case whose own checks lie in its metadata, as promptfoo judges each test by its own assertions; each prompt
beside each provider becomes an evaluation.
"""

import itertools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from penstock.evals.importers.documents import Folder, as_list, as_mapping, line_of, read_yaml
from penstock.evals.importers.errors import ImportTooLarge, ImportUnreadable
from penstock.evals.importers.promptfoo_asserts import AssertReader
from penstock.evals.importers.promptfoo_tests import TestReader
from penstock.evals.importers.templates import to_jinja, variable_names
from penstock.evals.importers.types import GateDraft, Imported, ImportOptions, slug
from penstock.spec.evaluations import EvaluationSpec, ScorerSpec, TargetSpec
from penstock.spec.prompts import PromptContent, PromptMessage, PromptVariable

NAMES = ("promptfooconfig.yaml", "promptfooconfig.yml", "promptfooconfig.json")
MAX_CASES = 100_000
_READ = frozenset({"description", "prompts", "providers", "targets", "tests", "defaultTest", "scenarios", "assertionTemplates", "evaluateOptions", "$schema"})  # fmt: skip
_SAMPLING = frozenset({"temperature", "max_tokens", "top_p", "seed", "stop", "frequency_penalty", "presence_penalty", "max_completion_tokens", "reasoning_effort"})  # fmt: skip


def find_config(path: Path) -> Path | None:
    """Return the configuration file of a folder, or the file itself; None when there is none."""
    if path.is_file():
        return path
    return next((path / name for name in NAMES if (path / name).is_file()), None)


def import_promptfoo(path: Path, options: ImportOptions) -> Imported:
    """Return what a configuration says; raise `ImportUnreadable` when it is none."""
    file = find_config(path)
    if file is None:
        raise ImportUnreadable(f"There is no {NAMES[0]} in {path.name}.")
    if file.suffix not in {".yaml", ".yml", ".json"}:
        raise ImportUnreadable(f"{file.name} is code, which is never run from a file; write it out as YAML.")
    folder = Folder(file.parent)
    config = folder.document(file)
    if not isinstance(config, Mapping) or not {"prompts", "tests", "providers", "targets", "scenarios"} & set(
        config
    ):
        raise ImportUnreadable(f"{file.name} is no configuration of promptfoo.")
    return _Reader(folder, file, config, options).read()


class _Reader:
    def __init__(self, folder: Folder, file: Path, config: Mapping[str, Any], options: ImportOptions) -> None:
        self._folder, self._file, self._config, self._options = folder, file, config, options
        self._where = folder.name(file)
        self.found = Imported(source="promptfoo")
        self._name = slug(str(config.get("description") or file.parent.name or "promptfoo"))

    def read(self) -> Imported:
        """Carry everything over that can be."""
        for key, value in self._config.items():
            if key not in _READ:
                self.found.note("left out", f"{self._where}{line_of(value)}", f"`{key}`")
        templates = as_mapping(self._config.get("assertionTemplates"))
        asserts = AssertReader(self.found, self._options, self._where, templates)
        tests = TestReader(self._folder, self._config, self.found, self._where, asserts)
        cases = list(itertools.islice(tests.cases(), MAX_CASES + 1))
        if len(cases) > MAX_CASES:
            raise ImportTooLarge(f"{self._where} unfolds to more than {MAX_CASES:,} tests.")
        if not cases:
            raise ImportUnreadable(f"{self._where} holds no tests.")
        self.found.datasets[self._name] = cases
        prompts = self._prompts()
        scorers = [ScorerSpec(scorer="checks")]
        metrics = {key for case in cases for key in case.metadata if key.startswith("metric:")}
        scorers += [
            ScorerSpec(
                scorer="checks",
                name=slug(key.removeprefix("metric:"), taken={"checks"}),
                parameters={"key": key, "threshold_key": ""},
            )
            for key in sorted(metrics)
        ]
        options = as_mapping(self._config.get("evaluateOptions"))
        repeats = options.get("repeat", 1)
        for key in options:
            if key not in {"repeat", "maxConcurrency"}:
                self.found.note("left out", self._where, f"evaluateOptions.{key}")
        concurrency = options.get("maxConcurrency", 8)
        for prompt, (model, parameters) in itertools.product(prompts, self._providers()):
            parts = [self._name] if len(prompts) == 1 else [prompt or self._name]
            name = slug("-".join([*parts, model]), taken=self.found.evaluations)
            self.found.evaluations[name] = EvaluationSpec(
                name=name,
                target=TargetSpec(
                    model=model, prompt=f"prompt:{prompt}@latest" if prompt else None, parameters=parameters
                ),
                file=self._name,
                scorers=scorers,
                repeats=repeats if isinstance(repeats, int) and repeats > 0 else 1,
                concurrency=concurrency if isinstance(concurrency, int) and concurrency > 0 else 8,
            )
            self.found.gates[name] = GateDraft(evaluation=name, rules=["checks == 1"])
        return self.found

    # prompts

    def _prompts(self) -> list[str]:
        """Return the names of the prompts that were read; one empty name when the tests are sent as they are."""
        names = []
        for given in as_list(self._config.get("prompts")):
            where = f"{self._where}{line_of(given)}"
            raw, label = given, ""
            if isinstance(given, Mapping):
                raw, label = (
                    given.get("raw", given.get("id")),
                    str(given.get("label") or given.get("display") or ""),
                )
                for key in set(given) - {"raw", "id", "label", "display"}:
                    self.found.note("left out", where, f"prompt `{key}`")
            if not isinstance(raw, str):
                self.found.note("left out", where, "a prompt without a text")
                continue
            try:
                texts = self._prompt_texts(raw, where)
            except (ImportUnreadable, ImportTooLarge) as error:
                self.found.note("left out", where, f"prompt: {error.message}")
                continue
            for text in texts:
                base = label or (Path(raw).stem if _is_file(raw) else f"{self._name}-prompt")
                name = slug(base, taken=self.found.prompts)
                self.found.prompts[name] = self._content(text, where)
                names.append(name)
        return names or [""]

    def _prompt_texts(self, raw: str, where: str) -> list[str]:
        if not _is_file(raw):
            return [raw]
        if (
            raw.endswith((".js", ".ts", ".mjs", ".cjs", ".py"))
            or re.search(r"\.(?:js|ts|mjs|cjs|py):\w+$", raw)
            or raw.startswith("exec:")
        ):
            self.found.note("left out", where, f"prompt {raw} is code, which is never run from a file")
            return []
        if any(sign in raw for sign in "*?["):
            pattern = raw.removeprefix("file://").removeprefix("./")
            files = (
                [each for each in sorted(self._folder.root.glob(pattern)) if each.is_file()]
                if ".." not in pattern
                else []
            )
            if not files:
                raise ImportUnreadable(f"{raw} names no file")
        else:
            files = [self._folder.find(raw)]
        texts: list[str] = []
        for file in files:
            text = self._folder.text(file)
            texts += (
                [part.strip("\n") for part in re.split(r"(?m)^---\s*$", text)]
                if file.suffix in {".txt", ".md"}
                else [text]
            )
        return [text for text in texts if text.strip()]

    def _content(self, text: str, where: str) -> PromptContent:
        messages: list[PromptMessage] = []
        if text.lstrip().startswith(("[", "- role")):
            messages = self._chat(text, where)
        if not messages:
            messages = [PromptMessage(role="user", content=self._template(text, where))]
        names = dict.fromkeys(
            name
            for message in messages
            if isinstance(message.content, str)
            for name in variable_names(message.content)
        )
        return PromptContent(
            messages=messages, variables={name: PromptVariable(type=self._type_of(name)) for name in names}
        )

    def _chat(self, text: str, where: str) -> list[PromptMessage]:
        try:
            turns = json.loads(text) if text.lstrip().startswith("[") else read_yaml(text, where)
        except ValueError:
            self.found.note(
                "changed",
                where,
                "a JSON prompt whose variables stand outside quotes is taken as one user turn",
            )
            return []
        messages = []
        for turn in as_list(turns):
            role, content = as_mapping(turn).get("role"), as_mapping(turn).get("content")
            if role not in {"system", "developer", "user", "assistant"} or not isinstance(content, str):
                self.found.note("left out", where, f"a turn with role {role!r} whose content is no text")
                continue
            messages.append(PromptMessage(role=role, content=self._template(content, where)))
        return messages

    def _template(self, text: str, where: str) -> str:
        changed, unknown = to_jinja(text)
        for each in unknown:
            self.found.note("changed", where, f"template: {each} is not known here")
        return changed

    def _type_of(self, name: str) -> Any:
        kinds = {
            type(case.inputs[name])
            for cases in self.found.datasets.values()
            for case in cases
            if name in case.inputs
        }
        types = {bool: "boolean", int: "number", float: "number", list: "list"}
        if len(kinds) == 1:
            (kind,) = kinds
            return "object" if issubclass(kind, Mapping) else types.get(kind, "text")
        return "number" if kinds == {int, float} else "text"

    # providers

    def _providers(self) -> list[tuple[str, dict[str, Any]]]:
        """Return route and parameters of each provider."""
        found: list[tuple[str, dict[str, Any]]] = []
        for listed in as_list(self._config.get("providers", self._config.get("targets"))):
            given: Any = listed
            where = f"{self._where}{line_of(given)}"
            config: Mapping[str, Any] = {}
            name: Any = given
            if isinstance(given, Mapping):
                name = given.get("id")
                if name is None and len(given) == 1:
                    ((name, inner),) = given.items()
                    given = {"id": name, **as_mapping(inner)}
                config = as_mapping(given.get("config"))
                for key in set(given) - {"id", "label", "config"}:
                    self.found.note("left out", where, f"provider `{key}`")
            if (
                not isinstance(name, str)
                or name.startswith(("file://", "exec:", "python:", "http", "ws", "javascript:", "package:"))
                or name.endswith((".js", ".py", ".ts"))
            ):
                self.found.note(
                    "left out", where, f"provider {name!r}: set target.http or target.python yourself"
                )
                continue
            model = name.split(":", 2)[-1] if name.count(":") >= 2 else name.split(":")[-1]
            parameters = {key: value for key, value in config.items() if key in _SAMPLING}
            for key in config:
                if key not in _SAMPLING:
                    self.found.note("left out", where, f"provider config.{key}")
            self.found.note("assumed", where, f"provider {name} is the route {model}")
            found.append((self._options.model or model, parameters))
        if not found:
            if self._options.model is None:
                self.found.note(
                    "to do", self._where, "no provider could be carried over: name the route as target.model"
                )
            return [(self._options.model or "set-the-model", {})]
        return list({json.dumps(each, sort_keys=True): each for each in found}.values())


def _is_file(text: str) -> bool:
    if text.startswith(("file://", "exec:")):
        return True
    return (
        "\n" not in text
        and "{{" not in text
        and bool(
            re.fullmatch(r"[\w./*?\[\]-]+\.(?:txt|md|json|ya?ml|j2|js|ts|mjs|cjs|py|csv)(?::\w+)?", text)
        )
    )
