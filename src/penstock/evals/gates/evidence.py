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
    found: dict[str, Any] = {
        "kind": "gate",
        "gate": result.id,
        "name": result.name,
        "verdict": result.verdict,
        "candidate": result.candidate,
        "baseline": result.baseline,
        "sentences": [rule.sentence for rule in result.rules],
        "evaluations": result.evaluations,
        "digests": {"gate": result.gate_digest, **result.versions},
    }
    return {**found, "handed_in": result.handed_in} if result.handed_in else found


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

    def read(self, evidence: Mapping[str, Any]) -> dict[str, Any]:
        """Return the verdict that `evidence` names as it is stored; what it says of itself counts for nothing.

        Raises `EvidenceRefused` where it names none.
        """
        return make_evidence(self._find(evidence))

    def check(self, asset: str, stamp: str, evidence: Mapping[str, Any]) -> dict[str, Any]:
        """Return the stored passing verdict that `evidence` names, over the version with `stamp` of `asset`.

        Raises `EvidenceRefused` where there is none; what the evidence says of itself counts for nothing.
        """
        result = self._find(evidence, asset)
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
        return make_evidence(result)

    def _find(self, evidence: Mapping[str, Any], asset: str | None = None) -> GateResult:
        told = {} if asset is None else {"asset": asset}
        about = "the evidence" if asset is None else f"the evidence for {asset}"
        named = evidence.get("gate")
        if not isinstance(named, str) or not named:
            raise EvidenceRefused(
                f"{about} names no verdict of a gate.",
                hint="Run penstock gate run, then move with --gate ID; or give an override reason, which is recorded.",
                **told,
            )
        try:
            return self.get(named)
        except UnknownGateResult as error:
            raise EvidenceRefused(
                f"{about} names the verdict {named[:100]!r}, which is not stored here.",
                hint=error.hint,
                **told,
            ) from error
