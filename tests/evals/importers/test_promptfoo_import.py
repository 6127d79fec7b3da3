"""promptfoo configurations: what is carried over judges as it did, and everything else stands in the report."""

import asyncio
import json
from pathlib import Path

import pytest

from penstock.evals.catalogue import Catalogue
from penstock.evals.importers import promptfoo
from penstock.evals.importers.errors import ImportTooLarge, ImportUnreadable
from penstock.evals.importers.promptfoo import import_promptfoo
from penstock.evals.importers.types import Imported, ImportOptions
from penstock.evals.scorers.types import ScorerTools
from penstock.spec.cases import Case, Output
from penstock.spec.evaluations import ScorerSpec

CONFIG = """
description: Capital cities
prompts:
  - "What is the capital of {{country}}? Answer in {{ words | dump }} words."
  - file://chat.json
  - file://prompt.js
providers:
  - openai:chat:gpt-4o-mini
  - id: anthropic:messages:claude-haiku
    label: haiku
    config: {temperature: 0, apiKey: "{{env.KEY}}"}
  - python:provider.py
defaultTest:
  assert:
    - type: not-contains
      value: As an AI
tests:
  - description: France
    vars: {country: France, words: 1}
    assert:
      - {type: icontains, value: "paris"}
      - {type: javascript, value: "output.length < 10"}
      - {type: llm-rubric, value: "Names the capital of {{country}}", metric: Helpful}
  - vars:
      country: [Spain, Portugal]
      words: 2
    threshold: 0.5
    assert:
      - type: assert-set
        threshold: 0.5
        weight: 3
        assert:
          - {type: contains-any, value: "Madrid, Lisbon"}
          - {type: levenshtein, value: Madrid, threshold: 3}
    options: {transform: "output.trim()"}
  - file://more.csv
  - file://../outside.yaml
outputPath: results.json
evaluateOptions: {repeat: 2, maxConcurrency: 3}
"""
CSV = "country,__expected1,__expected2,__threshold\nItaly,contains: Rome,similar(0.9): It is Rome,0.5\nPeru,Lima,,\n"
CHAT = (
    '[{"role": "system", "content": "Be short."}, {"role": "user", "content": "Capital of {{ country }}?"}]'
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "capitals"
    root.mkdir()
    (root / "promptfooconfig.yaml").write_text(CONFIG)
    (root / "chat.json").write_text(CHAT)
    (root / "prompt.js").write_text("module.exports = () => { throw new Error('run!') }")
    (root / "more.csv").write_text(CSV)
    (tmp_path / "outside.yaml").write_text("- vars: {country: Secret}")
    return root


def told(found: Imported, kind: str) -> str:
    return "\n".join(f"{note.where} {note.what}" for note in found.notes if note.kind == kind)


def judged(case: Case, text: str) -> float | None:
    scorer = Catalogue().create(ScorerSpec(scorer="checks"))
    (score,) = asyncio.run(scorer.score(case, [Output(case_id=case.id, text=text)], ScorerTools()))
    return score.value


def test_prompts_providers_and_tests_become_evaluations_and_cases(folder: Path) -> None:
    found = import_promptfoo(folder, ImportOptions(judge="judge"))
    (cases,) = found.datasets.values()
    assert [case.inputs["country"] for case in cases] == ["France", "Spain", "Portugal", "Italy", "Peru"]
    assert len({case.id for case in cases}) == 5
    assert set(found.prompts) == {"capital-cities-prompt", "chat"}
    chat = found.prompts["chat"]
    assert [message.role for message in chat.messages] == ["system", "user"]
    assert "{{ words | tojson }}" in str(found.prompts["capital-cities-prompt"].messages[0].content)
    assert set(found.prompts["capital-cities-prompt"].variables) == {"country", "words"}
    targets = {(spec.target.model, spec.target.prompt) for spec in found.evaluations.values()}
    assert targets == {
        (model, f"prompt:{prompt}@latest")
        for model in ("gpt-4o-mini", "claude-haiku")
        for prompt in ("capital-cities-prompt", "chat")
    }
    spec = next(iter(found.evaluations.values()))
    assert (spec.repeats, spec.concurrency) == (2, 3)
    assert {scorer.name or scorer.scorer for scorer in spec.scorers} == {"checks", "helpful"}


def test_checks_judge_as_the_assertions_did(folder: Path) -> None:
    (cases,) = import_promptfoo(folder, ImportOptions(judge="judge")).datasets.values()
    by_country = {case.inputs["country"]: case for case in cases}
    peru = by_country["Peru"]
    assert judged(peru, "Lima") == 1.0
    assert judged(peru, "Lima, as everybody knows") == 0.0
    spain = by_country["Spain"]
    assert judged(spain, "Madrid") == 1.0
    assert judged(spain, "As an AI I say Madrid") == 1.0, "3 of 4 weights are above the threshold of 0.5"
    assert judged(spain, "nobody knows") == 0.0, "1 of 4 weights is below it"
    france = by_country["France"].metadata["checks"]
    assert [check["scorer"] for check in france] == ["contains", "contains", "rubric"]
    assert france[0]["parameters"]["not"] is True
    assert france[2]["parameters"] == {"model": "judge", "items": ["Names the capital of France"]}


def test_every_check_can_be_made(folder: Path) -> None:
    (cases,) = import_promptfoo(folder, ImportOptions(judge="judge")).datasets.values()
    catalogue = Catalogue()
    for case in cases:
        for check in case.metadata["checks"]:
            catalogue.create(ScorerSpec(scorer=check["scorer"], parameters=check.get("parameters", {})))


def test_what_is_not_carried_over_is_reported_with_its_line(folder: Path) -> None:
    found = import_promptfoo(folder, ImportOptions())
    left_out = told(found, "left out")
    for part in (
        "promptfooconfig.yaml:22 javascript is code",
        "output.length < 10",
        "prompt.js",
        "python:provider.py",
        "config.apiKey",
        "options.transform",
        "`outputPath`",
        "lies outside",
    ):
        assert part in left_out, part
    assert "--judge" in told(found, "to do")
    assert "the route gpt-4o-mini" in told(found, "assumed")
    assert "similar" in told(found, "changed")


@pytest.mark.parametrize(
    ("given", "scorer", "parameters"),
    [
        ({"type": "equals", "value": "x"}, "exact", {"expected": "x"}),
        ({"type": "equals", "value": {"a": 1}}, "json_equal", {"expected": {"a": 1}}),
        ({"type": "contains-all", "value": ["a", "b"]}, "contains", {"values": ["a", "b"], "mode": "all"}),
        ({"type": "starts-with", "value": "a"}, "starts_with", {"values": ["a"]}),
        ({"type": "regex", "value": "a+"}, "regex", {"pattern": "a+"}),
        ({"type": "is-json"}, "is_json", {}),
        ({"type": "is-json", "value": {"type": "object"}}, "json_schema", {"schema": {"type": "object"}}),
        ({"type": "latency", "threshold": 500}, "latency", {"threshold": 500.0}),
        ({"type": "cost", "threshold": 0.01}, "cost", {"threshold": 0.01}),
        ({"type": "rouge-n", "value": "a"}, "rouge_1", {"expected": "a", "threshold": 0.75}),
        ({"type": "bleu", "value": "a", "threshold": 0.3}, "bleu", {"expected": "a", "threshold": 30.0}),
        ({"type": "not-is-refusal"}, "refusal", {"not": True}),
        ({"type": "word-count", "value": {"min": 2}}, "length", {"unit": "words", "minimum": 2}),
        ({"type": "factuality", "value": "a"}, "factuality", {"model": "judge", "expected": "a"}),
        ({"type": "g-eval", "value": "a", "threshold": 0.5}, "g_eval", {"model": "judge", "criteria": "a", "threshold": 3.0}),
    ],
)  # fmt: skip
def test_each_kind_of_assertion_has_its_scorer(
    given: dict[str, object], scorer: str, parameters: dict[str, object], tmp_path: Path
) -> None:
    (tmp_path / "promptfooconfig.json").write_text(
        json.dumps({"prompts": ["p"], "providers": ["openai:m"], "tests": [{"vars": {}, "assert": [given]}]})
    )
    found = import_promptfoo(tmp_path, ImportOptions(judge="judge"))
    ((case,),) = found.datasets.values()
    (check,) = case.metadata["checks"]
    assert (check["scorer"], check.get("parameters", {})) == (scorer, parameters)


@pytest.mark.parametrize(
    "kind", ["python", "webhook", "is-sql", "select-best", "moderation", "trajectory:goal"]
)
def test_kinds_without_a_like_are_reported_and_leave_the_case_undefined(kind: str, tmp_path: Path) -> None:
    text = json.dumps({"prompts": ["p"], "tests": [{"assert": [{"type": kind, "value": "x"}]}]})
    (tmp_path / "promptfooconfig.json").write_text(text)
    found = import_promptfoo(tmp_path, ImportOptions())
    ((case,),) = found.datasets.values()
    assert judged(case, "x") is None
    assert kind in told(found, "left out")


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (BOMB, ImportTooLarge),
        ("a: &a [*a]", ImportUnreadable),
        ("tests: !!python/object/apply:os.system ['touch run']", ImportUnreadable),
        ("[" * 5000, ImportUnreadable),
        ("just a text", ImportUnreadable),
        ("tests: [", ImportUnreadable),
    ],
)
def test_hostile_yaml_is_refused_before_anything_is_made_of_it(
    text: str, error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "promptfooconfig.yaml").write_text(text)
    with pytest.raises((error, ImportTooLarge)):
        import_promptfoo(tmp_path, ImportOptions())
    assert not (tmp_path / "run").exists()


def test_variables_with_many_values_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promptfoo, "MAX_CASES", 100)
    many = list(range(20))
    text = json.dumps({"prompts": ["p"], "tests": [{"vars": {"a": many, "b": many}}]})
    (tmp_path / "promptfooconfig.json").write_text(text)
    with pytest.raises(ImportTooLarge):
        import_promptfoo(tmp_path, ImportOptions())
