"""Following the commit log of a lake table as any reader may: which objects are the table now.

It begins at the newest checkpoint that ``_log/_last.json`` names and reads the entries after it, one by one, until
there is none. It shares no code with ``tailrace.sink``, which writes the log; docs/lake.md says the format.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Read = Callable[[str], bytes | None]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A table after entry ``sequence``: the keys of its objects inside its folder, and the rows each holds."""

    sequence: int
    objects: dict[str, int]


def follow(read: Read, known: Snapshot | None = None) -> Snapshot:
    """Return the newest state; ``read`` gives the bytes of a file in the table's folder, None where there is none.

    ``known`` is a state that was read before: only what follows it is read. Without a log the sequence is 0.
    """
    begun = known if known and known.sequence else _checkpoint(read)
    sequence, objects = begun.sequence, dict(begun.objects)
    while (entry := read(f"_log/{sequence + 1:020d}.json")) is not None:
        shown = json.loads(entry)
        for each in shown["removed"]:
            objects.pop(each["key"], None)
        objects.update(_rows(shown["added"]))
        sequence = shown["sequence"]
    return Snapshot(sequence, objects)


def _checkpoint(read: Read) -> Snapshot:
    """Return the newest checkpoint, or an empty table."""
    hint = read("_log/_last.json")
    checkpoint = read(f"_log/{int(hint):020d}.checkpoint.json") if hint else None
    if checkpoint is None:
        return Snapshot(0, {})
    shown = json.loads(checkpoint)
    return Snapshot(shown["sequence"], _rows(shown["live"]))


def _rows(shown: list[dict[str, Any]]) -> dict[str, int]:
    return {each["key"]: each["rows"] for each in shown}
