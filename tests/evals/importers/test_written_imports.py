"""Multiple choice, and imports as files: what is written is read back the same by those who use it."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from penstock.base.errors import InvalidInput
from penstock.evals.catalogue import Catalogue
from penstock.evals.gates.files import read_gate
from penstock.evals.importers.errors import ImportUnreadable
from penstock.evals.importers.multiple_choice import import_multiple_choice
from penstock.evals.importers.types import ImportOptions
from penstock.evals.judges.catalogue import KINDS as JUDGES
from penstock.evals.scorers.types import ScorerTools
from penstock.main.eval_cases import DatasetCases
from penstock.main.eval_files import read_document, read_evaluation_file
from penstock.main.eval_importing import ImportFormat, read_foreign, write_import
from penstock.main.local_runs import run_local
from penstock.prompts.files import read_prompt
from penstock.spec.cases import Case, Output
from penstock.spec.evaluations import TargetSpec
from tests.cli.commands import call
from tests.evals.importers.test_openai_import import hosted, registry
from tests.evals.importers.test_promptfoo_import import folder

__all__ = ["folder", "hosted", "registry"]  # fixtures
DEV = '"What is 1+1?",1,2,3,4,B\n"What is 2+1?",1,2,3,4,C\n'
TEST = '"What is 3+1?",1,2,3,4,D\n"A question, with a comma?",yes,no,maybe,never,A\nbroken,row\n'


@pytest.fixture
def mmlu(tmp_path: Path) -> Path:
    root = tmp_path / "mmlu"
    for name, text in {
        "dev/sums_dev.csv": DEV,
        "test/sums_test.csv": TEST,
        "test/words_test.jsonl": json.dumps({"question": "Cat?", "choices": ["Katze", "Hund"], "answer": 0})
        + "\n",
        "test/named_test.csv": "id,question,A,B,answer,subject\n7,Dog?,Katze,Hund,B,animals\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def read_cases(path: Path, tmp_path: Path) -> list[Case]:
    @contextmanager
    def hold() -> Iterator[Path]:
        room = tmp_path / "room"
        room.mkdir(exist_ok=True)
        yield room

    return list(DatasetCases(lambda: None, hold).read(str(path), where={}, limit=None, seed=0).cases)


def test_questions_keep_subject_choices_and_examples(mmlu: Path) -> None:
    found = import_multiple_choice(mmlu, ImportOptions(model="pocket", shots=1))
    cases = found.datasets["mmlu"]
    assert {case.metadata["subject"] for case in cases} == {"sums", "words", "animals"}
    first = next(case for case in cases if "3+1" in case.messages[-1]["content"])
    assert [turn["role"] for turn in first.messages] == ["system", "user", "assistant", "user"]
    assert first.messages[2]["content"] == "B"
    assert first.messages[-1]["content"] == "What is 3+1?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:"
    assert first.expected == "D"
    assert found.evaluations["mmlu"].slices == ["subject"]
    told = " ".join(f"{note.where} {note.what}" for note in found.notes)
    assert "sums_test.csv:3" in told
    assert "animals, words" in told


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("D", 1.0),
        ("(D)", 1.0),
        ("d", 1.0),
        ("**D.** 4", 1.0),
        ("The answer is D.", 1.0),
        ("I add 3 and 1.\nA tidy sum.\nAnswer: D", 1.0),
        ("Answer: B", 0.0),
        ("A dog", 0.0),
        ("D\n\nI chose D since", 1.0),
        ("The answer is D.\nA is wrong since", 1.0),
        ("D. Paris\nA capital city", 1.0),
        ("The answer is: Paris (D)", 1.0),
        ("so $\\boxed{D}$", 1.0),
        ("Option D", 1.0),
        ("Answer: d", 1.0),
        ("The answer is D because B is not", 1.0),
        ("A\n\nA is right since D is not", 0.0),
        ("I do not know", 0.0),
    ],
)
def test_the_letter_is_found_wherever_the_reply_says_it(mmlu: Path, reply: str, value: float) -> None:
    found = import_multiple_choice(mmlu, ImportOptions(model="pocket"))
    scorer = Catalogue().create(found.evaluations["mmlu"].scorers[0])
    (score,) = asyncio.run(
        scorer.score(Case(id="1", expected="D"), [Output(case_id="1", text=reply)], ScorerTools())
    )
    assert score.value == value


def test_files_without_questions_are_told(tmp_path: Path) -> None:
    with pytest.raises(ImportUnreadable):
        import_multiple_choice(tmp_path, ImportOptions())
    (tmp_path / "x_dev.csv").write_text(DEV)
    with pytest.raises(ImportUnreadable, match="few-shot"):
        import_multiple_choice(tmp_path, ImportOptions())


@pytest.mark.parametrize(
    ("form", "fixture"),
    [("promptfoo", "folder"), ("openai", "registry"), ("openai", "hosted"), ("multiple-choice", "mmlu")],
)
def test_what_is_written_is_read_back_the_same(
    form: ImportFormat, fixture: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    imported = read_foreign(
        form, request.getfixturevalue(fixture), ImportOptions(model="pocket", judge="judge")
    )
    out = tmp_path / "out"
    written = write_import(imported, out)
    for name, cases in imported.datasets.items():
        for read, case in zip(read_cases(out / f"{name}.jsonl", tmp_path), cases, strict=True):
            # of a conversation, readers also take the last question as the input
            assert (read if case.inputs else replace(read, inputs={})) == case
    for name, prompt in imported.prompts.items():
        assert read_prompt((out / f"{name}.prompt").read_text()) == prompt
    for name, spec in imported.evaluations.items():
        (file,) = out.glob(f"{name}.eval.*")
        stored = read_evaluation_file(file)
        assert stored.scorers == spec.scorers
        assert stored.target == spec.target
        assert Path(str(stored.file)).name == f"{spec.file}.jsonl"
    for name in imported.gates:
        gate = read_gate(
            (out / f"{name}.gate.toml").read_text(), load_evaluation=lambda each: read_document(out / each)
        )
        assert gate.rules
    report = (out / "REPORT.md").read_text()
    assert all(note.what.split("`")[0].split("<")[0][:30].strip() in report for note in imported.notes)
    assert sum(written.notes.values()) == len(imported.notes)
    with pytest.raises(InvalidInput, match="already"):
        write_import(imported, out)
    write_import(imported, out, replace=True)


def test_the_command_writes_a_folder_and_says_what_is_left(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "imported"
    told = call(
        "eval", "import", "promptfoo", str(folder), "--out", str(out), "--json", home=tmp_path / "home"
    )
    assert told.code == 0, told.err
    assert told.json["written"]["datasets"] == {"capital-cities": 5}
    assert any(note["kind"] == "left out" for note in told.json["notes"])
    again = call("eval", "import", "promptfoo", str(folder), "--out", str(out), home=tmp_path / "home")
    assert (again.code, "--replace" in again.err) == (2, True)
    missing = call(
        "eval", "import", "openai", str(tmp_path / "nothing"), "--out", str(out), home=tmp_path / "home"
    )
    assert missing.code == 2


@pytest.mark.parametrize(
    ("form", "fixture", "name"), [("openai", "registry", "sums-dev"), ("promptfoo", "folder", "*")]
)
def test_what_was_imported_runs_and_gives_figures(
    form: ImportFormat, fixture: str, name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    imported = read_foreign(form, request.getfixturevalue(fixture), ImportOptions(model="pocket"))
    out = tmp_path / "out"
    write_import(imported, out)
    (tmp_path / "answering.py").write_text(
        "def answer(case):\n    return 'Paris, Madrid, Lisbon, Rome or Lima; 2, 4'\n"
    )
    spec = read_evaluation_file(min(out.glob(f"{name}.eval.*")))
    spec = replace(
        spec,
        target=TargetSpec(python=f"{tmp_path / 'answering.py'}:answer"),
        scorers=[each for each in spec.scorers if each.scorer not in JUDGES][:1],
        preflight=False,
    )
    done = run_local(spec, home=None, tell=lambda *_: None, folder=tmp_path)
    assert done.record["state"] == "done", done.record
    figures = {each["name"]: each for each in done.figures["estimates"]}
    first = next(iter(figures.values()))
    assert (first["n"] + first.get("n_undefined", 0) + first.get("n_errors", 0)) == done.record["n_cases"]
    assert first["n"] > 0 and first["value"] is not None, first
