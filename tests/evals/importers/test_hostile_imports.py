"""Files that were written to break an import: they are reported or refused with their line, and nothing outside is read."""

import json
from pathlib import Path

import pytest

from penstock.evals.importers import promptfoo_asserts
from penstock.evals.importers.documents import Folder, read_yaml
from penstock.evals.importers.errors import ImportTooLarge, ImportUnreadable
from penstock.evals.importers.multiple_choice import import_multiple_choice
from penstock.evals.importers.openai_hosted import import_hosted
from penstock.evals.importers.promptfoo import import_promptfoo
from penstock.evals.importers.templates import fill, to_jinja
from penstock.evals.importers.types import Imported, ImportOptions
from tests.evals.importers.test_openai_import import CRITERIA, EVAL, ITEM, lines


def left_out(found: Imported) -> str:
    return "\n".join(f"{note.where} {note.what}" for note in found.notes if note.kind == "left out")


def import_tests(tmp_path: Path, text: str, **files: str) -> Imported:
    (tmp_path / "promptfooconfig.yaml").write_text("prompts: ['{{a}}']\nproviders: [m]\n" + text)
    for name, content in files.items():
        (tmp_path / f"{name}.csv").write_text(content)
    return import_promptfoo(tmp_path, ImportOptions())


@pytest.mark.parametrize("value", ["9" * 5000, "!!timestamp 'x'", "!!int 'abc'", "!!float 'x'", "!!bool 'x'"])
def test_values_that_do_not_fit_their_tag_are_told_with_their_line(value: str) -> None:
    with pytest.raises(ImportUnreadable, match="line 2"):
        read_yaml(f"b: 1\na: {value}\n", "x.yaml")


def test_templates_of_assertions_that_name_themselves_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = "assertionTemplates:\n  a: {type: assert-set, assert: [{$ref: '#/a'}]}\ntests:\n  - {vars: {a: 1}, assert: [{$ref: '#/a'}]}\n"
    assert "nested deeper" in left_out(import_tests(tmp_path, again))
    monkeypatch.setattr(promptfoo_asserts, "MAX_ASSERTS", 500)
    twice = again.replace("[{$ref: '#/a'}]}\ntests", "[{$ref: '#/a'}, {$ref: '#/a'}]}\ntests")
    with pytest.raises(ImportTooLarge, match="assertions"):
        import_tests(tmp_path, twice)


def test_numbers_that_are_none_are_left_out(tmp_path: Path) -> None:
    rows = f"a,__threshold,__expected\n1,1.2.3,similar(1.2.3): x\n2,{'9' * 400},word-count: 1e999\n"
    found = import_tests(tmp_path, "tests: file://rows.csv\n", rows=rows)
    told = left_out(found)
    assert told.count("__threshold") == 2
    assert "similar" in told
    (cases,) = found.datasets.values()
    assert all("threshold" not in case.metadata for case in cases)


@pytest.mark.parametrize("bounds", [[1], [1, 1], ["0", "1"], [2, 1], [True, 2], [0, 1, 2], "x"])
def test_ranges_that_are_none_are_left_out(tmp_path: Path, bounds: object) -> None:
    criterion = {"type": "score_model", "name": "s", "range": bounds, "pass_threshold": 1, "input": []}
    value = {**EVAL, "testing_criteria": [CRITERIA[0], criterion]}
    (tmp_path / "x.jsonl").write_text(lines(value, {**ITEM, "eval_id": value.get("id")}))
    assert "range" in left_out(import_hosted(tmp_path, ImportOptions()))


def test_braces_that_nothing_closes_take_a_time_that_grows_with_the_text() -> None:
    for text in ("{%" * 200_000, "{{ a" * 200_000, "{{{%" * 100_000):
        assert fill(text, {}) == (text, [])
        assert to_jinja(text) == (text, [])
    assert fill("{{ a }} {{ b }} {% if c %}{{", {"a": 1}) == (
        "1 {{ b }} {% if c %}{{",
        ["{{ b }}", "{% if c %}"],
    )
    assert fill("{{ a[" + "9" * 5000 + "] }}", {"a": [1]})[0].startswith("{{ a[9")


def test_links_that_lead_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "credentials.csv"
    secret.write_text("aws_secret,k1,k2,A\n")
    inside = tmp_path / "questions"
    inside.mkdir()
    (inside / "good_test.csv").write_text("One or two?,one,two,A\n")
    (inside / "same_test.csv").symlink_to(inside / "good_test.csv")
    (inside / "q_test.csv").symlink_to(secret)
    found = import_multiple_choice(inside, ImportOptions())
    assert "q_test.csv it lies outside" in left_out(found)
    assert "aws_secret" not in json.dumps([str(case) for cases in found.datasets.values() for case in cases])
    assert sum(map(len, found.datasets.values())) == 2

    (secret.parent / "secret.json").write_text(json.dumps(EVAL))
    (inside / "e.json").symlink_to(secret.parent / "secret.json")
    with pytest.raises(ImportUnreadable):
        import_hosted(inside, ImportOptions())
    with pytest.raises(ImportUnreadable, match="outside"):
        Folder(inside).text(inside / "q_test.csv")
