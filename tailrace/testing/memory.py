"""A sink that keeps everything in memory and keeps every promise of a sink: the shipped fake.

It holds tombstones for ever, applies the version guard, and follows key-changing updates like a real store does. What
it rejects is the caller's choice. ``items`` shows the live records by store key, ``writes`` counts the batches.
"""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

from tailrace.change import Change, Rejection
from tailrace.sink.writer import Written
from tailrace.targets import template_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Record = Mapping[str, Any]


class MemorySink:
    """``key`` is a template over the record's fields, like a DynamoDB target's; by default the primary key is used.

    ``reject`` returns the reason why a change can never be written, or nothing.
    """

    def __init__(self, *records: str, key: str = "", reject: Callable[[Change], str] | None = None) -> None:
        self.records: Sequence[str] = records
        self._template = key
        self._reject = reject
        self._held: dict[tuple[str, str], tuple[int, Record | None]] = {}
        self._lock = threading.Lock()
        self.writes = 0
        self.closed = False

    @property
    def items(self) -> dict[tuple[str, str], Record]:
        """The live records by (record name, store key)."""
        with self._lock:
            return {place: value for place, (_, value) in self._held.items() if value is not None}

    def write(self, batch: Sequence[Change], *, timeout: float) -> Written:  # noqa: ARG002 - memory does not wait
        """Apply the batch."""
        rejections, stale = [], 0
        with self._lock:
            self.writes += 1
            for position, change in enumerate(batch):
                reason = self._reject(change) if self._reject else ""
                if reason:
                    rejections.append(Rejection(position, reason))
                else:
                    stale += not self._apply(change)
        return Written(tuple(rejections), stale)

    def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True

    def _apply(self, change: Change) -> bool:
        """Write one change; say whether it was news."""
        before = self._place(change, change.before)
        after = self._place(change, change.value)
        news = False
        if before is not None and before != after:
            news = self._set(before, change.version, None)
        if after is not None:
            news = self._set(after, change.version, change.value) or news
        return news

    def _set(self, place: tuple[str, str], version: int, value: Record | None) -> bool:
        held = self._held.get(place)
        if held is not None and held[0] >= version:
            return False
        self._held[place] = (version, value)
        return True

    def _place(self, change: Change, value: Record | None) -> tuple[str, str] | None:
        if not self._template:
            return change.record, json.dumps(dict(change.key), default=str)
        if not value:
            return None
        return change.record, self._template.format(**{name: value[name] for name in template_fields(self._template)})
