"""A sweep inside an epoch, between changes in every order: it takes every row that vanished, and never a living one."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tailrace import version
from tailrace.control.records import Answer, Seen, candidates
from tailrace.control.vanished import NEVER, absent, unchanged

KEYS = (b"a", b"b")
STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "put", "delete", "vanish", "show", "pump", "process"]), st.sampled_from(KEYS)),
    max_size=6,
)


class Event(NamedTuple):
    """What the stream carries: the row's number, or None for a delete."""

    key: bytes
    row: int | None
    tx: str


class World:
    """A table, its stream and the conformed topic of one partition; a commit is in the stream before it is seen."""

    def __init__(self) -> None:
        self.table: dict[bytes, int] = {}
        self.hidden: dict[bytes, Event] = {}
        self.pending: list[Event] = []
        self.raw: list[Event | None] = []  # None is a marker
        self.conformed: list[tuple[Seen, int | None]] = []
        self.processed, self.ids, self.shown = 0, 100, {100}

    def step(self, kind: str, key: bytes) -> None:
        if kind in ("put", "delete", "vanish"):
            self.show(key)  # who changes a row waits for the transaction that changed it before
        if kind == "put" or (kind == "delete" and key in self.table):
            self.ids += 1
            self.hidden[key] = Event(key, self.ids if kind == "put" else None, str(self.ids))
            self.pending.append(self.hidden[key])
        elif kind == "vanish":
            self.table.pop(key, None)
        elif kind == "show":
            self.show(key)
        elif kind == "pump" and self.pending:
            self.raw.append(self.pending.pop(0))
        elif kind == "process" and self.processed < len(self.raw):
            self.process(self.processed + 1)

    def show(self, key: bytes) -> None:
        event = self.hidden.pop(key, None)
        if event is not None:
            self.shown.add(int(event.tx))
            self.table.pop(key, None)
            if event.row is not None:
                self.table[key] = event.row

    def process(self, end: int) -> None:
        for offset in range(self.processed, end):
            event = self.raw[offset]
            if event is not None:
                self.write(event.key, version.pack(1, offset), event.row, event.tx)
        self.processed = max(self.processed, end)

    def write(self, key: bytes, number: int, row: int | None, tx: str) -> None:
        self.conformed.append((Seen(key, len(self.conformed), number, row is None, tx), row))

    def arrive(self) -> None:
        """Let everything committed so far be conformed."""
        self.raw += self.pending
        self.pending.clear()
        self.process(len(self.raw))

    def snapshot(self) -> int:
        """Read every row beside the stream; return the version from which on a row was there."""
        for key in KEYS:
            self.show(key)
        self.raw += self.pending  # what was committed before has to be in Kafka, or it looks as if it was there
        self.pending.clear()
        since = version.pack(1, len(self.raw))
        self.pending += [Event(key, row, "") for key, row in self.table.items()]
        return since

    def seen(self, start: int = 0) -> list[Seen]:
        return [seen for seen, _ in self.conformed[start:]]

    def store(self) -> dict[bytes, int]:
        """Return what a store ends with, which keeps the newest version of each key."""
        newest: dict[bytes, tuple[int, int | None]] = {}
        for seen, row in self.conformed:
            if seen.version >= newest.get(seen.key, (-1, None))[0]:
                newest[seen.key] = seen.version, row
        return {key: row for key, (_, row) in newest.items() if row is not None}


@settings(max_examples=300, deadline=None)
@given(st.tuples(STEPS, STEPS, STEPS, STEPS, STEPS, STEPS), st.booleans())
@example(([("put", b"a")], [], [], [], [], []), False)  # in Kafka, not yet seen by others
@example(([("put", b"a"), ("vanish", b"a")], [], [], [("put", b"a"), ("pump", b"a")], [], []), False)
def test_a_sweep_takes_what_vanished_before_it_and_nothing_that_lives(
    parts: tuple[list[tuple[str, bytes]], ...], renewed: bool
) -> None:
    world = World()

    def go(steps: list[tuple[str, bytes]]) -> None:
        for step in steps:
            world.step(*step)

    go(parts[0])
    below = world.snapshot() if renewed else NEVER
    go(parts[1])
    living = {key for key in KEYS if key in world.table or key in world.hidden}
    world.arrive()
    read_to = len(world.conformed)
    suspects, _ = candidates(world.seen(), below)
    go(parts[2])
    upper = max(world.shown) + 1
    running = ",".join(event.tx for event in world.hidden.values() if int(event.tx) < upper)
    answer = Answer(frozenset(world.table), f"1:{upper}:{running}")
    gone = absent(suspects, [(list(suspects), answer)])
    go(parts[3])
    world.raw.append(None)
    marker = len(world.raw) - 1
    go(parts[4])
    world.process(marker + 1)
    for key in unchanged(gone, world.seen(read_to)):
        world.write(key, version.pack(1, marker), None, "sweep")
    go(parts[5])
    for key in KEYS:
        world.show(key)
    world.arrive()

    left = world.store()
    assert {key: left.get(key) for key in world.table} == world.table
    touched = {key for steps in parts[2:] for kind, key in steps if kind in ("put", "vanish")}
    vanished = set(KEYS) - living - touched
    if not renewed or not any(kind == "vanish" for kind, _ in parts[1]):
        assert not vanished & set(left)
