"""Versions: the one guard in every sink.

A version is ``epoch << 48 | offset``, where the offset is that of the record in its *raw* topic-partition
(docs/decisions/0002). It fits a signed 64-bit integer, so every store can compare it. Epochs start at 1.
"""

from __future__ import annotations

OFFSET_BITS = 48
MAX_OFFSET = (1 << OFFSET_BITS) - 1
MAX_EPOCH = (1 << 15) - 1


def pack(epoch: int, offset: int) -> int:
    """Return the version of a record; raise ValueError outside the two ranges."""
    if not 1 <= epoch <= MAX_EPOCH:
        raise ValueError(f"epoch {epoch} is outside 1..{MAX_EPOCH}")
    if not 0 <= offset <= MAX_OFFSET:
        raise ValueError(f"offset {offset} is outside 0..{MAX_OFFSET}")
    return epoch << OFFSET_BITS | offset


def unpack(version: int) -> tuple[int, int]:
    """Return (epoch, offset) of a version."""
    return version >> OFFSET_BITS, version & MAX_OFFSET
