"""Models made ready to serve: conversion, parity proof, the renderer of token ids, and the pull into the registry.

`convert/` turns Hugging Face folders into GGUF files, `parity.py` proves that the file answers as its source
does, `renderer.py` turns messages into token ids, `models.py` registers the outcome. Serving itself is
`providers/engines`.
"""
