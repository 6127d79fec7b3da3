"""Why a reply ended, for dialects that have a word of their own for a stop sequence."""

from collections.abc import Mapping
from dataclasses import dataclass

from penstock.spec.hub import Finish


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishWords:
    """The words of one dialect, both ways."""

    meanings: Mapping[str, Finish]
    """Every documented word."""
    words: Mapping[Finish, str]
    """The word to write; a meaning that is not here has none."""
    stop_sequence: str
    """The word to write for `stop` where a stop sequence was met."""

    def read(self, reason: str | None) -> Finish:
        """Return the hub's word; `unknown` for none and for one that is not documented."""
        return self.meanings.get(reason or "", "unknown")

    def write(self, finish: Finish, raw: str | None, stop_sequence: str | None) -> str | None:
        """Return the dialect's word, None where the provider did not say why (it is never guessed).

        `raw` counts where it is a word of this dialect that means `finish`.
        """
        if raw is not None and self.meanings.get(raw) == finish:
            return raw
        if finish == "stop" and stop_sequence is not None:
            return self.stop_sequence
        return self.words.get(finish)
