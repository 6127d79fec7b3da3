"""Parsers: bytes of one file in, sections of text out. No network, no settings, nothing is executed."""

from penstock.knowledge.parse.dispatch import SUFFIXES, parse_document
from penstock.knowledge.parse.kept import pack_document, unpack_document
from penstock.knowledge.parse.pool import ParserPool

__all__ = ["SUFFIXES", "ParserPool", "pack_document", "parse_document", "unpack_document"]
