"""The tests themselves: what is spread how, and what a second run forgives."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.spreading import FAILED, TOGETHER, read_seconds, unit_of
from tests.second_run import MOST, judge

ROOT = Path(__file__).parents[2]


def test_what_shares_a_server_is_done_by_one_process() -> None:
    assert unit_of("tests/clients/test_a.py::test_b[x::y]") == unit_of("tests/clients/test_c.py::test_d")
    assert unit_of("tests/base/test_a.py::test_b[x::y]") == "tests/base/test_a.py"


def test_files_with_a_recorded_cost_are_there() -> None:
    assert [unit for unit in read_seconds() if not (ROOT / unit).exists()] == []
    assert all((ROOT / folder).is_dir() for folder in TOGETHER)


def test_one_that_passes_alone_is_told_and_forgiven(capsys: pytest.CaptureFixture[str]) -> None:
    assert judge(["a::b"], lambda name: True) == 0
    assert "failed in the whole run, passed alone: a::b" in capsys.readouterr().out


def test_one_that_fails_again_fails_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert judge(["a", "b"], lambda name: name == "a") == 1
    said = capsys.readouterr().out
    assert "passed alone: a" in said
    assert "FAILED AGAIN alone: b" in said


def test_many_failures_and_a_run_that_broke_off_are_never_forgiven() -> None:
    assert judge([str(number) for number in range(MOST)], lambda name: True) == 0
    assert judge([str(number) for number in range(MOST + 1)], lambda name: True) == 1
    assert judge([], lambda name: True) == 1


def test_failed_tests_are_written_down_by_name_whichever_process_ran_them(tmp_path: Path) -> None:
    folder = tmp_path / "suite"
    folder.mkdir()
    (folder / "test_good.py").write_text("def test_good(): pass\n")
    (folder / "test_bad.py").write_text(
        "import pytest\n"
        "@pytest.mark.parametrize('x', ['a b', 'c'])\n"
        "def test_bad(x): assert x == 'c'\n"
        "@pytest.fixture\n"
        "def broken(): raise OSError\n"
        "def test_broken(broken): pass\n"
    )
    (folder / "test_dying.py").write_text("import os\ndef test_dying(): os._exit(3)\n")
    failed = tmp_path / "failed"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "tests.fixtures.spreading",
            "-n",
            "2",
            "--rootdir",
            tmp_path,
            folder,
        ],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", "PYTEST_ADDOPTS": "", FAILED: str(failed)},
        cwd=tmp_path,
        check=False,
        capture_output=True,
    )
    assert sorted(failed.read_text().splitlines()) == [
        "suite/test_bad.py::test_bad[a b]",
        "suite/test_bad.py::test_broken",
        "suite/test_dying.py::test_dying",
    ]
