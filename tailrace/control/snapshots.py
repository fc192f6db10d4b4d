"""``tailrace snapshot``: an incremental snapshot of some tables beside the stream, asked for by a signal and watched.

Debezium reads a table in chunks and merges each with the stream, so that a row's newest record stays the newest. It
keeps how far it is in its offset: a connector that restarts goes on. This command may therefore be left at any time
and run again; while one of the tables is being read it only watches, and no second snapshot is asked for.
"""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tailrace.connector import SIGNAL
from tailrace.control import epochs
from tailrace.crashpoint import Command, reach
from tailrace.deadline import Deadline, wait_for
from tailrace.errors import Refused, Unreachable, UsageError
from tailrace.source import signals
from tailrace.source.signals import COMPLETED, EVERY_ROW, INCREMENTAL, SCANNED, STARTED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tailrace.control.services import Services
    from tailrace.source.catalogue import Catalogue
    from tailrace.source.signals import Notice

EVERY = 0.5
BEGINS_WITHIN = 60.0
GOOD = ("SUCCEEDED", "EMPTY")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is: tables that are done, with their rows, chunks read so far, and what went wrong in which table."""

    tables: tuple[str, ...]
    done: dict[str, int]
    chunks: int
    wrong: dict[str, str]
    ended: bool

    @property
    def complete(self) -> bool:
        """Whether there is nothing left to wait for."""
        return self.ended or set(self.tables) <= {*self.done, *self.wrong}

    def as_dict(self) -> dict[str, Any]:
        """Return it for ``--json``."""
        return {**asdict(self), "complete": self.complete}


def progress(tables: Sequence[str], notices: Sequence[Notice], name: str) -> Progress:
    """Return how far the snapshot called ``name`` is, from the notifications since it was asked for."""
    mine = [each for each in notices if each.aggregate == INCREMENTAL and each.id == name]
    scanned = {_table(each): each for each in mine if each.type == SCANNED}
    done = {table: _rows(each) for table, each in scanned.items() if each.data.get("status") in GOOD}
    wrong = {table: each.data.get("status", "unknown") for table, each in scanned.items() if table not in done}
    chunks = sum(1 for each in mine if each.type == "IN_PROGRESS")
    return Progress(tuple(tables), done, chunks, wrong, any(each.type == COMPLETED for each in mine))


def _table(found: Notice) -> str:
    return found.data.get("scanned_collection") or found.data.get("data_collection", "")


def _rows(found: Notice) -> int:
    text = found.data.get("total_rows_scanned", "0")
    return int(text) if text.isdigit() else 0


def latest(notices: Sequence[Notice]) -> str:
    """Return the name of the incremental snapshot that began last."""
    return next((each.id for each in reversed(notices) if each.aggregate == INCREMENTAL and each.type == STARTED), "")


def check(services: Services, tables: Sequence[str]) -> None:
    """Raise UsageError or Refused where a snapshot of these tables cannot be asked for."""
    connector = services.project.connector
    unknown = [table for table in tables if table not in connector.tables]
    if unknown:
        raise UsageError(
            f"{', '.join(unknown)} is not captured.",
            detail=f"Captured: {', '.join(connector.tables)}.",
            hint=f"Add it to table.include.list in connectors/{connector.name}.json, then `tailrace apply`.",
        )
    ready(services, services.catalogue(), tables)


def ready(services: Services, seen: Catalogue, tables: Sequence[str]) -> None:
    """Raise Refused where the connector cannot take signals or a table cannot be read in chunks."""
    connector = services.project.connector
    config = services.connect.config(connector.name) or {}
    published = seen.publications.get(connector.publication)
    if config.get("signal.data.collection") != SIGNAL or published is None or SIGNAL not in published.tables:
        raise Refused(
            "The connector takes no signals.",
            detail=f"It needs signal.data.collection = {SIGNAL}, the table in table.include.list, and notifications.",
            hint=f"`tailrace check` names the settings of connectors/{connector.name}.json; then `tailrace apply`.",
        )
    keyless = [table for table in tables if table not in seen.tables or not seen.tables[table].distinct]
    if keyless:
        raise Refused(
            f"{', '.join(keyless)} has no key that tells its rows apart.",
            hint="Chunks are read in the order of the key.",
        )
    status = services.connect.status(connector.name)
    if status is None or not status.running:
        shown = "it does not exist" if status is None else status.trace or status.shown
        raise Refused(f"The connector {connector.name} does not run.", detail=shown, hint="Run `tailrace apply`.")


class Snapshot:
    """One incremental snapshot, begun or found running; ``filters`` (SQL, by table) limit the rows that are read."""

    def __init__(self, services: Services, tables: Sequence[str], filters: Mapping[str, str] = EVERY_ROW) -> None:
        self._services, self.tables, self._filters = services, tuple(tables), filters
        self._topic = services.project.connector.notifications
        self._since, self.name = 0, ""

    def begin(self) -> bool:
        """Ask for it, and return True; False where one of these tables is being read already: it is watched then."""
        check(self._services, self.tables)
        running = signals.running(self._services.connect.offsets(self._services.project.connector.name))
        if set(self.tables) & set(running):
            self.name = latest(epochs.notices(self._services.admin, self._topic, 0))
            self.tables = running
            return False
        self._since = self._services.admin.ends([self._topic]).get((self._topic, 0), 0)
        self.name = f"tailrace-{secrets.token_hex(8)}"
        signals.send(self._services.database, self.name, signals.EXECUTE, self.tables, self._filters)
        reach(Command.SNAPSHOT_SIGNALLED)
        wait_for(
            self._heard,
            timeout=BEGINS_WITHIN,
            every=EVERY,
            what="the connector to begin the snapshot",
            hint="Does it run, and is the heartbeat moving? `tailrace status`",
        )
        return True

    def progress(self) -> Progress:
        """Look how far it is."""
        return progress(self.tables, epochs.notices(self._services.admin, self._topic, self._since), self.name)

    def wait(self, say: Callable[[Progress], None], *, timeout: float) -> Progress:
        """Watch it to its end; Unreachable at the deadline, the snapshot itself goes on."""
        deadline = Deadline.after(timeout)

        def ended() -> Progress | None:
            seen = self.progress()
            say(seen)
            self._check()
            return seen if seen.complete else None

        found = wait_for(
            ended,
            timeout=deadline.remaining(),
            every=EVERY,
            what="the snapshot to be complete",
            hint="It goes on by itself; run the same command again to watch it.",
        )
        if found.wrong:
            said = ", ".join(f"{table}: {status}" for table, status in sorted(found.wrong.items()))
            raise Unreachable("The snapshot could not read every table.", detail=said)
        return found

    def _heard(self) -> bool:
        self._check()
        notices = epochs.notices(self._services.admin, self._topic, self._since)
        return any(each.aggregate == INCREMENTAL and each.id == self.name for each in notices)

    def _check(self) -> None:
        """Raise Unreachable when the connector has failed; a restart is waited for."""
        status = self._services.connect.status(self._services.project.connector.name)
        if status is not None and status.failed:
            raise Unreachable(
                "The connector has failed.",
                detail=status.trace or status.shown,
                hint="Mend the cause, run `tailrace apply`: the snapshot goes on where it was.",
            )
