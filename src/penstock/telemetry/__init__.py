"""Spans on their way: the spool, the wire encoding, OTLP in, and the mapping of foreign attributes."""
