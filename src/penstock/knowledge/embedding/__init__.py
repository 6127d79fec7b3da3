"""Passages and questions become vectors: what is embedded, in what batches, kept under which key."""
