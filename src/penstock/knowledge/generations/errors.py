"""What can go wrong with tracks and generations."""

from penstock.base.errors import ConflictError, NotFound, PolicyError


class UnknownTrack(NotFound):
    """The knowledge base has no track of that name."""

    code = "PS-1470"


class UnknownGeneration(NotFound):
    """The knowledge base has no generation of that id; it may have been pruned."""

    code = "PS-1471"


class UnprovenSwitch(PolicyError):
    """The live recipe of a knowledge base changes only on evidence, or on an override whose reason is recorded."""

    code = "PS-2470"


class TrackBehind(ConflictError):
    """The track does not hold what the base holds now: it could not be brought up to date."""

    code = "PS-3470"


class NoPreviousTrack(ConflictError):
    """No recipe was live before this one, so there is nothing to go back to."""

    code = "PS-3471"


class BaseIsBusy(ConflictError):
    """An ingest, a build or an erasure of the knowledge base is under way."""

    code = "PS-3473"


class RecipeIsNotLive(ConflictError):
    """An ingest was told another recipe than the live one: recipes go live by a switch."""

    code = "PS-3472"
