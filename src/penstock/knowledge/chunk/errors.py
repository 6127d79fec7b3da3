"""What can be wrong with a way of cutting."""

from penstock.base.errors import CallerError


class UnusableRecipe(CallerError):
    """A recipe has a setting out of bounds, or sizes that do not go together; nothing was done."""

    code = "PS-1440"
