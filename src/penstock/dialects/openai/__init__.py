"""The OpenAI protocol: request envelope, model splice, usage, streams, errors."""
