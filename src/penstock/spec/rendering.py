"""How an engine of ours says which tokens it evaluated, and under which names spans keep that. Names only.

The headers stand on replies of our own engines; the gateway believes them from nobody else.
"""

RENDERER_HEADER = "x-penstock-renderer"
"""Digest of the renderer that made the prompt's ids; absent where the caller sent ids itself."""
PROMPT_IDS_HEADER = "x-penstock-prompt-ids"
"""Digest of the ids of the prompt as they were evaluated (`base.digest.digest_ids`)."""
RENDERER_ATTRIBUTE = "penstock.renderer.digest"
PROMPT_IDS_ATTRIBUTE = "penstock.prompt.ids_sha256"
RENDERER_ASSET = "renderer:"
"""How the versions of an output name a renderer: `renderer:MODEL`, with its digest."""
