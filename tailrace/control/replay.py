"""Replay, first form: a worker's group is set back, and the worker reads again; versions make that harmless.

``plan`` only reads: it says which offsets would be set and what that costs. ``execute`` halts the worker
(tailrace.control.halt), sets the offsets and lets go. It never sets an offset forward, because that would skip records,
and never touches a group with members elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tailrace import topics
from tailrace.control.halt import halted
from tailrace.errors import Refused, UsageError
from tailrace.targets import LakeTable, RawLakeTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from tailrace.kafka import KafkaAdmin, Offsets, Place
    from tailrace.project import Project


@dataclass(frozen=True)
class Plan:
    """What a replay would do: offsets to set, records to read again by topic, and what people should know first."""

    kind: str
    worker: str
    group: str
    offsets: Mapping[Place, int]
    again: Mapping[str, int]
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def total(self) -> int:
        """How many records are read again."""
        return sum(self.again.values())

    def as_dict(self) -> dict[str, Any]:
        """Return the plan for ``--json``."""
        places = {f"{topic}/{partition}": offset for (topic, partition), offset in sorted(self.offsets.items())}
        shown: dict[str, Any] = {"kind": self.kind, "worker": self.worker, "group": self.group, "offsets": places}
        return {**shown, "again": dict(self.again), "total": self.total, "notes": list(self.notes)}


@dataclass(frozen=True, slots=True)
class Positions:
    """Where a group and its topics stand: oldest kept offset, end, and committed offset (negative: none)."""

    starts: Mapping[Place, int]
    ends: Mapping[Place, int]
    committed: Mapping[Place, int]

    def current(self, place: Place) -> int:
        """Return the offset that the group reads next."""
        committed = self.committed.get(place, -1)
        return committed if committed >= 0 else self.starts[place]


def inputs(project: Project, kind: str, name: str) -> list[str]:
    """Return the topics that a worker reads."""
    if kind == "processor":
        return [topics.raw(project.name, table) for table in project.tables_of(name)]
    return list(project.topics_of(name))


def positions(project: Project, admin: KafkaAdmin, kind: str, name: str) -> Positions:
    """Read where a worker's group stands."""
    names = inputs(project, kind, name)
    found = Positions(admin.starts(names), admin.ends(names), admin.committed(topics.group(project.name, name), names))
    if not found.ends:
        raise Refused(f"The topics of the {kind} {name} do not exist.", hint="Run `tailrace apply`.")
    return found


def to_beginning(at: Positions) -> Offsets:
    """Return the oldest offsets that are kept."""
    return dict(at.starts)


def to_time(at: Positions, admin: KafkaAdmin, moment: datetime) -> Offsets:
    """Return the first offsets at or after a moment; where that would go forward, the present position stays."""
    found = admin.at_time({topic for topic, _ in at.ends}, int(moment.timestamp() * 1000))
    return {place: offset for place, offset in found.items() if 0 <= offset < at.current(place)}


def to_offsets(at: Positions, wanted: Mapping[Place, int]) -> Offsets:
    """Return given offsets, or raise UsageError or Refused where one cannot be read or would skip records."""
    for (topic, partition), offset in wanted.items():
        place = topic, partition
        if place not in at.ends:
            known = ", ".join(f"{name}/{number}" for name, number in sorted(at.ends))
            raise UsageError(f"The worker does not read {topic}/{partition}.", hint=f"It reads {known}.")
        if not at.starts[place] <= offset <= at.ends[place]:
            raise UsageError(
                f"{topic}/{partition} does not hold the offset {offset}.",
                detail=f"It holds {at.starts[place]} to {at.ends[place]}.",
            )
        if offset > at.current(place):
            raise Refused(
                f"Setting {topic}/{partition} forward would skip records.",
                detail=f"The worker is at {at.current(place)}, {offset} was asked for.",
                hint="A replay only goes back; a record that cannot be processed is parked by the worker itself.",
            )
    return dict(wanted)


def plan(project: Project, kind: str, name: str, at: Positions, offsets: Offsets) -> Plan:
    """Say what setting these offsets would do."""
    again: dict[str, int] = {}
    for place, offset in offsets.items():
        again[place[0]] = again.get(place[0], 0) + max(0, at.current(place) - offset)
    notes = _notes(project, kind, name, at, offsets)
    return Plan(kind, name, topics.group(project.name, name), offsets, again, tuple(notes))


def _notes(project: Project, kind: str, name: str, at: Positions, offsets: Offsets) -> Iterator[str]:
    """Yield what people should know before they say yes."""
    if kind == "processor":
        yield "What it writes again goes through every sink again; versions make that a no-op there."
        trimmed = sorted({topic for (topic, number) in offsets if at.starts[topic, number] > 0})
        if trimmed:
            yield f"Older records are gone by retention: {', '.join(trimmed)} no longer begin at 0."
    elif any(isinstance(target, LakeTable | RawLakeTable) for target in project.sink(name)):
        yield (
            "The lake keeps every change that it has. From these offsets on, changes are added that its log does not"
            " name, or whose objects are gone from the bucket, as far as the topics still hold them."
        )


def execute(project: Project, admin: KafkaAdmin, planned: Plan, *, say: Callable[[str], None]) -> bool:
    """Set the offsets; return whether somebody starts the worker again by itself."""
    with halted(project, admin, [planned.worker], say) as resting:
        admin.rewind(planned.group, planned.offsets)
        say(f"{len(planned.offsets)} offsets set, {planned.total:,} records to read again")
    return planned.worker not in resting
