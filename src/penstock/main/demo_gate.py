"""The demo's second half: two versions of a prompt asked the same held-out questions, a gate that fails the weak one and
passes the strong one, and the alias `prod` that moves on that evidence."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from penstock import data as package_data
from penstock.evals.gates.types import GateSpec
from penstock.main.control_client import ControlClient
from penstock.main.gate_files import GateFile, read_gate_file
from penstock.main.gate_runs import run_gate
from penstock.main.job_wait import Tell
from penstock.prompts.files import read_prompt
from penstock.spec.evaluations import VerdictWord
from penstock.spec.home import Home

FOLDER = Path(package_data.__file__).parent / "handbook" / "gate"
DATASET = "handbook-cases"
PROMPT = "answer"
VERSIONS = ("answer-plain", "answer-numbered")
"""The weak one first."""
N_CASES = 48
"""Of 96, whole articles; more would only keep people waiting."""
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class GateTurn:
    """What a gate said of one version."""

    version: str
    """`prompt:answer@1`"""
    description: str
    verdict: VerdictWord
    sentences: list[str]
    gate_id: str
    evaluations: list[str]


def turn_gate(home: Home, say: Say, tell: Tell) -> list[GateTurn]:
    """Compare the prompts on the instance that runs on `home`, let `prod` name one that passed, and return the verdicts."""
    client = ControlClient(home)
    client.post(f"/api/v1/datasets/{DATASET}/import", {"source": "handbook:cases"})
    file = _with_limit(read_gate_file(FOLDER / "answer.gate.toml"))
    say(f"asking {N_CASES} held-out questions of two versions of prompt:{PROMPT}, and judging each by a gate")
    turns = []
    for name in VERSIONS:
        content = read_prompt((FOLDER / f"{name}.prompt").read_text(encoding="utf-8"))
        made = client.post(
            f"/api/v1/prompts/{PROMPT}/versions", {"content": msgspec.to_builtins(content), "note": name}
        )
        version = f"prompt:{PROMPT}@{made['number']}"
        result = run_gate(home, file, candidate=version, tell=tell)
        sentences = [each.sentence for each in result.rules]
        turns.append(
            GateTurn(
                version=version,
                description=content.description,
                verdict=result.verdict,
                sentences=sentences,
                gate_id=result.id,
                evaluations=list(result.evaluations),
            )
        )
        say(f"  {version}: {result.verdict}. {sentences[0]}")
        if result.verdict == "pass":
            _move(client, made["number"], result.id)
            say(f"  prompt:{PROMPT}@prod is {version} now, with this verdict as evidence")
    return turns


def _with_limit(file: GateFile) -> GateFile:
    assert file.spec.evaluation is not None
    evaluation = msgspec.structs.replace(file.spec.evaluation, limit=N_CASES)
    spec: GateSpec = msgspec.structs.replace(file.spec, evaluation=evaluation)
    return GateFile(spec=spec, members=file.members)


def _move(client: ControlClient, number: int, gate_id: str) -> None:
    client.post(
        f"/api/v1/assets/prompt/{PROMPT}/aliases/prod/move",
        {"number": number, "gate": gate_id, "reason": "passed the demo's gate"},
    )
