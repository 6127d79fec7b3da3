"""What can be wrong with a way of cutting."""

from penstock.base.errors import CallerError


class UnusableRecipe(CallerError):
    """A recipe's sizes do not go together; nothing was cut."""

    code = "PS-1440"
