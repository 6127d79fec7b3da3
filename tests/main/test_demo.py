"""The demo as a newcomer runs it: a process of its own, a fresh home, real models, the official client."""

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from penstock.main.instance import running_instance
from penstock.main.rooms import Rooms
from penstock.spec.home import Home


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.timeout(900)
def test_the_demo_turns_the_wheel_writes_its_report_and_leaves_nothing_running(tmp_path: Path) -> None:
    report = tmp_path / "demo.json"
    command = ["demo", "--home", str(tmp_path / "home"), "--json", str(report)]
    run = subprocess.run(
        [sys.executable, "-m", "penstock.cli", *command],
        capture_output=True,
        text=True,
        timeout=880,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    found = json.loads(report.read_text())
    assert len(found["questions"]) == 10
    for asked in found["questions"]:
        wanted = {
            "question",
            "answer",
            "citations",
            "reference",
            "scores",
            "trace_id",
            "cost_usd",
            "latency_ms",
        }
        assert wanted <= set(asked)
        assert asked["answer"]
        assert asked["cost_usd"] == 0
        assert len(asked["trace_id"]) == 32
        for citation in asked["citations"]:
            assert set(citation) >= {"document", "section", "passage_id", "quote", "start", "end"}
    assert found["totals"]["mean_token_f1"] >= 0.6
    assert found["totals"]["citation_hit_rate"] >= 0.6
    weak, strong = found["gates"]
    assert (weak["version"], weak["verdict"]) == ("prompt:answer@1", "fail"), weak
    assert (strong["version"], strong["verdict"]) == ("prompt:answer@2", "pass"), strong
    assert all("95 % interval" in sentence for sentence in strong["sentences"][:2])
    with closing(Rooms(Home(root=tmp_path / "home"))) as rooms:
        [move] = rooms.registry.history("prompt", "answer", "prod")
    assert (move.to_number, move.is_override) == (2, False)
    assert move.evidence is not None and move.evidence["gate"] == strong["gate_id"]
    assert running_instance(Home(root=tmp_path / "home")) is None
