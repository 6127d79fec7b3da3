"""Numbers of a workbook as their cells show them: 0.25 as 25%, 45000 as 2023-03-15.

Knows the formats that tables of data use. What it does not know (fractions, colours by condition) is shown
as the plain number, never as nothing.
"""

import math
import re
from datetime import datetime, timedelta

_BUILT_IN = {
    1: "0", 2: "0.00", 3: "#,##0", 4: "#,##0.00", 9: "0%", 10: "0.00%", 11: "0.00E+00", 14: "yyyy-mm-dd",
    15: "yyyy-mm-dd", 16: "yyyy-mm-dd", 17: "yyyy-mm", 18: "h:mm", 19: "h:mm:ss", 20: "h:mm", 21: "h:mm:ss",
    22: "yyyy-mm-dd h:mm", 37: "#,##0", 38: "#,##0", 39: "#,##0.00", 40: "#,##0.00", 45: "mm:ss",
    46: "[h]:mm:ss", 47: "mm:ss", 48: "0.0E+0", 49: "@",
}  # fmt: skip
_LITERAL = re.compile(r'"([^"]*)"|\\(.)|_.|\*.')
_BRACKET = re.compile(r"\[(\$[^\]\-]*)?[^\]]*\]")
_DIGITS = re.compile(r"[#0?][#0?,]*(?:\.[#0?]+)?,*")
_EPOCH_1900, _EPOCH_1904 = datetime(1899, 12, 30), datetime(1904, 1, 1)  # noqa: DTZ001 - cells have no zone


def built_in_format(number: int) -> str:
    """Return the format that a number below 164 stands for (ECMA-376 part 1, 18.8.30)."""
    return _BUILT_IN.get(number, "General")


def show_number(raw: str, pattern: str, *, since_1904: bool = False) -> str:
    """Return what a cell with this raw number shows."""
    try:
        value = float(raw)
    except ValueError:
        return raw
    if not math.isfinite(value):
        return raw
    if pattern in {"General", "@", ""}:
        return _plain(value)
    section = _section(pattern, value)
    if _is_date(section):
        return _date(value, section, since_1904=since_1904)
    return _number(value, section, n_sections=pattern.count(";") + 1)


def _section(pattern: str, value: float) -> str:
    sections = pattern.split(";")
    if value < 0 and len(sections) > 1:
        return sections[1]
    if value == 0 and len(sections) > 2:
        return sections[2]
    return sections[0]


def _is_date(section: str) -> bool:
    bare = re.sub(r"\[(?!h|m|s)[^\]]*\]", "", _LITERAL.sub("", section), flags=re.IGNORECASE).lower()
    return any(letter in bare for letter in "ydhs") or bool(re.search(r"(?<![a-z])m{1,5}(?![a-z])", bare))


def _date(value: float, section: str, *, since_1904: bool) -> str:
    try:
        moment = (_EPOCH_1904 if since_1904 else _EPOCH_1900) + timedelta(days=value)
    except OverflowError:
        return _plain(value)
    moment = (moment + timedelta(microseconds=500_000)).replace(microsecond=0)
    bare = _LITERAL.sub("", section).lower()
    if "[h" in bare or "[m" in bare:
        seconds = round(value * 86400)
        return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    has_date, has_time = "y" in bare or "d" in bare, "h" in bare or "s" in bare
    if not has_date and not has_time:
        return f"{moment:%Y-%m}"
    if has_date and has_time:
        return f"{moment:%Y-%m-%d %H:%M}" + (f":{moment:%S}" if "s" in bare else "")
    if has_time:
        return f"{moment:%H:%M}" + (f":{moment:%S}" if "s" in bare else "")
    return f"{moment:%Y-%m-%d}" if "d" in bare else f"{moment:%Y-%m}" if "m" in bare else f"{moment:%Y}"


def _number(value: float, section: str, *, n_sections: int) -> str:
    marked = _BRACKET.sub(lambda found: (found[1] or "")[1:], section)
    text = _LITERAL.sub(lambda found: f"\0{found[1] or found[2] or ''}\0", marked)
    bare = re.sub(r"\0[^\0]*\0", "", text)
    digits = _DIGITS.search(bare)
    if digits is None or "/" in bare or "E" in bare.upper().replace("GENERAL", ""):
        return _plain(value)
    shown = value * 100 if "%" in bare else value
    decimals = digits[0].rstrip(",").partition(".")[2]
    grouped = "," in digits[0].rstrip(",")
    scale = len(digits[0]) - len(digits[0].rstrip(","))
    number = f"{abs(shown) / 1000**scale:{',' if grouped else ''}.{len(decimals)}f}"
    if decimals and "#" in decimals:
        number = number.rstrip("0").rstrip(".")
    before, after = _around(text)
    sign = "-" if value < 0 and n_sections == 1 else ""
    return f"{sign}{before}{number}{after}".strip()


def _around(text: str) -> tuple[str, str]:
    """Return what stands before and after the digits: signs of money, per cent, units, brackets."""
    literal = False
    before: list[str] = []
    after: list[str] = []
    seen = False
    for char in text:
        if char == "\0":
            literal = not literal
        elif not literal and char in "#0?,.":
            seen = True
        else:
            (after if seen else before).append(char)
    return "".join(before), "".join(after)


def _plain(value: float) -> str:
    if value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.15g}"
