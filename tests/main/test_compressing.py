"""Smaller models as jobs: what can be refused without reading a weight is refused before anything is queued."""

from collections.abc import Iterator

import pytest

from penstock.base.errors import InvalidInput
from penstock.main.compressing import submit_compress
from penstock.main.job_kinds import MODEL_QUANTISE, MODEL_SHRINK
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
