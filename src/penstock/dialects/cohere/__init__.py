"""Cohere's protocol, version 2: `/v2/chat`."""
