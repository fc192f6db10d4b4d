"""The control record: the epoch with what it began with, in ``<pipeline>.control``.

A slot, server or topic that is not the recorded one means that offsets or history began anew: versions would go
backwards, so it is a conflict, never mended silently: ``tailrace epoch bump`` does that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailrace import epoch, topics
from tailrace.control import epochs
from tailrace.resource import Step
from tailrace.source import lineage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tailrace.control.epochs import Reason
    from tailrace.control.services import Services
    from tailrace.epoch import Epoch

KIND = "control record"


class ControlRecord:
    """The newest record of the control topic."""

    def __init__(self, services: Services) -> None:
        self._services, self._project = services, services.project

    def inspect(self) -> Step:
        """Compare the record with cluster, slot and server."""
        name = topics.control(self._project.name)
        recorded = epoch.read(self._services.admin, self._project.name)
        if recorded is None:
            return compare(name, None, self._now(None), epochs.names(self._project))
        seen = epochs.look(self._services, recorded)
        return compare(name, recorded, seen.now, epochs.names(self._project), epochs.reasons(seen))

    def apply(self) -> None:
        """Write the record; the epoch's number stays."""
        recorded = epoch.read(self._services.admin, self._project.name)
        epoch.write(self._project.endpoints.kafka, self._project.name, self._now(recorded))

    def _now(self, recorded: Epoch | None) -> Epoch:
        server = lineage.read(self._services.database, self._project.connector.slot)
        return epochs.present(self._services, server, recorded)


def compare(
    name: str, recorded: Epoch | None, now: Epoch, needed: Sequence[str], reasons: Sequence[Reason] = ()
) -> Step:
    """Return the step that the record calls for; soft reasons are for `check` and `status` to show."""
    if recorded is None:
        return Step(KIND, name, "create", (f"epoch {now.epoch}", f"slot {now.slot}"))
    wrong = [reason.said for reason in reasons if reason.hard]
    if wrong:
        return Step(KIND, name, "conflict", (*wrong, epoch.MEND))
    lines = [f"+ {topic}" for topic in needed if topic not in recorded.topics]
    lines += [f"- {topic}" for topic in recorded.topics if topic not in needed]
    if recorded.timeline != now.timeline:
        lines.append(f"timeline: {recorded.timeline or 'not recorded'} -> {now.timeline}")
    return Step(KIND, name, "change" if lines else "none", tuple(lines))
