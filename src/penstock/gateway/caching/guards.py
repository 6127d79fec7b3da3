"""What two questions must have in common besides a near meaning: numbers, names, dates, negation, direction.

An embedding hardly sees these: "in 2023" and "in 2024", "safe" and "unsafe", "from Paris to London" and back lie within any
useful threshold. So a question's guard is compared for equality, and only equal ones are compared by meaning. It errs on
the side of a miss: a word that may be a name counts as one, and text whose script has no capitals must be the same.
"""

import re
from hashlib import blake2b

GUARD_BYTES = 16
_QUOTED = re.compile(r"[\"“”«»„']([^\"“”«»„']{1,200})[\"“”«»„'](?!\w)|`([^`]{1,200})`")
_WORD = re.compile(r"[^\W_]+(?:['’._/@:+#%-]+[^\W_]+)*%?", re.UNICODE)

_ENDING = re.compile(r"'(?:s|re|ve|ll|d|m)$")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NEGATIONS = _words(
    "no not never none nobody nothing neither nor without cannot except unless hardly barely nie nicht kein keine ohne "
    "pas jamais sans non nunca sin ni senza não nem sem"
)
_QUESTIONS = _words(
    "who whom whose when where why much many often long old far wer wann wo warum qui quand où pourquoi quién cuándo dónde"
)
"""Not `what`, `which` and `how`, which are said for each other."""
_DIRECTIONS = _words(
    "before after above below over under more less most least fewer greater smaller larger higher lower increase decrease "
    "increased decreased increasing decreasing raise reduce rise fall gain lose add remove delete create insert drop enable "
    "disable enabled disabled off up down out left right north south east west start stop begin end open close "
    "opened closed allow deny allowed forbidden accept reject include exclude safe unsafe good bad best worst better "
    "worse true false legal illegal possible impossible first last next previous old new hot cold buy sell import export "
    "always sometimes only both either today tomorrow yesterday past future min max "
    "minimum maximum same different unlike against"
)
_NUMBERS = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion half third "
    "quarter double triple once twice dozen second fourth fifth"
)
_DATES = _words(
    "january february march april may june july august september october november december jan feb mar apr jun jul aug sep "
    "sept oct nov dec monday tuesday wednesday thursday friday saturday sunday mon tue wed thu fri sat sun"
)
_PLAIN_STARTS = _words(
    "a an the is are am was were be do does did can could should would will shall may might must have has had i you he she it "
    "we they my your his her its our their this that these those there here please tell give show explain describe list "
    "write find help let and but or so if as at by of in on to for what which how wie was que qu "
    "from with into any all some each every"
)


def guard_of(text: str) -> bytes:
    """Return 16 bytes that two questions share if nothing that embeddings overlook differs between them."""
    signs = _signs(text) if _has_case(text) else ["text", " ".join(text.split())]
    return blake2b("\x1f".join(signs).encode("utf-8", "replace"), digest_size=GUARD_BYTES).digest()


def _signs(text: str) -> list[str]:
    """Return the telling words. Names and numbers in their order, which tells `from Paris to London` from the way back;
    of the others it is enough that they are there, however often."""
    named = [f"quoted:{first or second}" for first, second in _QUOTED.findall(text)]
    others: set[str] = set()
    for found in _WORD.finditer(text):
        word = found.group()
        lower = _ENDING.sub("", word.lower().replace("’", "'"))
        if lower.endswith("n't") or lower in _NEGATIONS:
            others.add("not")
        elif lower in _NUMBERS or lower in _DATES or any(char.isdigit() for char in word):
            named.append(f"number:{lower}")
        elif lower in _DIRECTIONS or lower in _QUESTIONS:
            others.add(lower)
        elif _is_name(word, lower):
            named.append(f"name:{lower}")
    return [*named, *sorted(others)]


def _is_name(word: str, lower: str) -> bool:
    if lower in _PLAIN_STARTS:
        return False
    return any(char.isupper() for char in word) or any(char in "._/@:+#" for char in word)


def _has_case(text: str) -> bool:
    letters = [char for char in text if char.isalpha()]
    cased = sum(char.lower() != char.upper() for char in letters)
    return cased * 10 >= len(letters) * 9
