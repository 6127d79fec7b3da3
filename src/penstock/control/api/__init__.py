"""REST handlers, one file a noun. Each parses, calls one service, and answers."""
