"""Which dead letters are meant: by place, reason, stage, topic and age. Pure."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from tailrace import topics
from tailrace.errors import UsageError

if TYPE_CHECKING:
    from tailrace.control.dlq.letters import Parked
    from tailrace.deadletter import Spot
    from tailrace.project import Project

_AGO = re.compile(r"(\d+)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, slots=True)
class Selection:
    """Dead letters of one worker: those for which everything that is said here holds.

    ``reason`` is a part of theirs, in any case. ``topics`` are the source topics; none means all. ``since_us`` bounds
    the last failure from below.
    """

    place: Spot | None = None
    reason: str = ""
    stage: str = ""
    topics: frozenset[str] = frozenset()
    since_us: int = 0

    @property
    def bounded(self) -> bool:
        """Whether it leaves anything out."""
        return self != EVERYTHING

    def takes(self, parked: Parked) -> bool:
        """Say whether a letter is meant."""
        letter = parked.letter
        return (
            (self.place is None or self.place in parked.places)
            and self.reason.lower() in letter.reason.lower()
            and self.stage in ("", letter.stage)
            and (not self.topics or letter.place[0] in self.topics)
            and letter.failed_us >= self.since_us
        )


EVERYTHING = Selection()


def sources(project: Project, record: str, topic: str) -> frozenset[str]:
    """Return the source topics that a record and a topic name stand for; UsageError for an unknown record."""
    found = {topic} if topic else set()
    if record:
        by_record = {project.record_of(table): table for table in project.tables}
        if record not in by_record:
            raise UsageError(f"There is no record {record}.", hint=f"Known: {', '.join(by_record)}.")
        found |= {topics.conformed(project.name, record), topics.raw(project.name, by_record[record])}
    return frozenset(found)


def parse_since(text: str) -> int:
    """Return the microseconds of an ISO time, or of so long ago (90s, 30m, 2h, 7d); UsageError for others."""
    ago = _AGO.fullmatch(text)
    if ago:
        past = timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        return int((time.time() - past.total_seconds()) * 1e6)
    try:
        return int(datetime.fromisoformat(text).astimezone().timestamp() * 1e6)
    except ValueError as error:
        raise UsageError(f"{text!r} is no time.", hint="Write it like 2h, 7d or 2026-03-01T12:00:00Z.") from error
