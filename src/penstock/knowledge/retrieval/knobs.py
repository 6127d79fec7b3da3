"""The names of what tuning may turn, apart from the grid that they span: help texts name them without the arrays."""

from typing import Literal, get_args

Knob = Literal[
    "dense_weight", "fusion", "title_weight", "section_weight", "n_candidates", "identifier_weight", "rerank"
]
KNOBS: tuple[Knob, ...] = get_args(Knob)
DEFAULT_KNOBS: tuple[Knob, ...] = ("dense_weight", "fusion", "title_weight", "section_weight", "n_candidates")
