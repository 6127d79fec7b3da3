"""Reads the tests of a promptfoo configuration as cases: inline, in files (CSV, YAML, JSON, JSONL), scenarios, defaultTest."""

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec.structs import replace

from penstock.evals.importers.documents import Folder, as_list, as_mapping, line_of
from penstock.evals.importers.errors import ImportTooLarge, ImportUnreadable
from penstock.evals.importers.promptfoo_asserts import AssertReader, Check
from penstock.evals.importers.types import Imported
from penstock.spec.cases import Case

_TEST_READ = frozenset({"description", "vars", "assert", "threshold", "options", "metadata"})
_TEXTS = (".txt", ".md", ".json", ".yaml", ".yml", ".j2", ".prompt")
_EXPECTED = re.compile(r"(?s)\A(not-)?([a-z][a-z-]*)(?:\(([\d.]+)\))?\s*:\s*(.*)\Z")
_SHORT = {"grade": "llm-rubric", "fn": "javascript", "eval": "javascript"}


class TestReader:
    """Makes cases of tests; what they cannot say here is noted."""

    def __init__(
        self, folder: Folder, config: Mapping[str, Any], found: Imported, where: str, asserts: AssertReader
    ) -> None:
        self._folder, self._config, self._where = folder, config, where
        self._found, self._asserts = found, asserts

    def cases(self) -> Iterator[Case]:
        """Yield the cases, numbered as they stand."""
        default = self._default_test()
        number = 0
        for where, test in self._tests(self._config.get("tests")):
            for case in self._expand(test, default, where):
                number += 1
                yield _numbered(case, number)
        for scenario in as_list(self._config.get("scenarios")):
            place = f"{self._where}{line_of(scenario)}"
            if not isinstance(scenario, Mapping):
                self._found.note("left out", place, f"scenario {scenario!r}")
                continue
            for config in as_list(scenario.get("config")) or [{}]:
                for where, test in self._tests(scenario.get("tests")):
                    merged = {
                        **test,
                        "vars": {
                            **as_mapping(as_mapping(config).get("vars")),
                            **as_mapping(test.get("vars")),
                        },
                    }
                    for case in self._expand(merged, default, where):
                        number += 1
                        yield _numbered(case, number)

    def _default_test(self) -> Mapping[str, Any]:
        given = self._config.get("defaultTest")
        if isinstance(given, str):
            try:
                given = self._folder.document(self._folder.find(given))
            except ImportUnreadable as error:
                self._found.note("left out", self._where, f"defaultTest: {error.message}")
        return as_mapping(given)

    def _tests(self, given: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for each in as_list(given):
            where = f"{self._where}{line_of(each)}"
            if isinstance(each, Mapping) and "path" not in each:
                yield where, each
            elif isinstance(each, str):
                try:
                    yield from self._test_file(each, where)
                except (ImportUnreadable, ImportTooLarge) as error:
                    self._found.note("left out", where, f"tests: {error.message}")
            else:
                self._found.note("left out", where, "tests that code makes are never run from a file")

    def _test_file(self, name: str, where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        if "://" in name and not name.startswith("file://"):
            self._found.note(
                "left out", where, f"tests of {name}: nothing is fetched; save them beside the file"
            )
            return
        if name.endswith((".js", ".ts", ".py", ".mjs")) or re.search(r"\.(?:js|ts|mjs|py):\w+$", name):
            self._found.note("left out", where, f"tests of {name} are code, which is never run from a file")
            return
        file = self._folder.find(name)
        shown = self._folder.name(file)
        if file.suffix in {".csv", ".tsv"}:
            header, *rows = self._folder.table(file) or [[]]
            for number, row in enumerate(rows, 2):
                yield (
                    f"{shown}:{number}",
                    self._row_test([cell.strip() for cell in header], row, f"{shown}:{number}"),
                )
        elif file.suffix == ".jsonl":
            for number, value in self._folder.json_lines(file):
                yield f"{shown}:{number}", as_mapping(value)
        else:
            for value in as_list(self._folder.document(file)):
                yield f"{shown}{line_of(value)}", as_mapping(value)

    def _row_test(self, header: list[str], row: list[str], where: str) -> Mapping[str, Any]:
        test: dict[str, Any] = {"vars": {}, "assert": [], "metadata": {}}
        metric = None
        for name, cell in zip(header, row, strict=False):
            if name.startswith("__expected"):
                if cell.strip():
                    test["assert"].append(_short_assert(cell.strip()))
            elif name == "__description":
                test["description"] = cell
            elif name == "__threshold" and cell.strip():
                test["threshold"] = _number(cell.strip())
                if test["threshold"] is None:
                    self._found.note("left out", where, f"__threshold {cell.strip()[:60]!r} is no number")
            elif name == "__metric":
                metric = cell.strip() or None
            elif name.startswith("__metadata:"):
                test["metadata"][name.removeprefix("__metadata:")] = cell
            elif name.startswith("__"):
                self._found.note("left out", where, f"column {name}")
            else:
                test["vars"][name] = cell
        if metric:
            test["assert"] = [{**each, "metric": metric} for each in test["assert"]]
        return test

    def _expand(self, test: Mapping[str, Any], default: Mapping[str, Any], where: str) -> Iterator[Case]:
        for key in test:
            if key not in _TEST_READ:
                self._found.note("left out", where, f"test `{key}`")
        options = {**as_mapping(default.get("options")), **as_mapping(test.get("options"))}
        for key in options:
            if key not in {"disableVarExpansion", "disableDefaultAsserts"}:
                self._found.note(
                    "left out",
                    where,
                    f"options.{key}" + (" (code is never run)" if key == "transform" else ""),
                )
        values = {**as_mapping(default.get("vars")), **as_mapping(test.get("vars"))}
        values = {name: self._value(value, where) for name, value in values.items()}
        asserts = as_list(test.get("assert"))
        if not options.get("disableDefaultAsserts"):
            asserts = [*as_list(default.get("assert")), *asserts]
        threshold = test.get("threshold", default.get("threshold"))
        lists = (
            []
            if options.get("disableVarExpansion")
            else [name for name, value in values.items() if isinstance(value, list)]
        )
        for chosen in itertools.product(*(values[name] for name in lists)):
            inputs = {**values, **dict(zip(lists, chosen, strict=True))}
            yield self._case(test, inputs, asserts, threshold, where)

    def _case(
        self,
        test: Mapping[str, Any],
        inputs: Mapping[str, Any],
        asserts: list[Any],
        threshold: Any,
        where: str,
    ) -> Case:
        checks: list[Check] = []
        metadata: dict[str, Any] = {
            key: value for key, value in as_mapping(test.get("metadata")).items() if key != "checks"
        }
        for given in asserts:
            place = "" if line_of(given) else where
            check = self._asserts.read(given, inputs, where=place)
            if check is None:
                continue
            checks.append(check)
            metric = as_mapping(given).get("metric")
            if isinstance(metric, str) and metric:
                metadata.setdefault(f"metric:{metric}", []).append(check)
        if checks:
            metadata["checks"] = checks
        elif asserts:
            self._found.note(
                "changed",
                where,
                "none of the test's assertions could be carried over: its score is undefined",
            )
        if isinstance(threshold, int | float) and not isinstance(threshold, bool):
            metadata["threshold"] = float(threshold)
        if isinstance(test.get("description"), str):
            metadata["description"] = test["description"]
        return Case(id="0", inputs=dict(inputs), metadata=metadata)

    def _value(self, value: Any, where: str) -> Any:
        if not isinstance(value, str) or not value.startswith("file://"):
            return value
        if not value.endswith(_TEXTS):
            self._found.note("left out", where, f"variable from {value}: code and pictures are not read")
            return value
        try:
            return self._folder.text(self._folder.find(value)).strip()
        except (ImportUnreadable, ImportTooLarge) as error:
            self._found.note("left out", where, f"variable: {error.message}")
            return value


def _numbered(case: Case, number: int) -> Case:
    return replace(case, id=str(number))


def _number(text: str) -> float | None:
    """Return the number that a cell holds, or None."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _short_assert(text: str) -> Mapping[str, Any]:
    """Return the assertion that a cell of `__expected` says: `contains: x`, `similar(0.8): y`, or the very answer."""
    match = _EXPECTED.match(text)
    if text in {"is-json", "contains-json", "is-refusal", "not-is-refusal"}:
        return {"type": text}
    if match is None or (match[2] not in _SHORT and match[2] not in _SHORT_TYPES):
        return {"type": "equals", "value": text}
    kind = _SHORT.get(match[2], match[2])
    made: dict[str, Any] = {"type": f"{match[1] or ''}{kind}", "value": match[4]}
    if match[3]:
        made["threshold"] = match[3] if (number := _number(match[3])) is None else number
    if kind in {"latency", "cost"} and not match[3]:
        made["threshold"] = match[4]
    return made


_SHORT_TYPES = frozenset(
    {"equals", "contains", "icontains", "contains-all", "contains-any", "icontains-all", "icontains-any", "starts-with", "regex", "is-json", "contains-json", "javascript", "python", "similar", "llm-rubric", "factuality", "model-graded-closedqa", "levenshtein", "rouge-n", "bleu", "meteor", "latency", "cost", "g-eval", "answer-relevance", "context-relevance", "context-faithfulness", "is-refusal"}
)  # fmt: skip
