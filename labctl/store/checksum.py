"""The checksum of a stored document: tells a damaged row from a sound one.

CRC-32, because the enemy is a disk, a cable or a bad copy, and not a person: it finds every error
of up to 32 neighbouring bits and misses one in 4,000,000,000 of the others. It takes 0.3 us for a
small document and 2.5 us for a frame of 100 points and 6 columns, where BLAKE2b takes 0.6 and 8.5
us; adding that frame takes 40 us of the processor in all. Who must prove that nobody has changed
the data needs a signature kept elsewhere; a longer hash in the same file would not give it.
"""

from __future__ import annotations

from zlib import crc32


def checksum(
    run_id: str,
    seq: int,
    kind: str,
    stream: str,
    body: str,
    names: str | None,
    points: bytes | None,
) -> int:
    """Return the checksum of a document as its row holds it, 0 to 2**32 - 1."""
    head = "\0".join((run_id, str(seq), kind, stream, body, names or "", ""))
    return crc32(points or b"", crc32(head.encode()))
