"""The commit log of a lake table, as values: what an entry says, and which objects are live after it.

``<zone>/<table>/_log/<sequence, 20 digits>.json`` holds one entry; one writer wins each number. An object belongs to
the table from the entry that adds it until one that removes it, so whoever follows the log sees each change, known by
(partition, offset, version), exactly once: an entry is made only when it fits the state before it. Nothing here does
I/O; ``tailrace.sink.lake_commits`` does, and readers need neither (docs/lake.md).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

FOLDER = "_log/"
HINT = FOLDER + "_last.json"  # the newest checkpoint's number; it may be old, never wrong
CHECKPOINT_EVERY = 100


def entry_name(sequence: int) -> str:
    """Return where an entry is, inside the table's folder."""
    return f"{FOLDER}{sequence:020d}.json"


def checkpoint_name(sequence: int) -> str:
    """Return where the checkpoint after an entry is."""
    return f"{FOLDER}{sequence:020d}.checkpoint.json"


@dataclass(frozen=True, slots=True)
class Span:
    """What an object holds of one partition: offsets and versions, both ends included; there may be holes."""

    partition: int
    first: int
    last: int
    rows: int
    low: int
    high: int

    def meets(self, other: Span) -> bool:
        """Say whether a change may be in both."""
        return (
            self.partition == other.partition
            and self.first <= other.last
            and other.first <= self.last
            and self.low <= other.high
            and other.low <= self.high
        )

    def shown(self) -> dict[str, int]:
        """Return it as the log writes it."""
        return {
            "partition": self.partition, "first_offset": self.first, "last_offset": self.last, "rows": self.rows,
            "low_version": self.low, "high_version": self.high,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stored:
    """One object: its key inside the table's folder, what it holds, the contract's schema id (None: not known)."""

    key: str
    etag: str
    bytes: int
    schema: int | None
    spans: tuple[Span, ...]

    @property
    def rows(self) -> int:
        """The changes in it."""
        return sum(span.rows for span in self.spans)

    @property
    def date(self) -> str:
        """The source commit date of all of them, YYYY-MM-DD."""
        return self.key.partition("/")[0].removeprefix("dt=")

    def shown(self) -> dict[str, Any]:
        """Return it as the log writes it."""
        spans = [span.shown() for span in self.spans]
        return {
            "key": self.key, "etag": self.etag, "rows": self.rows, "bytes": self.bytes, "schema": self.schema,
            "spans": spans,
        }  # fmt: skip


def stored(shown: dict[str, Any]) -> Stored:
    """Read what ``Stored.shown`` wrote."""
    names = ("partition", "first_offset", "last_offset", "rows", "low_version", "high_version")
    spans = tuple(Span(*(each[name] for name in names)) for each in shown["spans"])
    return Stored(shown["key"], shown["etag"], shown["bytes"], shown["schema"], spans)


@dataclass(frozen=True, slots=True)
class Part:
    """What somebody wants in the log.

    ``seen`` are the live objects that were read and hold none of the changes added. ``exact`` says that the objects
    added hold just what the removed ones held.
    """

    what: str
    added: tuple[Stored, ...] = ()
    removed: tuple[str, ...] = ()
    vacuumed: tuple[str, ...] = ()
    seen: frozenset[str] = frozenset()
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One number of the log: ``at`` is when its writer ``by`` made it, ``what`` tells people why."""

    sequence: int
    at: str
    by: str
    what: str
    added: tuple[Stored, ...] = ()
    removed: tuple[Stored, ...] = ()
    vacuumed: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """Return its bytes."""
        return _json(
            {
                "sequence": self.sequence, "at": self.at, "by": self.by, "what": self.what,
                "added": [each.shown() for each in self.added],
                "removed": [each.shown() for each in self.removed],
                "vacuumed": list(self.vacuumed),
            }
        )  # fmt: skip


def decode(body: bytes) -> Entry:
    """Read an entry."""
    shown = json.loads(body)
    added, removed = (tuple(map(stored, shown[name])) for name in ("added", "removed"))
    return Entry(shown["sequence"], shown["at"], shown["by"], shown["what"], added, removed, tuple(shown["vacuumed"]))


@dataclass
class State:
    """The table after entry ``sequence``: what is live, and what was removed (when) but may still be in the bucket."""

    sequence: int = 0
    live: dict[str, Stored] = field(default_factory=dict)
    gone: dict[str, tuple[str, Stored]] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)

    def copy(self) -> State:
        """Return one that may be moved on by itself."""
        return State(self.sequence, dict(self.live), dict(self.gone), dict(self.ends))

    def apply(self, entry: Entry) -> None:
        """Go on by one entry: first what it removes, then what it adds."""
        for each in entry.removed:
            self.live.pop(each.key, None)
            self.gone[each.key] = (entry.at, each)
        for each in entry.added:
            self.gone.pop(each.key, None)
            self._add(each)
        for key in entry.vacuumed:
            self.gone.pop(key, None)
        self.sequence = entry.sequence

    def _add(self, each: Stored) -> None:
        self.live[each.key] = each
        for span in each.spans:
            self.ends[span.partition] = max(span.last, self.ends.get(span.partition, -1))

    def over(self, spans: Iterable[Span]) -> set[str]:
        """Return the live objects that may hold a change of these spans."""
        wanted = [span for span in spans if span.first <= self.ends.get(span.partition, -1)]
        if not wanted:
            return set()
        return {
            each.key for each in self.live.values() if any(span.meets(mine) for span in each.spans for mine in wanted)
        }

    def has(self, part: Part) -> bool:
        """Say whether a part is in the log already: an attempt whose answer was lost, or another's same object."""
        return (
            all(self.live.get(each.key) == each for each in part.added)
            and not any(key in self.live for key in part.removed if key not in {each.key for each in part.added})
            and not any(key in self.gone for key in part.vacuumed)
        )

    def fits(self, part: Part) -> bool:
        """Say whether a part may become the next entry: nothing is added twice, nothing is removed twice."""
        removed = set(part.removed)
        if not removed <= self.live.keys() or any(key in self.live for key in part.vacuumed):
            return False
        if any(each.key in self.live and each.key not in removed for each in part.added):
            return False
        return part.exact or all(self.over(each.spans) <= part.seen | removed for each in part.added)

    def encode(self) -> bytes:
        """Return the bytes of a checkpoint."""
        gone = [{"at": at, "object": each.shown()} for at, each in self.gone.values()]
        live = [each.shown() for each in self.live.values()]
        return _json({"sequence": self.sequence, "live": live, "removed": gone})


def state(body: bytes) -> State:
    """Read a checkpoint."""
    shown = json.loads(body)
    made = State(shown["sequence"])
    for each in shown["live"]:
        made._add(stored(each))  # noqa: SLF001 - its own module
    for each in shown["removed"]:
        known = stored(each["object"])
        made.gone[known.key] = (each["at"], known)
    return made


def _json(value: Any) -> bytes:
    return (json.dumps(value, separators=(",", ":")) + "\n").encode()
