"""What can be wrong with datasets and their rows. PS-x221 to PS-x229 are this room's, whoever is at fault."""

from collections.abc import Sequence

from penstock.base.errors import CallerError, ConflictError, NotFound, PolicyError
from penstock.datasets.types import MAX_PROBLEMS, RowProblem

_SHOWN = 5
MEND_OR_SKIP = "Mend these rows, or add --skip-invalid to leave them out and have them counted."
MEND_THE_END = "Mend the file at that place. --skip-invalid leaves out rows, never the rest of a file that nobody could count."


class InvalidRows(CallerError):
    """Rows of a source are wrong; nothing was stored. `fields["problems"]` has the first fifty, with row numbers."""

    code = "PS-1221"

    def __init__(
        self, source: str, problems: Sequence[RowProblem], n_problems: int, *, hint: str = "Mend these rows."
    ) -> None:
        shown = "; ".join(
            f"{each.place}{f' {each.column}' if each.column else ''}: {each.message}"
            for each in problems[:_SHOWN]
        )
        more = f"; and {n_problems - _SHOWN:,} more" if n_problems > _SHOWN else ""
        super().__init__(
            f"{n_problems:,} problem{'' if n_problems == 1 else 's'} in {source}: {shown}{more}.",
            hint=hint,
            source=source,
            n_problems=n_problems,
            problems=[
                {
                    name: value
                    for name, value in (
                        ("place", each.place),
                        ("column", each.column),
                        ("message", each.message),
                    )
                    if value
                }
                for each in problems[:MAX_PROBLEMS]
            ],
        )


class EmptyDataset(CallerError):
    """A version without a single row would say nothing about anything."""

    code = "PS-1222"


class UnknownFormat(CallerError):
    """Nobody can tell from the columns what these rows are."""

    code = "PS-1223"


class UnknownRow(NotFound):
    """The version has no row with this id."""

    code = "PS-1224"


class UnreadableSource(CallerError):
    """The file, folder or repository cannot be read as rows at all."""

    code = "PS-1225"


class WrongFormat(CallerError):
    """The datasets do not fit together, or the rows cannot be told in the format that was asked for."""

    code = "PS-1226"


class NoDataset(NotFound):
    """The version is there, but holds no rows that could be read here."""

    code = "PS-1227"


class SourceRefused(PolicyError):
    """Control does not read this place of its machine on anybody's behalf."""

    code = "PS-2221"
    status = 403


class ClashingIds(ConflictError):
    """Two rows with one id would be in one version."""

    code = "PS-3221"


class TornGroup(ConflictError):
    """Rows of one group are in several splits, and are to stay there."""

    code = "PS-3222"


class NewerVersion(ConflictError):
    """Somebody has made a version meanwhile, whose rows this one does not hold."""

    code = "PS-3223"
