"""Shared nouns: frozen records that rooms and processes pass to one another. No behaviour, no I/O."""
