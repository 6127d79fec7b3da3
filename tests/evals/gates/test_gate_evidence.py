"""A protected alias moves on a stored passing verdict over that very version, and on nothing else."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.evals.gates.errors import EvidenceRefused
from penstock.evals.gates.evidence import GateEvidence
from penstock.evals.gates.files import make_gate
from penstock.evals.gates.service import GateService
from penstock.evals.gates.types import GateQuery
from penstock.registry.errors import ProtectedAlias
from penstock.registry.service import Registry
from penstock.spec.evaluations import EvaluationSpec, TargetSpec
from penstock.store.blobs import BlobStore
from penstock.store.control.engine import open_control
from tests.evals.gates.fakes import FakeEvaluations, scored


class House:
    """A registry that checks evidence, with two versions of a prompt, and gates over them."""

    def __init__(self, folder: Path) -> None:
        engine = open_control(f"sqlite:///{folder / 'control.db'}")
        self.registry = Registry(
            engine, BlobStore(str(folder / "blobs")), check_evidence=GateEvidence(engine).check
        )
        self.versions = [self.registry.register("prompt", "triage", {"text": str(n)}) for n in (1, 2)]
        self.evaluations = FakeEvaluations()
        self.gates = GateService(engine, self.evaluations, self.evaluations.figure)

    def judge(self, number: int, share: float) -> dict[str, Any]:
        version = self.versions[number - 1]
        self.evaluations.put(
            "e",
            {"exact": scored([1.0] * int(100 * share) + [0.0] * (100 - int(100 * share)))},
            model=version.label,
            versions={"prompt:triage": version.stamp},
        )
        spec = make_gate({"name": "triage", "rules": ["exact >= 0.7"]})
        return self.gates.evidence(self.gates.judge(spec, candidate="e").id)

    def move(self, number: int, **evidence: Any) -> Any:
        return self.registry.move_alias("prompt", "triage", "prod", number, actor="ann", **evidence)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_a_passing_verdict_moves_the_version_it_judged(house: House) -> None:
    evidence = house.judge(2, 0.9)
    move = house.move(2, evidence=evidence)
    assert (move.to_number, move.is_override) == (2, False)
    assert move.evidence["sentences"] == evidence["sentences"]
    with pytest.raises(EvidenceRefused, match="judged prompt:triage@2@sha256"):
        house.move(1, evidence=evidence)


@pytest.mark.parametrize("share", [0.5, 0.72])
def test_a_verdict_that_did_not_pass_moves_nothing(house: House, share: float) -> None:
    with pytest.raises(EvidenceRefused, match="did not pass"):
        house.move(2, evidence=house.judge(2, share))


@pytest.mark.parametrize(
    "evidence", [{"verdict": "pass"}, {"gate": "gate_made_up", "verdict": "pass"}, {"gate": 3}, {"gate": ""}]
)
def test_what_evidence_says_of_itself_counts_for_nothing(house: House, evidence: dict[str, Any]) -> None:
    with pytest.raises(EvidenceRefused):
        house.move(2, evidence=evidence)
    forged = {**house.judge(2, 0.5), "verdict": "pass"}
    with pytest.raises(EvidenceRefused, match="did not pass"):
        house.move(2, evidence=forged)


def test_a_reason_overrides_and_is_recorded_as_such(house: House) -> None:
    with pytest.raises(ProtectedAlias):
        house.move(2)
    move = house.move(2, evidence={"verdict": "pass"}, override_reason="incident 7")
    assert (move.is_override, move.reason) == (True, "incident 7")
    assert move.evidence["kind"] == "override"  # of what was claimed only why it was refused is kept
    assert "verdict" not in move.evidence
    assert move.basis.startswith(
        "override, without evidence: the evidence for prompt:triage names no verdict"
    )
    assert [each.id for each in house.registry.overrides()] == [move.id]


def test_what_is_kept_is_the_verdict_as_it_is_stored(house: House) -> None:
    evidence = house.judge(2, 0.9)
    move = house.move(2, evidence={"gate": evidence["gate"], "sentences": ["all is well"], "verdict": "pass"})
    assert move.evidence == evidence
    assert move.basis == f"gate triage ({evidence['gate']}): pass"
    assert house.registry.overrides() == []


def test_evidence_that_proves_nothing_is_kept_with_no_alias(house: House) -> None:
    with pytest.raises(EvidenceRefused):
        house.registry.move_alias("prompt", "triage", "canary", 2, actor="ann", evidence={"kind": "parity"})
    with pytest.raises(EvidenceRefused):  # a reason overrides the need of evidence, not that evidence is true
        house.registry.move_alias(
            "prompt",
            "triage",
            "canary",
            2,
            actor="ann",
            evidence={"kind": "parity"},
            override_reason="why not",
        )


@pytest.mark.parametrize(
    ("fields", "is_handed_in"),
    [
        ({}, False),
        ({"is_local": True}, True),
        ({"outputs": "outputs.jsonl"}, True),
        ({"outputs": "eval:origin"}, False),
        ({"outputs": "eval:sent"}, True),
        ({"outputs": "eval:gone"}, True),
    ],
)
def test_a_verdict_says_which_scores_were_handed_in(
    house: House, fields: dict[str, Any], is_handed_in: bool
) -> None:
    values = {"exact": scored([1.0] * 90 + [0.0] * 10)}
    house.evaluations.put("origin", values)
    house.evaluations.put("sent", values, is_local=True)
    outputs = fields.pop("outputs", None)
    spec = EvaluationSpec(name="e", target=TargetSpec(outputs=outputs)) if outputs else None
    house.evaluations.put("e", values, **fields, **({"spec": spec} if spec else {}))
    result = house.gates.judge(make_gate({"name": "triage", "rules": ["exact >= 0.7"]}), candidate="e")
    assert result.handed_in == (["e"] if is_handed_in else [])
    assert house.gates.evidence(result.id).get("handed_in", []) == result.handed_in


def test_what_penstock_itself_has_checked_moves(house: House) -> None:
    move = house.move(1, evidence={"parity": {"verdict": "pass"}}, is_own_check=True)
    assert (move.to_number, move.is_override) == (1, False)
    with pytest.raises(ProtectedAlias):
        house.move(2, is_own_check=True)


def test_other_aliases_move_freely(house: House) -> None:
    moved = house.registry.move_alias("prompt", "triage", "canary", 2, actor="ann")
    assert moved.evidence is None


def test_verdicts_page_newest_first(house: House) -> None:
    made = [house.judge(2, share)["gate"] for share in (0.9, 0.5, 0.9)]
    first = house.gates.list(GateQuery(limit=2))
    rest = house.gates.list(GateQuery(limit=2, cursor=first.next_cursor))
    assert [row.id for row in (*first.rows, *rest.rows)] == made[::-1]
    assert rest.next_cursor is None
    passed = house.gates.list(GateQuery(verdict="pass", candidate="prompt:triage"))
    assert [row.id for row in passed.rows] == [made[2], made[0]]
    assert house.gates.list(GateQuery(candidate="prompt:triage@1")).rows == []
    assert msgspec.json.encode(passed)
