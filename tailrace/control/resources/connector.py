"""The connector in Kafka Connect: its config is the file's, and it runs.

``apply`` returns when connector and task run and the slot exists: from then on Postgres keeps every change for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailrace.deadline import Deadline, wait_for
from tailrace.resource import Step
from tailrace.source import unchanged
from tailrace.source.connect import masked

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tailrace.control.services import Services
    from tailrace.source.connect import Status

KIND = "connector"
PATIENCE = 90.0
PLACEHOLDER = (
    f"{unchanged.SETTING} differs from the running connector's: records that are in Kafka would be misread; keep what"
    " it has, or remove connector and raw topics first"
)


class ConnectorResource:
    """connectors/NAME.json as it stands in Connect."""

    def __init__(self, services: Services) -> None:
        self._services, self._connector = services, services.project.connector

    def inspect(self) -> Step:
        """Compare config and state."""
        name = self._connector.name
        found = self._services.connect.config(name)
        return compare(name, self._connector.config, found, self._services.connect.status(name))

    def apply(self) -> None:
        """Put the config, start what does not run, and wait until it does."""
        name, connect = self._connector.name, self._services.connect
        deadline = Deadline.after(PATIENCE)
        before, found = connect.status(name), connect.config(name)
        if found is None:
            self._create(name)
        elif found != {"name": name, **self._connector.config}:
            connect.put(name, self._connector.config)
        if before is not None and before.connector in ("STOPPED", "PAUSED"):
            connect.resume(name)
        if before is not None and before.failed:
            connect.restart(name)
            self._wait_restarted(name, deadline)
        connect.wait_running(name, timeout=deadline.remaining())
        wait_for(self._slot, timeout=deadline.remaining(), every=0.25, what=f"the slot {self._connector.slot}")

    def _create(self, name: str) -> None:
        """Create it; an offset left by an earlier connector of this name counts only with the slot it belongs to."""
        connect = self._services.connect
        connect.create_stopped(name, self._connector.config)
        if connect.offsets(name) and self._connector.slot not in self._services.catalogue().slots:
            connect.reset_offsets(name)
        connect.resume(name)

    def _wait_restarted(self, name: str, deadline: Deadline) -> None:
        """Give the old failure time to disappear; a new one is for wait_running to tell."""
        settled = Deadline.after(5)

        def fresh() -> bool:
            status = self._services.connect.status(name)
            return settled.passed() or (status is not None and not status.failed)

        wait_for(fresh, timeout=deadline.remaining(), every=0.1, what=f"the connector {name} to restart")

    def _slot(self) -> bool:
        """Say whether the slot exists; a task that failed meanwhile raises."""
        self._services.connect.wait_running(self._connector.name, timeout=PATIENCE)
        return self._connector.slot in self._services.catalogue().slots


def compare(name: str, wanted: Mapping[str, str], found: Mapping[str, str] | None, status: Status | None) -> Step:
    """Return the step that Connect's answer calls for; secrets are masked."""
    if found is None:
        return Step(KIND, name, "create", tuple(f"{key} = {masked(key, value)}" for key, value in wanted.items()))
    if found.get(unchanged.SETTING, unchanged.DEFAULT) != wanted.get(unchanged.SETTING, unchanged.DEFAULT):
        return Step(KIND, name, "conflict", (PLACEHOLDER,))
    keys = [key for key in {**wanted, **found} if key != "name" and wanted.get(key) != found.get(key)]
    lines = [f"{key}: {_shown(key, found.get(key))} -> {_shown(key, wanted.get(key))}" for key in sorted(keys)]
    if status is not None and not status.running and status.connector != "UNASSIGNED":
        lines.append(f"state: {status.shown} -> RUNNING" + (f" ({status.trace})" if status.trace else ""))
    return Step(KIND, name, "change" if lines else "none", tuple(lines))


def _shown(key: str, value: str | None) -> str:
    return "(unset)" if value is None else masked(key, value)
