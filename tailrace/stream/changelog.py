"""The changelog of one partition's images: what is written to it, and what it says when it is read back. Pure.

Keyed by the raw key; the value is the writer's claim and the image, null where it was removed. Each time a process
takes a partition it first writes a claim, and its images name that claim by its offset. So an image that a process
wrote after it had lost the partition is found out: it names an older claim than the newest before it. Such a key has
no image until its row is sent whole again (docs/decisions/0005).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    Message = tuple[int, bytes | None, bytes | None]  # offset, key, value

CLAIM, THROUGH = b"\0claim", b"\0through"  # raw keys are JSON: none begins with a zero byte
_NUMBER = struct.Struct(">Q")


def entries(claim: int, through: int, changes: Mapping[bytes, bytes | None]) -> Iterator[tuple[bytes, bytes | None]]:
    """Yield the keys and values that say what a batch changed; ``through`` is the version up to which all is done."""
    yield THROUGH, _NUMBER.pack(through)
    head = _NUMBER.pack(claim)
    for key, image in changes.items():
        yield key, None if image is None else head + image


class Rebuild:
    """Reads a changelog in order. ``claim`` is the newest one seen, ``mine`` the offset of the one that is waited for.

    ``changes`` are to be taken away by whoever writes them to a store; ``lost`` are keys whose image cannot be trusted.
    """

    def __init__(self, token: bytes, claim: int = -1, through: int = 0) -> None:
        self._token = token
        self.claim, self.through, self.mine, self.next = claim, through, -1, 0
        self.changes: dict[bytes, bytes | None] = {}
        self.lost: set[bytes] = set()

    def take(self, messages: Iterable[Message]) -> None:
        """Take messages, in order."""
        changes, lost, unpack = self.changes, self.lost, _NUMBER.unpack_from
        claim, offset = self.claim, self.next - 1
        for offset, key, value in messages:
            if key is None:
                continue
            if value is None:
                changes[key] = None
            elif key[0]:
                stale = unpack(value)[0] < claim
                changes[key] = None if stale else value[_NUMBER.size :]
                if stale or lost:
                    (lost.add if stale else lost.discard)(key)
            elif key == CLAIM:
                claim = offset
                self.mine = offset if value == self._token else self.mine
            elif key == THROUGH:
                self.through = max(self.through, unpack(value)[0])
        self.claim, self.next = claim, offset + 1
