"""What a run from nothing begins with: tokenizer, template and configuration, made from the rows."""

import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from penstock.tuning.errors import RowNotUnderstood
from penstock.tuning.preflight.flight import held_rows
from penstock.tuning.rows.messages import text_of
from penstock.tuning.rows.reading import RowReader
from penstock.tuning.rows.splits import rule_of
from penstock.tuning.rows.types import AsCase
from penstock.tuning.runs.pinning import PinnedRecipe
from penstock.tuning.runs.ports import Models, StartFolder
from penstock.tuning.scratch.folder import make_scratch_folder


def write_scratch(pinned: PinnedRecipe, folder: Path, models: Models, as_case: AsCase) -> StartFolder:
    """Write the folder and return it; the tokenizer is another model's where the recipe says so."""
    part = pinned.recipe.scratch
    assert part is not None
    tokenizer_from: Path | None = None
    if part.tokenizer is not None:
        tokenizer_from = folder.with_name("tokenizer-from")
        shutil.rmtree(tokenizer_from, ignore_errors=True)
        models.checkout(part.tokenizer, tokenizer_from)
    made = make_scratch_folder(part, texts_of(pinned, as_case), folder, tokenizer_from=tokenizer_from)
    if tokenizer_from is not None:
        shutil.rmtree(tokenizer_from, ignore_errors=True)
    return StartFolder(
        folder=made.folder,
        renderer=made.renderer,
        stop_ids=made.stop_ids,
        pad_id=made.pad_id,
        context_length=part.context_length,
    )


def texts_of(pinned: PinnedRecipe, as_case: AsCase) -> Iterator[str]:
    """Yield what the rows say that are trained on: none that is held out, by split or by share, or beyond `max_rows`.

    Rows that nobody understands are left out.
    """
    data, source = pinned.recipe.data, pinned.train
    rule = rule_of(data, pinned.recipe.seed)
    reader = RowReader(
        form=source.facts.format, kind="supervised", as_case=as_case, prompt=pinned.prompt, system=data.system
    )
    held = frozenset(number for number, _ in held_rows(source.read(), reader, rule))
    rows = (
        (number, row)
        for number, row in enumerate(source.read(), start=1)
        if number not in held and (rule.split is None or row.split == rule.split)
    )
    for number, row in islice(rows, data.max_rows):
        try:
            found = reader.read(number, row)
        except RowNotUnderstood:  # the preflight tells of it
            continue
        for each in found:
            for message in each.messages:
                yield text_of(message.get("content"))
