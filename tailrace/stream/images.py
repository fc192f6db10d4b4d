"""Images: the last raw values of a row's long columns, by key, from which an unchanged TOAST value is restored.

Pure decisions over one raw partition; where images lie is the store's business (docs/decisions/0005). An image is JSON
as Debezium wrote it, with the version of the record that it was in. What a batch changes stays in ``changes`` until
its outputs are acknowledged. A value is never guessed: without an older image of the same epoch the record is refused,
or passed over where it had its effect before.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from tailrace import version
from tailrace.source.envelope import missing
from tailrace.topics import MESSAGE_BYTES

if TYPE_CHECKING:
    from tailrace.source.envelope import Sent

OLD_KEY = "__debezium.oldkey"  # the header of an insert that a change of the primary key made
_VERSION = struct.Struct(">Q")
# Postgres moves values out of a row from 2,032 bytes on, and a value is never more than five times as long there as in
# JSON, plus sixteen bytes a column. A payload is the row and at least 300 bytes beside it.
_LEAST_PAYLOAD, _LEAST_ROW = 700, 2000
_TIMES, _PER_COLUMN = 5, 16
_AGAIN = "Run `tailrace snapshot` for the table, or write the value again (SET x = x || ''). To never need it: "


class Store(Protocol):
    """Where the images of one partition are; ``used`` says whether it ever held one."""

    used: bool

    def get(self, key: bytes) -> bytes | None:
        """Return what is kept under a key."""

    def write(self, changes: dict[bytes, bytes | None]) -> None:
        """Keep all changes together; None removes."""


class Superseded(Exception):
    """A record had its effect before, and what it needed is known no more: its output is already acknowledged."""


class Images:
    """The images of one partition. ``through`` is the version up to which everything had its effect."""

    def __init__(self, store: Store, through: int = 0) -> None:
        self.store, self.through = store, through
        self.changes: dict[bytes, bytes | None] = {}
        self._settled = 0

    def begin(self) -> None:
        """Begin a batch, or begin it again: what the last attempt changed is forgotten."""
        self.changes.clear()

    def commit(self, last: int) -> None:
        """Keep what the batch changed; ``last`` is the version of its last record."""
        if self.changes:
            self.store.write(self.changes)
        self.changes = {}
        self.through = max(self.through, last)

    def settle(self, key: bytes | None, at: int, sent: Sent) -> None:
        """Restore what was not sent and keep what was; raise Rejected or Superseded where it cannot be restored.

        ``at`` is the record's version. It is called for every event, in order, before its values are converted.
        """
        self._settled = at
        if key is None:
            if sent.unsent:
                raise missing(sent.unsent[0], "The message has no key.", _AGAIN)
        elif sent.op == "d" or sent.after is None or (sent.size < _LEAST_PAYLOAD and not sent.unsent):
            self._remove(key)
        else:
            self._keep(key, at, sent, sent.after)

    def unread(self, key: bytes | None, at: int) -> None:
        """Hear that a record was refused. One that could not even be read may have changed anything."""
        if key is not None and self._settled != at:
            self._remove(key)

    def gone(self, key: bytes | None) -> None:
        """Hear of a tombstone."""
        if key is not None:
            self._remove(key)

    def _keep(self, key: bytes, at: int, sent: Sent, after: dict[str, Any]) -> None:
        known = self._known(key, at) if sent.unsent else {}
        image, lost = {}, []
        for name, label, _ in sent.shape.long:
            if name not in after:
                continue
            if name not in sent.unsent:
                image[label] = after[name]
            elif label in known:
                image[label] = after[name] = known[label]
            else:
                lost.append(name)
        if lost and at <= self.through:
            raise Superseded
        if image != known or not sent.unsent:
            self._put(key, at, image, least=0 if sent.unsent else _LEAST_ROW - _PER_COLUMN * len(after))
        if lost:
            raise missing(lost[0], "No image of this row is known that has it.", _AGAIN)

    def _put(self, key: bytes, at: int, image: dict[str, Any], *, least: int) -> None:
        body = orjson.dumps(image)
        if len(body) * _TIMES < least or len(body) > MESSAGE_BYTES:  # too short to be left out, or for no changelog
            self._remove(key)
        else:
            self.changes[key] = _VERSION.pack(at) + body

    def _known(self, key: bytes, at: int) -> dict[str, Any]:
        """Return the newest image that is older than a record and of its epoch."""
        kept = self.changes[key] if key in self.changes else self.store.get(key)
        if kept is None:
            return {}
        (made,) = _VERSION.unpack_from(kept)
        if made >= at or version.unpack(made)[0] != version.unpack(at)[0]:
            return {}
        found: dict[str, Any] = orjson.loads(kept[_VERSION.size :])
        return found

    def _remove(self, key: bytes) -> None:
        if key in self.changes or (self.store.used and self.store.get(key) is not None):
            self.changes[key] = None
