"""Parsers: bytes of one file in, sections of text out. No network, no settings, nothing is executed."""

from penstock.knowledge.parse.dispatch import SUFFIXES, parse_document

__all__ = ["SUFFIXES", "parse_document"]
