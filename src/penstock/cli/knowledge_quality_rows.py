"""How measurements, comparisons, explanations and reports of knowledge bases are printed."""

from typing import Any

from penstock.cli.output import print_json, print_lines, printable, time_text
from penstock.knowledge.quality.report_types import Explanation, StaleReport, UnansweredReport, UnusedReport
from penstock.knowledge.quality.types import GenerationComparison, Measurement
from penstock.spec.evaluations import Estimate


def print_measurement(made: Measurement) -> None:
    """Print a measurement: its table, what to know of it, what it missed."""
    groups = f" in {made.n_groups:,} groups" if made.n_groups != made.n_questions else ""
    print(
        f"{made.base} {made.version or made.generation}, {made.questions}: {made.n_questions:,} questions{groups}"
    )
    rows = []
    for mode in made.modes:
        differences = {each.name: each for each in mode.differences}
        for each in mode.estimates:
            difference = differences.get(each.name)
            rows.append(
                {
                    "mode": mode.mode,
                    "figure": each.name,
                    "value": each.value,
                    "interval": _interval(each),
                    "difference": None
                    if difference is None or difference.difference is None
                    else f"{difference.difference:+.3g}",
                    "p": None if difference is None else difference.p_adjusted,
                    "word": None if difference is None else difference.word,
                }
            )
    columns = ("mode", "figure", "value", "interval", "difference", "p", "word")
    print_lines(rows, columns if len(made.modes) > 1 else columns[:4])
    for text in made.reservations:
        print(f"note  {printable(text)}")
    for lost in made.unmapped[:10]:
        print(
            f"label that nothing fulfils  {printable(lost.question_id)}: {printable(lost.label)}: {printable(lost.reason)}"
        )
    for worst in made.worst[:5]:
        if not worst.n_found:
            print(f"found nothing of it  {printable(worst.question)}")
    print(f"kept as {made.id}")


def print_measurements(rows: Any, *, as_json: bool) -> None:
    """Print measurements, one line each."""
    if as_json:
        print_json(rows)
        return
    shown = []
    for row in rows:
        figures = {each.name: each for each in row.estimates}
        chosen = next((name for name in ("recall@5", *figures) if name in figures), None)
        best = None if chosen is None else figures[chosen]
        shown.append(
            {
                "time": time_text(row.made_ns),
                "id": row.id,
                "generation": row.version or row.generation,
                "questions": row.questions,
                "n": row.n_questions,
                "figure": chosen,
                "value": None if best is None else best.value,
                "interval": None if best is None else _interval(best),
            }
        )
    columns = ("time", "id", "generation", "questions", "n", "figure", "value", "interval")
    print_lines(
        shown,
        columns,
        give_up=("id",),
        empty="None yet: penstock knowledge measure NAME --questions dataset:NAME",
    )


def print_comparison(made: GenerationComparison) -> None:
    """Print a comparison: verdict, sentences, differences, what changes."""
    print(f"{made.verdict}: {printable(made.reason)}")
    for sentence in made.sentences:
        print(f"  {printable(sentence)}")
    rows = [
        {
            "questions": kind,
            "figure": each.name,
            "baseline": each.baseline,
            "candidate": each.candidate,
            "difference": None if each.difference is None else f"{each.difference:+.3g}",
            "interval": None
            if each.low is None or each.high is None
            else f"{each.low:+.3g} to {each.high:+.3g}",
            "word": each.word,
        }
        for kind, differences in (
            ("labelled", made.labelled),
            ("replayed", made.replay.differences if made.replay else ()),
        )
        for each in differences
    ]
    print_lines(rows, ("questions", "figure", "baseline", "candidate", "difference", "interval", "word"))
    if made.replay is not None:
        for estimate in made.replay.estimates:
            print(
                f"replay  {estimate.name} {_number(estimate.value)} ({_interval(estimate)}), {estimate.n:,} questions"
            )
        for change in made.replay.changes[:5]:
            print(f"changes  {printable(change.question)}  (overlap {_number(change.overlap)})")
    for text in made.reservations:
        print(f"note  {printable(text)}")
    print(f"kept as {made.id}")


def print_comparisons(rows: Any, *, as_json: bool) -> None:
    """Print comparisons, one line each."""
    if as_json:
        print_json(rows)
        return
    shown = [
        {
            "time": time_text(row.made_ns),
            "id": row.id,
            "candidate": row.candidate_track or row.candidate,
            "baseline": row.baseline_track or row.baseline,
            "verdict": row.verdict,
            "reason": row.reason,
        }
        for row in rows
    ]
    columns = ("time", "id", "candidate", "baseline", "verdict", "reason")
    print_lines(shown, columns, shorten="reason", empty="None yet: penstock knowledge compare NAME TRACK")


def print_explanation(made: Explanation) -> None:
    """Print what a question found, what it missed, and why."""
    searched = "" if made.n_rows is None else f", {made.n_rows:,} passages searched"
    print(f"{made.base} {made.version or made.generation}: {made.mode}{searched}")
    if made.note:
        print(f"note  {printable(made.note)}")
    if made.absent_words:
        print(f"words that stand nowhere  {', '.join(made.absent_words)}")
    rows = [
        {
            "rank": hit.rank,
            "score": hit.score,
            "by meaning": hit.dense_rank if hit.dense_rank is not None else hit.dense_score,
            "by words": hit.lexical_rank if hit.lexical_rank is not None else hit.lexical_score,
            "document": hit.document,
            "section": hit.section,
            "shared words": ", ".join(hit.shared_words),
            "text": hit.text,
        }
        for hit in made.hits
    ]
    columns = ("rank", "score", "by meaning", "by words", "document", "section", "shared words", "text")
    print_lines(rows, columns, shorten="text", empty="Nothing was found.")
    for stage in made.stages:
        taken = f", {stage.n_dropped:,} taken out" if stage.n_dropped else ""
        print(f"stage {stage.name}  {stage.n_in:,} → {stage.n_out:,} in {stage.ms:.2f} ms{taken}")
    for each in made.found:
        print(f"found  {printable(each.label.name)}")
    for missed in made.missed:
        print(f"missed  {printable(missed.label.name)}: {printable(missed.sentence)}")
        if missed.near_words:
            near = "; ".join(f"{word}: {', '.join(others)}" for word, others in missed.near_words.items())
            print(f"  words nearly the same  {near}")
        if missed.next:
            print(f"  {printable(missed.next)}")


def print_unanswered(made: UnansweredReport) -> None:
    """Print questions that were not answered."""
    print(f"{made.n_unanswered:,} of {made.n_asked:,} questions were not answered")
    rows = [
        {
            "n": each.n,
            "question": each.title,
            "why": ", ".join(f"{reason} {number}" for reason, number in each.reasons.items()),
            "last": time_text(each.last_ns),
            "near": ", ".join(each.candidates),
        }
        for each in made.clusters
    ]
    print_lines(rows, ("n", "question", "why", "last", "near"), give_up=("last",), shorten="question")
    if made.note:
        print(f"note  {printable(made.note)}")


def print_stale(made: StaleReport) -> None:
    """Print documents that may be out of date."""
    print(
        f"{sum(made.reasons.values()):,} of {made.n_documents:,} documents may be out of date; {made.n_cited:,} of them are cited"
    )
    rows = [
        {
            "document": row.path,
            "why": row.reason,
            "sentence": row.sentence,
            "found": row.n_retrieved,
            "cited": row.n_cited,
        }
        for row in made.rows
    ]
    print_lines(rows, ("document", "why", "found", "cited", "sentence"), shorten="sentence")
    if made.note:
        print(f"note  {printable(made.note)}")


def print_unused(made: UnusedReport) -> None:
    """Print documents that no question found."""
    print(
        f"{made.n_unused:,} of {made.n_documents:,} documents were found by none of {made.n_retrievals:,} searches"
    )
    rows = [
        {"document": row.path, "passages": row.n_passages, "indexed": time_text(row.indexed_ns)}
        for row in made.rows
    ]
    print_lines(rows, ("document", "passages", "indexed"))
    if made.note:
        print(f"note  {printable(made.note)}")


def _interval(estimate: Estimate) -> str | None:
    if estimate.low is None or estimate.high is None:
        return None
    return f"{_number(estimate.low)} to {_number(estimate.high)}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
