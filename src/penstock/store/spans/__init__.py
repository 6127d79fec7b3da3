"""Spans and their payloads: the port, its types, and the DuckDB adapter."""
