"""Whether a snapshot has been followed is what the workers say, not how long one has waited."""

import os
from pathlib import Path

import pytest

from penstock.deploy.followed import Followed, have_followed, write_followed

HERE = os.getpid()


@pytest.fixture
def ready(tmp_path: Path) -> Path:
    folder = tmp_path / "ready"
    folder.mkdir()
    (folder / str(HERE)).touch()
    return folder


def test_a_worker_that_said_nothing_has_not_followed(ready: Path, tmp_path: Path) -> None:
    assert not have_followed(ready, tmp_path / "followed", 5)


@pytest.mark.parametrize(("oldest", "is_fine"), [(4, False), (5, True), (6, True)])
def test_a_call_by_an_older_snapshot_counts_however_new_the_newest_is(
    ready: Path, tmp_path: Path, oldest: int, is_fine: bool
) -> None:
    write_followed(tmp_path / "followed", HERE, Followed(newest_ns=9, oldest_ns=oldest))
    assert have_followed(ready, tmp_path / "followed", 5) is is_fine


def test_a_dead_worker_holds_up_nobody(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    ready.mkdir()
    (ready / "4194303").touch()  # no process has this id
    assert have_followed(ready, tmp_path / "followed", 5)


def test_without_gateways_there_is_nobody_to_wait_for(tmp_path: Path) -> None:
    assert have_followed(tmp_path / "ready", tmp_path / "followed", 5)


def test_a_worker_that_is_only_coming_up_is_waited_for(tmp_path: Path) -> None:
    write_followed(tmp_path / "followed", HERE, Followed(newest_ns=4, oldest_ns=4))
    assert not have_followed(tmp_path / "ready", tmp_path / "followed", 5)
    write_followed(tmp_path / "followed", HERE, Followed(newest_ns=5, oldest_ns=5))
    assert have_followed(tmp_path / "ready", tmp_path / "followed", 5)
