"""The pytest plugin: evaluations and gates inside a test, with each case in the report.

    def test_answers(penstock_eval):
        verdict = penstock_eval(answer, "cases.jsonl", ["exact"], rules=["exact >= 0.8"])
        assert verdict

    @pytest.mark.penstock_gate("triage.gate.toml")
    def test_gate(penstock_gate):
        assert penstock_gate

It is loaded in every run of pytest where Penstock is installed, so it imports nothing of Penstock until a test asks for one of
its fixtures, and needs no home: without a running Penstock `penstock_eval` keeps everything in a file, `penstock_gate` skips.
"""

import importlib
from collections.abc import Callable
from typing import Any

import pytest

_RUNS = "penstock.main.pytest_runs"
_VERDICTS = pytest.StashKey[list[Any]]()


def pytest_configure(config: pytest.Config) -> None:
    """Say what the marker means."""
    config.addinivalue_line(
        "markers",
        "penstock_gate(file, candidate=None, baseline=None): the gate that the fixture `penstock_gate` runs",
    )
    config.stash[_VERDICTS] = []


@pytest.fixture
def penstock_eval(request: pytest.FixtureRequest, tmp_path: Any) -> Callable[..., Any]:
    """Return what evaluates a target over cases and judges it by rules: see `penstock.main.pytest_runs`."""
    runs = importlib.import_module(_RUNS)

    def run(target: Any, cases: Any, scorers: Any = (), **options: Any) -> Any:
        verdict = runs.evaluate_in_test(target, cases, scorers, folder=tmp_path, **options)
        _show(request, verdict)
        return verdict

    return run


@pytest.fixture
def penstock_gate(request: pytest.FixtureRequest) -> Any:
    """Return the verdict of the gate that the test's marker names; skips where no Penstock runs."""
    marker = request.node.get_closest_marker("penstock_gate")
    if marker is None or not marker.args:
        raise pytest.UsageError("penstock_gate needs the marker @pytest.mark.penstock_gate(FILE).")
    runs = importlib.import_module(_RUNS)
    verdict = runs.run_gate_in_test(request.path.parent / marker.args[0], **marker.kwargs)
    if verdict is None:
        pytest.skip("No Penstock runs here: penstock up.")
    _show(request, verdict)
    return verdict


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """List the verdicts of the run."""
    found = config.stash.get(_VERDICTS, [])
    if found:
        terminalreporter.section("penstock verdicts")
        for name, verdict in found:
            terminalreporter.write_line(f"{name}: {verdict.line}")


def _show(request: pytest.FixtureRequest, verdict: Any) -> None:
    request.config.stash[_VERDICTS].append((request.node.nodeid, verdict))
    request.node.user_properties.append(("penstock_verdict", verdict.verdict))
    request.node.add_report_section("call", "penstock verdict", str(verdict))
    request.node.add_report_section("call", "penstock cases", "\n".join(verdict.cases))
