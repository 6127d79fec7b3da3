"""Counts are bounded in names, survive a restart, and cost a damaged file nothing but themselves."""

from pathlib import Path

import pytest

from penstock.telemetry import counters as counters_module
from penstock.telemetry.counters import IngestCounters


def test_names_are_counted_by_group_the_largest_first() -> None:
    counters = IngestCounters()
    counters.add("rejected", "no id", 2)
    counters.add("rejected", "no start", 5)
    counters.add("taken", "nothing", 0)
    counters.add_all("unmapped", ["a", "b", "a"])
    assert counters.read() == {"rejected": {"no start": 5, "no id": 2}, "unmapped": {"a": 2, "b": 1}}
    assert list(counters.read()["rejected"]) == ["no start", "no id"]
    assert (counters.get("unmapped", "a"), counters.get("cut", "x")) == (2, 0)


def test_endless_names_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters_module, "MAX_NAMES", 3)
    counters = IngestCounters()
    counters.add_all("unmapped", [f"name.{number}" for number in range(10)])
    counters.add("unmapped", "name.1")
    counts = counters.read()["unmapped"]
    assert sum(counts.values()) == 11
    assert (len(counts), counts["name.1"]) == (4, 2)


def test_counts_survive_a_restart_and_damage(tmp_path: Path) -> None:
    path = tmp_path / "ingest.json"
    first = IngestCounters(path)
    first.add("taken", "traces http", 7)
    first.save(is_last=True)
    again = IngestCounters(path)
    assert again.read() == first.read()
    assert again.since_ns == first.since_ns
    path.write_bytes(b"{damaged")
    assert IngestCounters(path).read() == {}


def test_counts_are_not_written_at_every_breath(tmp_path: Path) -> None:
    path = tmp_path / "ingest.json"
    counters = IngestCounters(path)
    counters.add("taken", "a")
    counters.save()
    counters.add("taken", "a")
    counters.save()
    assert IngestCounters(path).get("taken", "a") <= 1
    counters.save(is_last=True)
    assert IngestCounters(path).get("taken", "a") == 2


def test_a_kill_leaves_a_gap_that_is_told_and_an_orderly_end_none(tmp_path: Path) -> None:
    path = tmp_path / "ingest.json"
    first = IngestCounters(path)
    first.save()  # from now on the file says that somebody counts
    first.add("taken", "traces http", 5)
    second = IngestCounters(path)  # the first was killed before it wrote again
    assert len(second.gaps) == 1
    assert second.gaps[0][0] <= second.gaps[0][1]
    second.save(is_last=True)
    third = IngestCounters(path)
    assert third.gaps == second.gaps
