"""Text as people and models write it, as far as stores and searches can tell: a few words often, most words rarely.

Words follow Zipf's law over a made-up vocabulary behind the commonest words of English; sentences repeat now and then, as
they do in prompts and canned answers. The same seed gives the same text.
"""

import random
from itertools import accumulate

_COMMON = (
    "the of and to a in is that for it with as on be at by this from or an was are not have you can will if one all we"
    " your what when how which their more there would about out them been who any do time so some than no may said into"
    " other up could my over like then its our only new these two first after also way many where most know need back"
    " order refund return invoice delivery parcel address account password payment card price size colour stock store"
    " please thank help problem question answer found wrong broken late changed cancel send sent received customer number"
    " week day days today tomorrow email phone service support policy warranty repair replace free cost charge credit"
    " jacket boots tent rope stove lamp bottle bag mattress gloves trail hut summit weather snow rain water route map"
)
_ONSETS = (
    "b",
    "br",
    "c",
    "cl",
    "d",
    "dr",
    "f",
    "fl",
    "g",
    "gr",
    "h",
    "l",
    "m",
    "n",
    "p",
    "pr",
    "r",
    "s",
    "st",
    "t",
    "tr",
    "v",
    "w",
)
_VOWELS = ("a", "e", "i", "o", "u", "ea", "io", "ou")
_CODAS = ("", "l", "m", "n", "nd", "r", "rt", "s", "st", "t", "ck", "ng")
_ENDINGS = ("", "", "ing", "ed", "er", "s", "ly", "ness", "tion")
N_WORDS = 20_000
N_SENTENCES = 12_000


class TextSource:
    """Makes text of about a wanted length, quickly: sentences are made once and drawn with weights."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        common = list(dict.fromkeys(_COMMON.split()))
        made: dict[str, None] = dict.fromkeys(common)
        while len(made) < N_WORDS:
            parts = [
                rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS)
                for _ in range(rng.choice((1, 2, 2, 3)))
            ]
            made.setdefault("".join(parts) + rng.choice(_ENDINGS))
        self.words = list(made)
        weights = list(accumulate(1 / (rank + 2.7) for rank in range(N_WORDS)))
        self._sentences = []
        for _ in range(N_SENTENCES):
            chosen = rng.choices(self.words, cum_weights=weights, k=rng.randrange(6, 19))
            self._sentences.append(" ".join(chosen).capitalize() + rng.choice((".", ".", ".", "?", "!")))
        self._rng = rng

    def text(self, size: int) -> str:
        """Return about `size` characters: sentences, now and then one with a number that stands nowhere else."""
        rng = self._rng
        chosen = rng.choices(self._sentences, k=max(1, size // 62))
        if rng.random() < 0.3:
            chosen.insert(rng.randrange(len(chosen) + 1), f"It is about order {rng.randrange(10**7, 10**8)}.")
        return " ".join(chosen)
