"""What can be wrong about setting up the SDK. Nothing else of it ever raises into the program that uses it."""

from penstock.base.errors import CallerError


class SdkSettingInvalid(CallerError):
    """`penstock.configure` was given a value that means nothing."""

    code = "PS-1751"
