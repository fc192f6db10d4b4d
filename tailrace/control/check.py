"""``tailrace check``: what would go wrong, before anything runs, with the SQL or the edit that mends it.

``judge`` is pure: project files and one picture of the catalogue in, findings out, errors first. ``check`` takes the
picture. A check of source and files needs no running Kafka or Connect: what they did not say is a finding of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tailrace import topics
from tailrace.control import epochs, standing
from tailrace.control.checks import contracts, keys, names, outbox, server, settings, sinks, tables, truncate
from tailrace.control.checks import epochs as epoch_checks
from tailrace.control.epochs import Verdict
from tailrace.control.resources import truncate as triggers
from tailrace.control.services import Services
from tailrace.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tailrace.control.checks.finding import Finding
    from tailrace.project import Project
    from tailrace.source.catalogue import Catalogue
    from tailrace.source.truncation import Picture

NONE = Verdict()  # nothing was applied yet
ORDER = ("error", "warning", "note")


def judge(
    project: Project,
    seen: Catalogue,
    *,
    streamed: bool | None = False,
    verdict: Verdict | None = NONE,
    truncation: Picture | None = None,
) -> list[Finding]:
    """Return every finding, errors first.

    ``streamed``, ``verdict`` and ``truncation`` are as checks.server, checks.epochs and checks.truncate take them.
    """
    found = [
        *server.check(project.connector, seen, streamed=streamed),
        *settings.check(project.connector),
        *names.check(project, seen),
        *keys.check(project, seen),
        *tables.check(project, seen),
        *contracts.check(project, seen),
        *sinks.check(project, seen),
        *outbox.check(project, seen),
        *truncate.check(project, truncation),
        *epoch_checks.check(verdict),
    ]
    return sorted(found, key=lambda finding: ORDER.index(finding.severity))


def check(project: Project) -> list[Finding]:
    """Read the catalogue, ask Connect for its offset, and judge."""
    with Services(project) as services:
        seen = services.catalogue()
        truncation = triggers.look(services)
        found = judge(
            project, seen, streamed=_streamed(services, seen), verdict=_verdict(services), truncation=truncation
        )
        ahead = standing.ahead(project, _registered(services))
    return sorted([*found, *ahead], key=lambda finding: ORDER.index(finding.severity))


def _registered(services: Services) -> dict[str, Mapping[str, Any]]:
    """Return the newest registered schema of each contract; nothing when the registry does not answer."""
    project = services.project
    found: dict[str, Mapping[str, Any]] = {}
    try:
        for record in [project.record_of(table) for table in project.tables]:
            newest = services.registry.latest(topics.conformed(project.name, record))
            if newest is not None and record in project.contracts:
                found[record] = newest[1]
    except Unreachable:
        return {}  # as with Connect: a check of source and files must not need a running registry
    return found


def _verdict(services: Services) -> Verdict | None:
    """Judge the recorded epoch; None when Kafka or Connect does not answer."""
    try:
        return epochs.judge(services)
    except Unreachable:
        return None


def _streamed(services: Services, seen: Catalogue) -> bool | None:
    """Say whether the connector has streamed; None when Connect does not answer.

    Connect commits the first offset some seconds after the start: until then a slot in use is that of the connector
    that runs.
    """
    connector = services.project.connector
    slot = seen.slots.get(connector.slot)
    try:
        if services.connect.offsets(connector.name):
            return True
        status = services.connect.status(connector.name) if slot is not None and slot.active else None
    except Unreachable:
        return None  # a check of source and files must not need a running Connect; the finding on the slot says so
    return status is not None and status.running
