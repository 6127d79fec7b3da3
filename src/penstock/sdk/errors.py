"""What the SDK raises: wrong settings, and prompts that are nowhere. Nothing else of it ever raises into its program."""

from penstock.base.errors import CallerError, UpstreamUnavailable


class SdkSettingInvalid(CallerError):
    """`penstock.configure` was given a value that means nothing."""

    code = "PS-1751"


class PromptUnavailable(UpstreamUnavailable):
    """A prompt could not be fetched, and there is no copy of it in memory or on disk, nor one to fall back to."""

    code = "PS-4240"
