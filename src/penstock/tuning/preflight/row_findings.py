"""What rows had wrong → findings with their numbers, and whether each refuses the run. Pure."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from penstock.spec.tuning import DataPart
from penstock.tuning.preflight.types import MAX_ROWS_TOLD, Finding, FindingCode, Severity
from penstock.tuning.rows.chunks import Trouble
from penstock.tuning.rows.walk import Walked

_TEMPLATE_TEXT_SHARE = 0.01
"""A few rows may speak about templates; more of them were rendered before."""
_PLAIN: dict[Trouble, tuple[FindingCode, Severity, str, str]] = {
    "prefix-broken": (
        "template-mismatch", "refuse",
        "{rows} would be trained with another prompt than the model gets when it is served. {detail}",
        "Mend the base's chat template: what it writes with add_generation_prompt must begin what it writes with the reply.",
    ),
    "empty-mask": (
        "empty-mask", "refuse",
        "{rows} have nothing to learn: the answer is empty.",
        "Leave them out, or give them an answer.",
    ),
    "no-stop": (
        "eos-not-trained", "refuse",
        "In {rows} no token that ends a turn is learnt, so the model would not learn to stop.",
        "Take a base whose template writes its eos_token behind each reply.",
    ),
    "double-bos": (
        "double-bos", "refuse",
        "{rows} begin with two tokens that begin a sequence.",
        'Set bos = "once" in the base\'s renderer, or mend its template.',
    ),
    "outside-vocabulary": (
        "vocabulary-mismatch", "refuse",
        "{rows} hold tokens that the model has no weights for.",
        "Take the tokenizer that belongs to the base.",
    ),
    "same-answers": (
        "chosen-is-rejected", "refuse",
        "{rows} prefer an answer to itself.",
        "Leave them out: they say nothing, and their loss never falls.",
    ),
    "split-by-turn": (
        "split-by-turn", "warn",
        "{rows} are trained as one sequence a turn: the template writes earlier turns otherwise once they are over.",
        'Nothing is wrong. Tokens of earlier turns are read several times; loss_on = "last_turn" takes only the last.',
    ),
}  # fmt: skip


def find_in_rows(walked: Walked, source: str, data: DataPart, *, is_heldout: bool) -> Iterator[Finding]:
    """Yield findings about the rows of one side."""
    n_rows = walked.n_read
    for (kind, detail), (count, numbers) in walked.troubles.items():
        if kind in _PLAIN:
            code, severity, message, hint = _PLAIN[kind]
            text = message.format(rows=_rows(count), detail=detail)
        elif kind == "template-text":
            is_many = count > max(1, _TEMPLATE_TEXT_SHARE * n_rows)
            code, severity = "template-mismatch", "refuse" if is_many else "warn"
            text = f"{_rows(count)} hold template text such as {detail} as words."
            hint = "Store messages, not rendered prompts: the model would learn to read its own template as text."
        elif kind == "contaminated":
            continue
        elif kind == "too-long":
            code, severity = "truncated", _severity_of_length(walked, data)
            text, hint = _tell_length(walked, data, count)
        else:
            continue
        yield Finding(
            code=code, severity=severity, message=text, hint=hint, rows=numbers, n_rows=count, source=source
        )
    yield from _not_understood(walked, source)
    if not walked.n_kept:
        whose = "to hold out" if is_heldout else "to train on"
        yield Finding(
            code="zero-rows",
            severity="refuse",
            message=f"Of {n_rows:,} rows in {source} none is left {whose}.",
            hint=_hint_of_none(data, is_heldout=is_heldout),
            source=source,
        )
    if walked.kind == "kto" and not is_heldout and walked.n_kept:
        yield from _one_class(walked, source)


def _hint_of_none(data: DataPart, *, is_heldout: bool) -> str:
    if is_heldout and data.eval is None and data.eval_split is None:
        return "Raise data.eval_share, or set it to 0 to hold out nothing; and look at the other findings."
    named = data.eval_split if is_heldout else data.split
    return f"Look at the split{f' {named!r}' if named else ''}, and at the other findings."


def find_contaminated(walked: Walked, source: str, *, own_share: str | None) -> Iterator[Finding]:
    """Yield which training rows hold what the model is measured by. `own_share` names rows held out of the same dataset
    by chance: what they share with others is told, and does not refuse."""
    for (kind, detail), (count, numbers) in walked.troubles.items():
        if kind != "contaminated":
            continue
        is_own = detail == own_share
        yield Finding(
            code="contaminated",
            severity="warn" if is_own else "refuse",
            message=f"{_rows(count)} of {source} ask what {detail} asks too; a score on it would be memory.",
            hint=(
                "Give rows that belong together a group, so that they are held out together."
                if is_own
                else f"Take them out: penstock dataset decontaminate {source.rpartition('@')[0] or source}"
                f" --against {detail}."
            ),
            rows=numbers,
            n_rows=count,
            source=source,
        )


def find_duplicates(walked: Walked, source: str, allowed_share: float) -> Iterator[Finding]:
    """Yield a finding when rows say the same as an earlier one."""
    numbers = repeated_rows(walked.keys, walked.numbers)
    if not len(numbers):
        return
    share = len(numbers) / max(1, walked.n_read)
    is_over = share > allowed_share
    yield Finding(
        code="duplicates",
        severity="refuse" if is_over else "warn",
        message=f"{_rows(len(numbers))} say the same as an earlier row ({share:.1%}; allowed: {allowed_share:.1%}).",
        hint=f"Take them out: penstock dataset deduplicate {source.rpartition('@')[0] or source}. Or allow them:"
        f" data.max_duplicate_share = {np.ceil(share * 1000) / 1000:g}.",
        rows=[int(number) for number in numbers[:MAX_ROWS_TOLD]],
        n_rows=len(numbers),
        source=source,
    )


def repeated_rows(keys: NDArray[np.uint64], numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the numbers of rows whose key an earlier row has, in order."""
    _, first = np.unique(keys, return_index=True)
    is_repeated = np.ones(len(keys), bool)
    is_repeated[first] = False
    return np.sort(numbers[is_repeated])


def _not_understood(walked: Walked, source: str) -> Iterator[Finding]:
    found = [
        (detail, count, numbers)
        for (kind, detail), (count, numbers) in walked.troubles.items()
        if kind == "not-understood"
    ]
    if not found:
        return
    found.sort(key=lambda each: -each[1])
    count = sum(each[1] for each in found)
    others = f" ({len(found) - 1} other reasons too)" if len(found) > 1 else ""
    yield Finding(
        code="rows-not-understood",
        severity="refuse",
        message=f"{_rows(count)} cannot be trained on: {found[0][0]}{others}",
        hint="Mend or leave out these rows; nothing is dropped silently.",
        rows=sorted(number for each in found for number in each[2])[:MAX_ROWS_TOLD],
        n_rows=count,
        source=source,
    )


def _one_class(walked: Walked, source: str) -> Iterator[Finding]:
    good, bad = walked.labels.get("good", 0), walked.labels.get("bad", 0)
    if good and bad:
        return
    yield Finding(
        code="one-class-labels",
        severity="refuse",
        message=f"All {good + bad:,} answers in {source} are {'good' if good else 'bad'}; kto learns from the difference.",
        hint="Add answers of the other kind, or train supervised on the good ones.",
        source=source,
    )


def _severity_of_length(walked: Walked, data: DataPart) -> Severity:
    n_touched = walked.n_truncated + walked.n_dropped
    if data.truncate == "error":
        return "refuse"
    if data.truncate == "split":
        return "refuse" if walked.n_dropped else "warn"
    return "refuse" if n_touched > data.max_truncated_share * max(1, walked.n_read) else "warn"


def _tell_length(walked: Walked, data: DataPart, count: int) -> tuple[str, str]:
    longest = int(walked.lengths.max()) if len(walked.lengths) else 0
    share = count / max(1, walked.n_read)
    head = (
        f"{_rows(count)} ({share:.1%}) are longer than {walked.max_length:,} tokens, the longest {longest:,}"
    )
    allow = f"data.max_truncated_share = {np.ceil(share * 1000) / 1000:g}"
    is_base = data.max_length is None or data.max_length > walked.max_length
    longer = (
        f"The model reads at most {walked.max_length:,} tokens. Shorten"
        if is_base
        else "Raise data.max_length, shorten"
    )
    if data.truncate == "error":
        return f"{head}.", f'{longer} them, or say what is to be done: truncate = "drop" with {allow}.'
    if data.truncate == "split":
        return f"{head}; only text without turns can be split.", 'Use truncate = "drop" for conversations.'
    done = f"{walked.n_truncated:,} are cut, {walked.n_dropped:,} left out; {walked.n_lost_tokens:,} tokens are lost"
    return f"{head}: {done}.", f"{longer} them, or allow it: {allow}."


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"
