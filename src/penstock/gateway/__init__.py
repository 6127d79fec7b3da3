"""The data plane: parse, admit, resolve, relay, settle, record. Raw ASGI; reads snapshots, writes spans."""
