"""The OpenAI responses protocol: items in, items out, and a stream that names every step."""
