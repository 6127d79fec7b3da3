"""Limits and budgets as data: how much of what, for whom, in which window."""

from decimal import Decimal
from typing import Literal

import msgspec

LimitScope = Literal["all", "project", "key", "user", "route", "model"]
LimitUnit = Literal["requests", "tokens", "usd"]
LimitWindow = Literal["minute", "hour", "day", "week", "month"]
LimitAction = Literal["refuse", "warn"]


class LimitRule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """At most `amount` of `unit` in each `window` for what `scope` and `match` name.

    Windows are those of the clock in UTC: a day begins at midnight, a week on Monday, a month on its first day.
    """

    name: str
    """Unique; stands in refusals, so that a person knows which rule to look up."""
    scope: LimitScope
    match: str | None = None
    """Key id, user, project, route or model this rule is for; None: each of them has its own counter with this
    amount. Always None for the scope `all`, which has one counter."""
    unit: LimitUnit
    amount: Decimal
    """Over 0; whole for requests and tokens."""
    window: LimitWindow
    action: LimitAction = "refuse"
    """`warn` serves the call, with the header `x-penstock-limit-warning` and a mark in the span."""
