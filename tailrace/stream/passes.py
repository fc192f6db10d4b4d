"""Passes over a batch: one step for each record, the refused ones put aside, nothing behind a record that is held."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from tailrace.errors import Rejected
from tailrace.stream.drift import Held

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tailrace.stream.conform import RawRecord

Item = TypeVar("Item", bound=tuple[Any, ...])  # its first part is the raw record
Made = TypeVar("Made")


def deleted_before(records: Sequence[RawRecord]) -> set[bytes | None]:
    """Return the keys that count as deleted when a batch begins.

    A tombstone lies directly behind its ``d``. One that comes first in a batch belongs to the ``d`` that ended the
    batch before, which has had its effect, in this process or an earlier one.
    """
    return {records[0].key} if records and records[0].value is None else set()


def passed(
    step: Callable[[Item], Made | None],
    items: Iterable[Item],
    refused: list[tuple[RawRecord, Rejected]],
    doubted: Callable[[Item, Rejected], Held | None] | None = None,
) -> list[Made]:
    """Return what a step makes of each item; where it rejects, the item's record is put aside with the reason.

    ``doubted`` says of a rejected item whether its table is to be held instead. Held is raised with the offset.
    """
    found = []
    for item in items:
        try:
            made = step(item)
        except Rejected as rejected:
            held = doubted(item, rejected) if doubted else None
            if held is not None:
                raise held.at(item[0].offset) from rejected
            refused.append((item[0], rejected))
            continue
        except Held as held:
            held.at(item[0].offset)
            raise
        if made is not None:
            found.append(made)
    return found
