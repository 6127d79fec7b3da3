"""Models of the gateway as teachers: `tuning.compress.distilling.Teacher` over HTTP, with the installation's own key."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from decimal import Decimal
from typing import Any

from penstock.main.chat_calls import ChatCalls, RoutePricing
from penstock.tuning.compress.distilling import TeacherReply


class GatewayTeacher:
    """Asks any model that the gateway answers. Safe for threads."""

    def __init__(self, calls: ChatCalls, prices: RoutePricing) -> None:
        self._calls = calls
        self._prices = prices

    def ask(
        self,
        model: str,
        messages: Sequence[Mapping[str, Any]],
        *,
        parameters: Mapping[str, Any],
        session: str,
    ) -> TeacherReply:
        """Return the answer; see the port."""
        answer = self._calls.ask(model, messages, parameters=parameters, session=session)
        cost: Decimal | None = None
        if answer.input_tokens is not None and answer.output_tokens is not None:
            cost = self.price(model, input_tokens=answer.input_tokens, output_tokens=answer.output_tokens)
        return TeacherReply(**asdict(answer), cost_usd=None if cost is None else str(cost))

    def price(self, model: str, *, input_tokens: int, output_tokens: int) -> Decimal | None:
        """Return what such a call costs now."""
        return self._prices.estimate_usd(model, input_tokens=input_tokens, output_tokens=output_tokens)
