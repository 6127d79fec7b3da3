"""Verdicts for CI: Markdown for a summary or a comment, JUnit XML for the list of tests, lines for a terminal."""

from xml.etree import ElementTree as ET

from penstock.base.clock import iso_from_ns
from penstock.spec.evaluations import GateResult, RuleResult, VerdictWord

EXIT_CODES: dict[VerdictWord, int] = {"pass": 0, "fail": 1, "undecided": 6, "invalid": 7}
"""Of `penstock gate run`. 2 to 5 and 70 are errors of the command itself, as everywhere."""
MARKS: dict[VerdictWord, str] = {"pass": "✓", "fail": "✗", "undecided": "?", "invalid": "!"}


def to_lines(result: GateResult) -> list[str]:
    """Return the verdict as lines: what was judged, each rule, what to do next."""
    against = f" against {result.baseline}" if result.baseline else ""
    lines = [f"{MARKS[result.verdict]} {result.name}: {result.verdict}. {result.candidate}{against}"]
    for rule in result.rules:
        lines.append(f"  {MARKS[rule.verdict]} {rule.sentence}")
        if rule.next:
            lines.append(f"      {rule.next}")
    if not result.rules:
        lines.append(f"  {result.reason}")
    if result.left_out:
        lines.append(f"  Not looked at, too small: {', '.join(result.left_out)}.")
    return lines


def to_markdown(result: GateResult) -> str:
    """Return the verdict as Markdown: a headline, a table of rules, what to do next."""
    against = f" against `{result.baseline}`" if result.baseline else ""
    lines = [f"### {MARKS[result.verdict]} {_cell(result.name)}: {result.verdict}", ""]
    lines += [f"`{result.candidate}`{against}. {_cell(result.reason)}", ""]
    if result.rules:
        lines += ["| | rule | what was found |", "|---|---|---|"]
        lines += [
            f"| {MARKS[rule.verdict]} {rule.verdict} | `{_code(rule.rule)}` | {_cell(rule.sentence)} |"
            for rule in result.rules
        ]
        lines.append("")
    if result.left_out:
        lines += [f"Not looked at, too small: {_cell(', '.join(result.left_out))}.", ""]
    advice = [rule for rule in result.rules if rule.next]
    if advice:
        lines.append("Next:")
        lines += [f"- `{_code(rule.rule)}`: {_cell(rule.next)}" for rule in advice]
        lines.append("")
    lines.append(
        f"<sub>{100 * result.level:g} % intervals; fails corrected over all looks: {result.correction or 'none'}. "
        f"Verdict `{result.id}`, evaluations {', '.join(f'`{each}`' for each in result.evaluations)}, "
        f"{iso_from_ns(result.made_ns)[:19]}Z.</sub>"
    )
    return "\n".join(lines) + "\n"


def to_junit(result: GateResult) -> str:
    """Return the verdict as JUnit XML: one test case a rule and slice.

    A fail is a failure, invalid an error, undecided is skipped, with the sentence and the next step as text.
    """
    counts = {word: sum(rule.verdict == word for rule in result.rules) for word in MARKS}
    suite = ET.Element(
        "testsuite",
        name=f"gate {_xml(result.name)}",
        tests=str(max(1, len(result.rules))),
        failures=str(counts["fail"]),
        errors=str(counts["invalid"] + (not result.rules and result.verdict == "invalid")),
        skipped=str(counts["undecided"]),
        timestamp=iso_from_ns(result.made_ns)[:19],
    )
    for rule in result.rules:
        _add_case(suite, result, rule)
    if not result.rules:
        case = ET.SubElement(suite, "testcase", classname=f"gate.{_xml(result.name)}", name="gate")
        ET.SubElement(case, "error", message=_xml(result.reason))
    ET.indent(suite)
    text = ET.tostring(suite, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def _add_case(suite: ET.Element, result: GateResult, rule: RuleResult) -> None:
    name = rule.rule + (f" [{rule.slice}]" if rule.slice else "")
    case = ET.SubElement(suite, "testcase", classname=f"gate.{_xml(result.name)}", name=_xml(name), time="0")
    tag = {"fail": "failure", "invalid": "error", "undecided": "skipped"}.get(rule.verdict)
    if tag is None:
        ET.SubElement(case, "system-out").text = _xml(rule.sentence)
        return
    told = ET.SubElement(case, tag, message=_xml(rule.sentence))
    told.text = _xml(rule.next)


def _xml(text: str) -> str:
    """Text without characters that XML 1.0 does not have."""
    return "".join(
        char if char in "\t\n" or (ord(char) >= 32 and not 0xFFFE <= ord(char) <= 0xFFFF) else "�"
        for char in text
    )


def _cell(text: str) -> str:
    """Text on one line that no Markdown table or page can be broken by."""
    plain = " ".join(text.split())
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def _code(text: str) -> str:
    return " ".join(text.split()).replace("`", "'").replace("|", "\\|")
