"""OpenAI Evals: the open registry and exported hosted evaluations."""

import asyncio
import json
from pathlib import Path

import pytest

from penstock.evals.catalogue import Catalogue
from penstock.evals.importers.errors import ImportUnreadable
from penstock.evals.importers.openai_hosted import import_hosted
from penstock.evals.importers.openai_registry import import_registry
from penstock.evals.importers.types import Imported, ImportOptions
from penstock.evals.scorers.types import ScorerTools
from penstock.spec.cases import Case, Output
from penstock.spec.evaluations import ScorerSpec

EVALS = """
sums:
  id: sums.dev.v0
  metrics: [accuracy]
sums.dev.v0:
  class: evals.elsuite.basic.match:Match
  args:
    samples_jsonl: sums/samples.jsonl
    few_shot_jsonl: sums/shots.jsonl
    num_few_shot: 1
facts.dev.v0:
  class: evals.elsuite.modelgraded.classify:ModelBasedClassify
  args: {samples_jsonl: facts/samples.jsonl, eval_type: cot_classify, modelgraded_spec: agree}
shapes.dev.v0:
  class: evals.elsuite.basic.json_match:JsonMatch
  args: {samples_jsonl: shapes/samples.jsonl}
loose.dev.v0:
  class: evals.elsuite.basic.fuzzy_match:FuzzyMatch
  args: {samples_jsonl: sums/samples.jsonl, odd: 1}
own.dev.v0:
  class: evals.elsuite.my_own:Solver
  args: {samples_jsonl: sums/samples.jsonl}
outside.dev.v0:
  class: evals.elsuite.basic.match:Match
  args: {samples_jsonl: ../../secret.jsonl}
"""
GRADER = """
agree:
  prompt: |-
    Question: {input}
    Compare {completion} with {ideal}, as {tone} as you can. Does it agree? {extra}
  choice_strings: ["Yes", "No", "Unsure"]
  choice_scores: {"Yes": 1.0, "No": 0.0}
  args: {tone: strictly}
"""


def lines(*values: object) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    root = tmp_path / "registry"
    files = {
        "evals/all.yaml": EVALS,
        "modelgraded/agree.yaml": GRADER,
        "data/sums/samples.jsonl": lines(
            {
                "input": [{"role": "system", "content": "Add."}, {"role": "user", "content": "1+1"}],
                "ideal": "2",
            },
            {"input": "2+2", "ideal": ["4", "four"]},
            {"question": "no input"},
        ),
        "data/sums/shots.jsonl": lines(
            {"sample": [{"role": "user", "content": "3+3"}, {"role": "assistant", "content": "6"}]}
        ),
        "data/facts/samples.jsonl": lines({"input": "Sky?", "ideal": "blue", "extra": "!"}),
        "data/shapes/samples.jsonl": lines({"input": "JSON?", "ideal": ['{"a": 1}', '{"a": 2}']}),
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (tmp_path / "secret.jsonl").write_text(lines({"input": "secret", "ideal": "secret"}))
    return root


def told(found: Imported, kind: str) -> str:
    return "\n".join(f"{note.where} {note.what}" for note in found.notes if note.kind == kind)


def value(spec: ScorerSpec, case: Case, text: str) -> float | None:
    scorer = Catalogue().create(spec)
    (score,) = asyncio.run(scorer.score(case, [Output(case_id=case.id, text=text)], ScorerTools()))
    return score.value


def test_basic_classes_judge_as_they_did(registry: Path) -> None:
    found = import_registry(registry, ImportOptions(model="pocket", judge="judge"))
    assert set(found.evaluations) == {"sums-dev", "facts-dev", "shapes-dev", "loose-dev"}
    one, two = found.datasets["sums-dev"]
    assert [turn["content"] for turn in one.messages] == ["Add.", "3+3", "6", "1+1"]
    match = found.evaluations["sums-dev"].scorers[0]
    assert (value(match, two, "four, I think"), value(match, two, "It is 4")) == (1.0, 0.0)
    shapes = found.evaluations["shapes-dev"].scorers[0]
    (shape,) = found.datasets["shapes-dev"]
    assert (value(shapes, shape, '{"a": 2}'), value(shapes, shape, '{"a": 3}')) == (1.0, 0.0)
    fuzzy = found.evaluations["loose-dev"].scorers[0]
    assert value(fuzzy, two, "It is Four!") == 1.0
    assert found.evaluations["sums-dev"].target.model == "pocket"


def test_model_graded_classes_become_judges_with_their_choices(registry: Path) -> None:
    found = import_registry(registry, ImportOptions(judge="judge"))
    (scorer,) = found.evaluations["facts-dev"].scorers
    assert scorer.parameters["choices"] == {"Yes": 1.0, "No": 0.0, "Unsure": None}
    question = scorer.parameters["question"]
    assert "Compare the OUTPUT with the EXPECTED answer, as strictly as you can" in question
    assert scorer.parameters["reason_first"] is True
    Catalogue().create(scorer)


def test_what_is_code_or_lies_outside_is_reported(registry: Path) -> None:
    found = import_registry(registry, ImportOptions())
    left_out = told(found, "left out")
    for part in ("my_own:Solver", "lies outside", "samples.jsonl:3", "args.odd"):
        assert part in left_out, part
    assert "secret" not in json.dumps([str(case) for cases in found.datasets.values() for case in cases])
    assert "{extra}" in told(found, "changed")
    assert "target.model" in told(found, "to do")


CRITERIA = [
    {"type": "string_check", "name": "Same label", "input": "{{ sample.output_text }}", "reference": "{{ item.label }}", "operation": "eq"},
    {"type": "text_similarity", "name": "Close", "input": "{{sample.output_text}}", "reference": "{{ item.label }}", "evaluation_metric": "bleu", "pass_threshold": 0.4},
    {"type": "label_model", "name": "Tone", "model": "gpt-4o", "input": [{"role": "user", "content": "Is {{sample.output_text}} polite to {{item.person}}?"}], "labels": ["polite", "rude"], "passing_labels": ["polite"]},
    {"type": "score_model", "name": "Grade", "model": "gpt-4o", "input": [{"role": "system", "content": "Grade it."}], "range": [0, 1], "pass_threshold": 0.7},
    {"type": "python", "name": "Own", "source": "import os; os.system('touch run')"},
    {"type": "text_similarity", "name": "Gleu", "input": "{{sample.output_text}}", "reference": "{{item.label}}", "evaluation_metric": "gleu"},
]  # fmt: skip
EVAL = {"object": "eval", "id": "eval_1", "name": "Sort mail", "data_source_config": {"type": "custom", "schema": {"properties": {"item": {"properties": {"n": {"type": "integer"}}}}}}, "testing_criteria": CRITERIA}  # fmt: skip
RUN = {
    "object": "eval.run",
    "eval_id": "eval_1",
    "data_source": {
        "type": "completions",
        "model": "gpt-4o-mini",
        "sampling_params": {"temperature": 0, "max_completions_tokens": 50},
        "input_messages": {"type": "template", "template": [{"role": "developer", "content": "Sort mail."}, {"role": "user", "content": {"type": "input_text", "text": "{{ item.mail }} ({{item.n}})"}}]},
        "source": {"type": "file_content", "content": [{"item": {"mail": "Where is it?", "label": "order", "n": 1, "person": "Ann"}}]},
    },
}  # fmt: skip
ITEM = {"object": "eval.run.output_item", "eval_id": "eval_1", "datasource_item": {"mail": "Thanks!", "label": "praise", "n": 2, "person": "Bob"}}  # fmt: skip


@pytest.fixture
def hosted(tmp_path: Path) -> Path:
    root = tmp_path / "export"
    root.mkdir()
    (root / "eval.json").write_text(json.dumps(EVAL))
    (root / "runs.json").write_text(json.dumps({"object": "list", "data": [RUN]}))
    (root / "items.jsonl").write_text(lines(ITEM, ITEM))
    return root


def test_hosted_evaluations_keep_items_messages_and_criteria(hosted: Path) -> None:
    found = import_hosted(hosted, ImportOptions())
    (spec,) = found.evaluations.values()
    cases = found.datasets["sort-mail"]
    assert {case.expected for case in cases} == {"order", "praise"}
    assert (spec.target.model, spec.target.prompt) == ("gpt-4o-mini", "prompt:sort-mail@latest")
    assert spec.target.parameters == {"temperature": 0, "max_completion_tokens": 50}
    prompt = found.prompts["sort-mail"]
    assert prompt.messages[1].content == "{{ mail }} ({{ n }})"
    assert {name: each.type for name, each in prompt.variables.items()} == {"mail": "text", "n": "integer"}
    names = {scorer.name: scorer for scorer in spec.scorers}
    assert set(names) == {"same-label", "close", "tone", "grade"}
    assert value(names["same-label"], cases[0], str(cases[0].expected)) == 1.0
    assert names["close"].parameters["threshold"] == 40.0
    assert names["tone"].parameters["choices"] == {"polite": 1.0, "rude": 0.0}
    assert names["grade"].parameters["threshold"] == 7.0
    for scorer in spec.scorers:
        Catalogue().create(scorer)
    left_out = told(found, "left out")
    assert "os.system" in left_out
    assert "gleu" in left_out


def test_criteria_with_several_references_are_checks_of_each_case(hosted: Path) -> None:
    criteria = [
        CRITERIA[0],
        {**CRITERIA[0], "name": "Person", "reference": "To {{ item.person }}", "operation": "ilike"},
    ]
    (hosted / "eval.json").write_text(json.dumps({**EVAL, "testing_criteria": criteria}))
    found = import_hosted(hosted, ImportOptions())
    (spec,) = found.evaluations.values()
    ann = next(case for case in found.datasets["sort-mail"] if case.inputs["person"] == "Ann")
    names = {scorer.name: scorer for scorer in spec.scorers}
    assert value(names["same-label"], ann, "order") == 1.0
    assert (value(names["person"], ann, "to ann: hello"), value(names["person"], ann, "order")) == (1.0, 0.0)


def test_an_export_without_evaluation_or_items_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(lines({"item": {"a": 1}}))
    with pytest.raises(ImportUnreadable, match="testing_criteria"):
        import_hosted(tmp_path, ImportOptions())
    (tmp_path / "x.jsonl").write_text(lines(EVAL))
    assert "no items" in told(import_hosted(tmp_path, ImportOptions()), "left out")
    (tmp_path / "x.jsonl").write_text("{")
    with pytest.raises(ImportUnreadable, match=r"x\.jsonl:1"):
        import_hosted(tmp_path, ImportOptions())
