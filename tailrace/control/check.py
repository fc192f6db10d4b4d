"""``tailrace check``: what would go wrong, before anything runs, with the SQL or the edit that mends it.

``judge`` is pure: project files and one picture of the catalogue in, findings out, errors first. ``check`` takes the
picture. Connect is asked one question, and only when the slot is already there or something was streamed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailrace.control.checks import contracts, server, settings, sinks, tables
from tailrace.control.services import Services
from tailrace.errors import Unreachable

if TYPE_CHECKING:
    from tailrace.control.checks.finding import Finding
    from tailrace.project import Project
    from tailrace.source.catalogue import Catalogue

ORDER = ("error", "warning", "note")


def judge(project: Project, seen: Catalogue, *, streamed: bool | None = False) -> list[Finding]:
    """Return every finding, errors first; ``streamed`` as tailrace.control.checks.server takes it."""
    found = [
        *server.check(project.connector, seen, streamed=streamed),
        *settings.check(project.connector),
        *tables.check(project, seen),
        *contracts.check(project, seen),
        *sinks.check(project, seen),
    ]
    return sorted(found, key=lambda finding: ORDER.index(finding.severity))


def check(project: Project) -> list[Finding]:
    """Read the catalogue, ask Connect for its offset, and judge."""
    with Services(project) as services:
        seen = services.catalogue()
        return judge(project, seen, streamed=_streamed(services))


def _streamed(services: Services) -> bool | None:
    """Say whether Connect holds an offset of the connector; None when Connect does not answer."""
    try:
        return bool(services.connect.offsets(services.project.connector.name))
    except Unreachable:
        return None  # a check of source and files must not need a running Connect; the finding on the slot says so
