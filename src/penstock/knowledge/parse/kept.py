"""Parsed documents as bytes: between processes, and kept so that another way of cutting needs no parsing."""

import msgspec

from penstock.knowledge.types import ParsedDocument

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(ParsedDocument)


def pack_document(document: ParsedDocument) -> bytes:
    """Return the document as JSON."""
    return _encoder.encode(document)


def unpack_document(data: bytes) -> ParsedDocument:
    """Return the document that `pack_document` packed; raise `msgspec.DecodeError` for anything else."""
    return _decoder.decode(data)
