"""Hashes of files, a piece at a time."""

import hashlib
from typing import IO, Any

PIECE = 1 << 20  # bytes read at a time


def sha256_of(stream: IO[bytes]) -> Any:
    """The `hashlib` hash of what is left in a stream. (`hashlib.file_digest` needs Python 3.11.)"""
    digest = hashlib.sha256()
    while piece := stream.read(PIECE):
        digest.update(piece)
    return digest
