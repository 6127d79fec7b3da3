"""Durable state behind ports: control tables, spans, blobs, counters. Knows no use case."""
