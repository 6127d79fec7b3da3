"""Words: how text splits into pieces, which pieces carry meaning, and which belong together.

It knows nothing about tokens or the model. A *piece* is a word with its leading space, as the byte-level
pre-tokenizer of GPT-2 would split ASCII text, so that encoding piece by piece equals encoding the whole.
"""

# ruff: noqa: SIM905 - long word lists read better as text than as rows of quotes
from __future__ import annotations

import random
import re
from functools import lru_cache

PIECE = re.compile(r"'(?:s|t|re|ve|m|ll|d)| ?[A-Za-z]+| ?\d+| ?[^\sA-Za-z\d]+|\s+(?!\S)|\s+")

STOPWORDS = frozenset(
    """a about above after again all almost also always am an and another any anyone anything are around as at be
    because been before being below best better between both but by can come comes could did do does doing done down
    during each either else enough even ever every everyone few first for from further get gets give gives go goes
    good got had has have having he help helps her here hers him his how i if in into is it its just keep keeps kind
    less let like long made make makes many may me might more most much must my need needs neither never no nor not
    now of off often on once one only or other our out over own part people person put same seem seems she should
    since so some someone something soon sort still such take takes than that the their them then there these they
    thing things this those through to too try two type under until up upon us use used uses very was way we well were
    what when where whether which while who whom whose why will with within without would yet you your t s re ve ll d m
    mean means happen happens tell know say reason purpose called right""".split()
)

SUFFIXES = ("ingly", "edly", "ings", "iest", "ing", "ies", "ied", "ers", "est", "ed", "es", "er", "ly", "s")

SYNONYMS: tuple[tuple[str, ...], ...] = tuple(
    tuple(line.split())
    for line in """adults grown-ups
    child kid youngster
    doctor clinician physician
    quick fast rapid swift
    slow gradual unhurried
    big large huge
    small little tiny
    start begin commence
    stop end halt cease
    buy purchase
    repair fix mend
    clean wash rinse
    ill sick unwell
    pain ache soreness
    avoid shun skip
    reduce lower cut lessen
    increase raise boost
    show display reveal
    lasts endures continues
    amount quantity volume
    dangerous risky unsafe hazardous
    safe harmless secure
    important vital essential crucial
    open unlock
    close shut
    choose pick select
    keep store hold
    help aid assist
    happy glad cheerful
    tired weary sleepy
    exercise activity workout
    food meal dish
    drink beverage
    house home
    job work task
    near close beside
    build construct erect
    begins starts opens
    often frequently regularly
    old ancient aged
    new fresh modern
    easy simple
    hard difficult tough
    teach instruct train
    protect guard shield
    remove take-off strip
    check inspect examine test
    sign signal symptom
    cause trigger produce
    prevent hinder stop
    heat warmth
    cold chilly cool
    dry arid
    damp moist wet
    eat consume
    sleep rest slumber
    walk stroll
    run jog sprint
    road street path
    shop store market
    money cash funds
    price cost fee
    speak talk converse
    carry haul transport
    throw toss
    cover wrap
    damage harm injure
    injury wound hurt
    physician medic
    medicine drug remedy tablet
    advice guidance counsel
    visit attend
    mix blend stir combine
    attach fasten fix
    weight load mass
    top summit peak
    bottom base foot
    bag sack
    night evening
    morning dawn
    usual normal typical ordinary
    suitable proper right
    calm quiet peaceful
    worry anxiety concern
    strong sturdy powerful
    weak feeble frail
    swelling inflammation
    skin surface
    stomach belly tummy
    baby infant newborn
    elderly older
    hurry rush
    grow develop
    change alter shift
    spread apply
    ready prepared
    empty vacant
    advise recommend suggest
    limit cap maximum
    benefit advantage gain""".split("\n")
)
SYNONYM_OF: dict[str, tuple[str, ...]] = {}
for _group in SYNONYMS:
    for _word in _group:
        SYNONYM_OF.setdefault(_word, tuple(w for w in _group if w != _word))


def split_pieces(text: str) -> list[str]:
    """Split text as the tokenizer's pre-tokenizer does; joining the pieces gives the text back."""
    return PIECE.findall(text)


@lru_cache(maxsize=100_000)
def split_stem(word: str) -> tuple[str, str]:
    """A lower-cased word as (stem, suffix); short stems are left whole."""
    low = word.strip().lower()
    for suffix in SUFFIXES:
        if low.endswith(suffix) and len(low) - len(suffix) >= 3 and not low.endswith("ss"):
            stem = low[: -len(suffix)]
            if suffix in ("ies", "ied", "iest"):
                return stem + "y", suffix
            if len(stem) > 3 and stem[-1] == stem[-2] and stem[-1] not in "ls":
                stem = stem[:-1]
            return stem.removesuffix("e") if len(stem) > 3 else stem, suffix
    return (low.removesuffix("e") if len(low) > 3 else low), ""


def is_content(piece: str) -> bool:
    """Whether a piece carries meaning: a word outside the stop list, or a number."""
    low = piece.strip().lower()
    return low.isdigit() or (low.isalpha() and len(low) > 1 and low not in STOPWORDS)


def stem_of(piece: str) -> str:
    return split_stem(piece)[0]


def inflect(word: str, rng: random.Random) -> str:
    """Another form of a word, roughly: enough to teach that forms belong together."""
    stem, suffix = split_stem(word)
    if word.strip().isdigit() or not word.strip().isalpha():
        return word
    choices = [s for s in ("", "s", "ing", "ed", "er", "ly") if s != suffix]
    return word[: len(word) - len(word.lstrip())] + stem + rng.choice(choices)


SYLLABLES = tuple(
    a + b
    for a in "b br c ch cl d dr f fl g gl h j k l m n p pl qu r s sh sl st t th tr v w z".split()
    for b in "a ai e ea i o oo u".split()
)
ENDINGS = ("", "", "n", "r", "t", "l", "m", "nd", "st", "ck", "ng", "s", "ty", "ment", "ion")


def coin_word(rng: random.Random) -> str:
    """An invented word, so that the model learns to match and copy what it has never seen."""
    return "".join(rng.choice(SYLLABLES) for _ in range(rng.randint(1, 3))) + rng.choice(ENDINGS)
