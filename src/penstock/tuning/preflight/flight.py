"""The preflight: everything that is looked at before a run starts, in one walk over the rows.

Before the walk, the held-out rows are found (so that training rows can be compared with them), and those that the run
is measured by are chosen: the same ones for one seed, however the dataset is ordered.
"""

import heapq
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from penstock.spec.datasets import DatasetRow
from penstock.spec.tuning import Recipe
from penstock.tuning.preflight.row_findings import find_contaminated, find_duplicates, find_in_rows
from penstock.tuning.preflight.surroundings import look_around
from penstock.tuning.preflight.types import Finding, Flight, Preflight
from penstock.tuning.renderer import Renderer
from penstock.tuning.rows.chunks import NumberedRow, RowWork
from penstock.tuning.rows.files import write_samples
from penstock.tuning.rows.overlap import HeldIndex, index_questions, normalise, text_key
from penstock.tuning.rows.reading import RowReader
from penstock.tuning.rows.splits import SplitRule, place_of, rule_of, rule_of_heldout
from penstock.tuning.rows.types import ROW_KINDS, RowSource, RowsReport
from penstock.tuning.rows.walk import Tell, Walked, number_rows, walk_rows

_NO_LIMIT = 1 << 30


@dataclass(frozen=True, kw_only=True)
class _HeldOut:
    """The rows that are not trained on."""

    source: RowSource
    numbers: frozenset[int]
    """All of them, in `source`."""
    chosen: frozenset[int]
    """Those that the run is measured by."""
    index: HeldIndex
    is_own: bool
    """Whether they are of the training dataset."""


def fly(
    flight: Flight,
    *,
    folder: Path | None = None,
    tell: Tell | None = None,
    processes: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Preflight:
    """Return what is wrong with the run that `flight` describes; nothing is raised for a finding.

    With `folder`, the rows are written on the way: `folder/train`, `folder/heldout`, `folder/samples.json`, ready for
    the trainer. They are written whether or not something refuses; look at `is_refused` before use.
    """
    began = clock()
    findings = list(look_around(flight))
    train: RowsReport | None = None
    heldout: RowsReport | None = None
    if flight.renderer is not None:
        found, train, heldout = _walk(flight, flight.renderer, folder, tell, processes)
        findings += found
    elif not flight.train.facts.n_rows:
        findings.append(
            Finding(
                code="zero-rows", severity="refuse", message=f"{flight.train.ref} is empty.", hint="Add rows."
            )
        )
    findings.sort(key=lambda finding: finding.severity != "refuse")
    return Preflight(findings=findings, train=train, heldout=heldout, seconds=round(clock() - began, 3))


def _walk(
    flight: Flight, renderer: Renderer, folder: Path | None, tell: Tell | None, processes: int | None
) -> tuple[list[Finding], RowsReport, RowsReport | None]:
    recipe, data, source = flight.recipe, flight.recipe.data, flight.train
    reader = _reader_of(flight, source)
    rule = rule_of(data, recipe.seed)
    held = _hold_out(flight, reader, rule)
    indexes = [] if held is None else [held.index]
    indexes += [index_questions(each.ref, _questions(flight, each)) for each in flight.guards]
    work = RowWork(
        renderer=renderer,
        reader=reader,
        max_length=_max_length(flight),
        loss_on=data.loss_on,
        truncate=data.truncate,
        vocab_size=None if flight.base is None else flight.base.vocab_size,
        held=tuple(indexes),
        n_samples=0 if held is not None else recipe.evaluation.n_samples,
    )
    own = held.numbers if held is not None and held.is_own else frozenset()
    rows = (
        (number, row) for number, row in number_rows(source.read()) if number not in own and _is_in(row, rule)
    )
    walked, train = walk_rows(
        work,
        islice(rows, data.max_rows),
        n_rows=min(source.facts.n_rows - len(own), data.max_rows or _NO_LIMIT),
        folder=None if folder is None else folder / "train",
        processes=processes,
        tell=tell,
    )
    own_share = source.ref if rule.needs_question else None
    findings = [
        *find_in_rows(walked, source.ref, data, is_heldout=False),
        *find_contaminated(walked, source.ref, own_share=own_share),
        *find_duplicates(walked, source.ref, data.max_duplicate_share),
    ]
    heldout, samples = None, walked.samples[: recipe.evaluation.n_samples]
    if held is not None:
        looked, heldout = _walk_heldout(flight, held, work, folder)
        findings += find_in_rows(looked, held.source.ref, data, is_heldout=True)
        samples = looked.samples
    if folder is not None:
        write_samples(folder / "samples.json", samples)
    return findings, train, heldout


def _walk_heldout(
    flight: Flight, held: _HeldOut, work: RowWork, folder: Path | None
) -> tuple[Walked, RowsReport]:
    measured = RowWork(
        renderer=work.renderer,
        reader=_reader_of(flight, held.source),
        max_length=work.max_length,
        loss_on=work.loss_on,
        truncate=work.truncate,
        vocab_size=work.vocab_size,
        n_samples=_NO_LIMIT,
    )
    rows = ((number, row) for number, row in number_rows(held.source.read()) if number in held.chosen)
    return walk_rows(
        measured,
        rows,
        n_rows=len(held.chosen),
        folder=None if folder is None else folder / "heldout",
    )


def _hold_out(flight: Flight, reader: RowReader, rule: SplitRule) -> _HeldOut | None:
    """Return the rows that are held out; None where the recipe holds none out."""
    recipe, is_own = flight.recipe, flight.heldout is None
    rows: Iterator[NumberedRow]
    if flight.heldout is not None:
        source, own_rule = flight.heldout, rule_of_heldout(recipe.data)
        reader = _reader_of(flight, source)
        rows = (pair for pair in number_rows(source.read()) if _is_in(pair[1], own_rule))
    elif rule.heldout is not None or rule.share > 0:
        source = flight.train
        rows = held_rows(source.read(), reader, rule)
    else:
        return None
    places: list[tuple[float, int]] = []
    questions: list[str] = []
    for number, row in rows:
        places.append((place_of(row.id.encode(), recipe.seed), number))
        questions.append(normalise(reader.question(row)))
    chosen = heapq.nsmallest(recipe.evaluation.max_rows, places)
    return _HeldOut(
        source=source,
        numbers=frozenset(number for _, number in places),
        chosen=frozenset(number for _, number in chosen),
        index=index_questions(source.ref, questions),
        is_own=is_own,
    )


def held_rows(rows: Iterable[DatasetRow], reader: RowReader, rule: SplitRule) -> Iterator[NumberedRow]:
    """Yield the rows that are held out: of few rows, of which chance takes none, those next to be taken."""
    least, spare, is_one_question, has_any = 2.0, list[NumberedRow](), True, False
    for number, row in number_rows(rows):
        key = b""
        if rule.needs_question and row.group is None:
            key = text_key(normalise(reader.question(row)) or row.id)
        side = rule.side(row, key)
        if side == "heldout":
            has_any, spare = True, []
            yield number, row
        elif side == "train" and rule.needs_question and not has_any:
            place = rule.place(row, key)
            is_one_question = is_one_question and (not spare or place == least)
            if place < least:
                least, spare = place, []
            if place == least:
                spare.append((number, row))
    if not has_any and not is_one_question:
        yield from spare


def _questions(flight: Flight, source: RowSource) -> Iterator[str]:
    reader = _reader_of(flight, source)
    return (normalise(reader.question(row)) for row in source.read())


def _is_in(row: DatasetRow, rule: SplitRule) -> bool:
    """Whether a row that is not held out is meant for training."""
    return (rule.split is None or row.split == rule.split) and (
        rule.heldout is None or row.split != rule.heldout
    )


def _reader_of(flight: Flight, source: RowSource) -> RowReader:
    return RowReader(
        form=source.facts.format,
        kind=ROW_KINDS.get(flight.recipe.method, "supervised"),
        as_case=flight.as_case,
        prompt=flight.prompt,
        system=flight.recipe.data.system,
    )


def _max_length(flight: Flight) -> int:
    """Return the tokens that a row may have: what the recipe says, never more than the model reads."""
    return min(flight.recipe.data.max_length or _NO_LIMIT, _context_of(flight.recipe, flight))


def _context_of(recipe: Recipe, flight: Flight) -> int:
    if flight.base is not None:
        return flight.base.context_length
    return _NO_LIMIT if recipe.scratch is None else recipe.scratch.context_length
