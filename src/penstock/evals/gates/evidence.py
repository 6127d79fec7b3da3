"""Stored verdicts as evidence for the move of an alias.

Knows nothing of evaluations, so that the registry's check costs no more than one read of one row.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Engine

from penstock.evals.gates import queries
from penstock.evals.gates.errors import EvidenceRefused, UnknownGateResult
from penstock.spec.evaluations import GateResult

_decoder = msgspec.json.Decoder(GateResult)


def make_evidence(result: GateResult) -> dict[str, Any]:
    """Return what a move keeps of a verdict: enough to read it without the store, and its id to check it by."""
    return {
        "gate": result.id,
        "name": result.name,
        "verdict": result.verdict,
        "candidate": result.candidate,
        "baseline": result.baseline,
        "sentences": [rule.sentence for rule in result.rules],
        "evaluations": result.evaluations,
        "digests": {"gate": result.gate_digest, **result.versions},
    }


class GateEvidence:
    """Reads stored verdicts. May be called from any thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def get(self, result_id: str) -> GateResult:
        """Return a verdict; `gate:ID` is taken too. Raises `UnknownGateResult`."""
        wanted = result_id.strip().removeprefix("gate:")
        with self._engine.connect() as connection:
            content = queries.get_content(connection, wanted)
        if content is None:
            raise UnknownGateResult(
                f"No verdict of a gate has the id {wanted!r}.", hint="penstock gate list shows them."
            )
        return _decoder.decode(content)

    def check(self, asset: str, stamp: str, evidence: Mapping[str, Any]) -> None:
        """Return when `evidence` names a stored passing verdict over the version with `stamp` of `asset`.

        Raises `EvidenceRefused` otherwise; what the evidence says of itself counts for nothing.
        """
        named = evidence.get("gate")
        if not isinstance(named, str) or not named:
            raise EvidenceRefused(
                f"the evidence for {asset} names no verdict of a gate.",
                hint="Run penstock gate run, then move with --gate ID; or give an override reason, which is recorded.",
                asset=asset,
            )
        try:
            result = self.get(named)
        except UnknownGateResult as error:
            raise EvidenceRefused(
                f"the evidence for {asset} names the verdict {named!r}, which is not stored here.",
                hint=error.hint,
                asset=asset,
            ) from error
        if result.verdict != "pass":
            raise EvidenceRefused(
                f"gate {result.name} ({result.id}) did not pass: {result.verdict}. {result.reason}",
                hint="Move on a passing verdict, or give an override reason, which is recorded.",
                asset=asset,
                gate=result.id,
            )
        judged = result.versions.get(asset)
        if judged != stamp:
            told = f"judged {asset}@{judged}" if judged else f"judged {result.candidate}, not {asset}"
            raise EvidenceRefused(
                f"gate {result.name} ({result.id}) {told}; the move is to {asset}@{stamp}.",
                hint="Run the gate on this very version.",
                asset=asset,
                gate=result.id,
            )
