"""What a client gets from a good provider: bytes untouched, usage, money, one span."""

import json

from tests.gateway.conftest import Bench
from tests.gateway.upstream import REPLY

ASK = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "How much water?"}],
    "odd": {"x": [1, None]},
}


async def test_a_reply_comes_back_byte_for_byte(ready: Bench) -> None:
    response = await ready.post(ASK)
    assert response.status == 200
    assert await response.read() == json.dumps(REPLY).encode()
