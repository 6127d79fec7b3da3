"""Work on models as jobs: what can be refused without reading a weight is refused before, and a proof is told whole."""

from collections.abc import Iterator

import pytest

from penstock.base.errors import InvalidInput
from penstock.jobs.worker import Worker
from penstock.main.compressing import compress_handlers, submit_compress, verify_model
from penstock.main.embedded import SHIPPED, ModelRooms
from penstock.main.job_kinds import MODEL_QUANTISE, MODEL_SHRINK, MODEL_VERIFY
from penstock.main.rooms import Rooms
from penstock.spec.home import Home
from penstock.tuning.compress.errors import CannotQuantise


@pytest.fixture
def rooms(home: Home) -> Iterator[Rooms]:
    opened = Rooms(home)
    opened.registry.register("model", "whole", {"kind": "chat", "precision": "f16"})
    opened.registry.register("model", "rounded", {"kind": "chat", "precision": "q8_0"})
    yield opened
    opened.close()


def test_children_that_cannot_be_are_refused_before_a_job_is_queued(rooms: Rooms) -> None:
    asked = {"model": "model:whole@1", "precisions": ["q8_0"], "actor": "ann"}
    with pytest.raises(InvalidInput, match="gate"):
        submit_compress(rooms, MODEL_QUANTISE, {**asked, "alias": "prod"})
    with pytest.raises(InvalidInput, match="gate"):
        submit_compress(rooms, MODEL_SHRINK, {"model": "model:whole@1", "name": "small", "alias": "prod"})
    with pytest.raises(CannotQuantise, match="rounded to q8_0 already"):
        submit_compress(rooms, MODEL_QUANTISE, {**asked, "model": "model:rounded@1"})
    assert submit_compress(rooms, MODEL_QUANTISE, asked).kind == MODEL_QUANTISE


def test_the_same_proof_under_way_is_returned_and_one_with_parity_is_another(rooms: Rooms) -> None:
    asked = {"model": "model:whole@1", "parity": False, "actor": "ann"}
    first = submit_compress(rooms, MODEL_VERIFY, asked)
    assert submit_compress(rooms, MODEL_VERIFY, asked).id == first.id
    assert submit_compress(rooms, MODEL_VERIFY, {**asked, "parity": True}).id != first.id


def test_a_verification_is_done_by_the_worker_and_its_result_names_what_is_damaged(home: Home) -> None:
    rooms = ModelRooms(home)
    rooms.models.ensure_shipped(SHIPPED / "pocket")
    told: list[tuple[float | None, str]] = []
    whole = verify_model(rooms, "model:pocket", lambda *now: told.append(now), with_parity=False, actor="ann")
    assert (whole["model"], whole["passed"]) == ("model:pocket@1", True)
    assert "model.gguf" in [text for _, text in told]
    digest = rooms.registry.resolve("model:pocket").artefacts["model.gguf"].removeprefix("sha256:")
    (blob,) = [path for path in (home.root / "blobs").rglob("*") if path.name in digest and path.is_file()]
    blob.write_bytes(b"GGUF garbage")
    job = submit_compress(rooms, MODEL_VERIFY, {"model": "model:pocket@1", "parity": False, "actor": "ann"})
    Worker(rooms.engine, compress_handlers(rooms), "test").run_once()
    done = rooms.jobs.get(job.id)
    assert done.state == "done"
    assert done.result is not None
    assert done.result["passed"] is False
    assert [each["name"] for each in done.result["checks"] if not each["passed"]] == ["model.gguf"]
    assert any(line.text.startswith("FAILED: model.gguf") for line in rooms.jobs.logs(job.id))
    rooms.close()
