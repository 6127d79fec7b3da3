"""The engine process: runs model weights on this machine and answers in OpenAI's words on loopback.

`llama.py` wraps the in-process llama.cpp server, `lexical.py` is the embedder that needs no weights, `app.py` is
the ASGI front that both stand behind. Prompts reach an engine only as token ids from an injected renderer.
"""
