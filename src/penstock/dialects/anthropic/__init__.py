"""Anthropic's Messages protocol: `/v1/messages` and its count of tokens."""
