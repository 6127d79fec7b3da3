"""What training has left is what is registered."""

import json
from pathlib import Path

import pytest

from penstock.base.digest import digest_bytes
from penstock.tuning.errors import DigestMismatch
from penstock.tuning.runs.packaging import check_output


def test_weights_that_were_changed_after_training_are_refused(tmp_path: Path) -> None:
    weights = tmp_path / "adapter_model.safetensors"
    weights.write_bytes(b"trained")
    origin = tmp_path / "origin.json"
    origin.write_text(json.dumps({"run": "run_1"}))  # a program of one's own tells no digests
    check_output(tmp_path)
    origin.write_text(json.dumps({"run": "run_1", "files": {weights.name: digest_bytes(b"trained")}}))
    check_output(tmp_path)
    weights.write_bytes(b"changed")
    with pytest.raises(DigestMismatch, match="not what the run has trained"):
        check_output(tmp_path)
    weights.unlink()
    with pytest.raises(DigestMismatch):
        check_output(tmp_path)
