"""What can go wrong before a provider is asked at all. No text holds a key or a token."""

from penstock.base.errors import CallerError, UpstreamError


class CredentialsUnusable(CallerError):
    """A credentials file or secret is not what its provider gives out."""

    code = "PS-1731"


class PackageMissing(CallerError):
    """This kind of authentication needs a package that is not installed."""

    code = "PS-1732"


class TokenRefused(UpstreamError):
    """The token service did not give a token for the configured credentials."""

    code = "PS-4731"
