"""The control record: the epoch with what it began with, in ``<pipeline>.control``.

A slot, server or topic that is not the recorded one means that offsets or history began anew: versions would go
backwards, so it is a conflict, never mended silently.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailrace import epoch, topics
from tailrace.resource import Step

if TYPE_CHECKING:
    from tailrace.control.services import Services
    from tailrace.epoch import Epoch

KIND = "control record"
WAY_OUT = "a new life needs fresh topics and stores: remove the old ones and the control topic, then apply again"


class ControlRecord:
    """The newest record of the control topic."""

    def __init__(self, services: Services) -> None:
        self._services, self._project = services, services.project
        pipeline = self._project.name
        captured = [topics.raw(pipeline, table) for table in (*self._project.connector.tables, "tailrace.heartbeat")]
        records = dict.fromkeys(self._project.record_of(table) for table in self._project.connector.tables)
        self._names = [*captured, *(topics.conformed(pipeline, record) for record in records)]

    def inspect(self) -> Step:
        """Compare the record with cluster, slot and server."""
        name = topics.control(self._project.name)
        recorded = epoch.read(self._services.admin, self._project.name)
        now = self._now(1 if recorded is None else recorded.epoch)
        lost = recorded is not None and self._slot_lost()
        return compare(name, recorded, now, self._names, slot_lost=lost)

    def apply(self) -> None:
        """Write the record; the epoch's number stays."""
        recorded = epoch.read(self._services.admin, self._project.name)
        now = self._now(1 if recorded is None else recorded.epoch)
        epoch.write(self._project.endpoints.kafka, self._project.name, now)

    def _now(self, number: int) -> Epoch:
        admin, seen = self._services.admin, self._services.catalogue()
        counts = admin.partitions()
        there = [name for name in self._names if name in counts]
        return epoch.Epoch(
            epoch=number,
            slot=self._project.connector.slot,
            system_identifier=seen.system_identifier,
            topics=admin.topic_ids(there) if there else {},
            partitions={name: counts[name] for name in there},
        )

    def _slot_lost(self) -> bool:
        """Say whether something was streamed before, from a slot that is not there any more."""
        if self._project.connector.slot in self._services.catalogue().slots:
            return False
        offsets = self._services.connect.offsets(self._project.connector.name)
        return bool(offsets) or any(self._services.admin.ends(self._names).values())


def compare(name: str, recorded: Epoch | None, now: Epoch, needed: list[str], *, slot_lost: bool) -> Step:
    """Return the step that the record calls for."""
    if recorded is None:
        return Step(KIND, name, "create", (f"epoch {now.epoch}", f"slot {now.slot}"))
    wrong = []
    if recorded.slot != now.slot:
        wrong.append(f"slot: {recorded.slot} -> {now.slot}")
    if recorded.system_identifier != now.system_identifier:
        wrong.append("the Postgres server is another one than this epoch began with (its system identifier differs)")
    if slot_lost:
        wrong.append(f"the slot {now.slot} is gone, and with it every change since it was dropped")
    kept = [line for line in recorded.differences(now.topics, now.partitions) if line.split(" ", 1)[0] in needed]
    wrong += kept
    if wrong:
        return Step(KIND, name, "conflict", (*wrong, WAY_OUT))
    lines = [f"+ {topic}" for topic in needed if topic not in recorded.topics]
    lines += [f"- {topic}" for topic in recorded.topics if topic not in needed]
    return Step(KIND, name, "change" if lines else "none", tuple(lines))
