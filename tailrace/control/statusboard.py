"""A status sample as people see it: the source in one line, workers, and the flows of every table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tailrace.control.status import SourceState, Status

STYLES = {"ready": "green", "starting": "yellow", "elsewhere": "cyan", "not running": "red"}


def board(status: Status) -> RenderableType:
    """Return everything of one sample."""
    return Group(source(status.source), workers(status), flows(status), *tables(status))


def source(state: SourceState) -> Text:
    """Return the source in one line, and below it what is wrong with it."""
    line = Text("source  ")
    line.append(state.connector, "green" if state.running else "red")
    slot = "active" if state.active else "not active"
    line.append(
        f" · slot {state.slot} {slot}, holds {size(state.retained_bytes)} of WAL ({state.wal_status or 'unknown'})"
    )
    line.append(f", {left(state)}" if state.wal_status else "")
    for said in state.ended:
        line.append(f"\n        epoch {state.epoch}: {said}: `tailrace epoch bump`", "red")
    return line.append(f"\n        {state.trouble}", "red") if state.trouble else line


def workers(status: Status) -> Table:
    """Return the workers as a table."""
    table = Table("worker", "kind", "state", "")
    table.add_column("parked", justify="right")
    for worker in status.workers:
        state = Text(worker.state, STYLES[worker.state])
        table.add_row(worker.name, worker.kind, state, Text(worker.detail, "dim"), alarming(worker.parked))
    return table


def flows(status: Status) -> Table:
    """Return every table on its way through every worker."""
    table = Table("worker", "table")
    for name in ("records/s", "behind", "lag s", "parked"):
        table.add_column(name, justify="right")
    last = ""
    for flow in status.flows:
        rate = "" if flow.rate is None else f"{flow.rate:,.0f}"
        shown = "" if flow.worker == last else flow.worker
        table.add_row(shown, flow.table, rate, f"{flow.behind:,}", f"{flow.lag_seconds:,.1f}", alarming(flow.parked))
        last = flow.worker
    return table


def tables(status: Status) -> list[Text]:
    """Return what is to know of single tables: those that are held, in red, and where columns are left out."""
    found = []
    for worker in status.workers:
        waiting = worker.held.values()
        found += [Text(f"{one.table} is held: {one.problem} {one.hint} ({one.why})", "red") for one in waiting]
        for topic, notes in worker.notes.items():
            table = next((flow.table for flow in status.flows if flow.topic == topic), topic)
            found += [Text(f"{table}: {note}", "dim") for note in notes]
    return found


def left(state: SourceState) -> str:
    """Say how long the slot lives: Postgres removes WAL beyond max_slot_wal_keep_size, and the slot is lost."""
    if state.limit_bytes is None:
        return "no limit set"
    if state.seconds_left is None:
        return f"of {size(state.limit_bytes)} at most"
    return f"of {size(state.limit_bytes)} at most: {duration(state.seconds_left)} left at the present rate"


def duration(seconds: float) -> str:
    """Return a time in a unit that people read."""
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.0f} s"


def alarming(count: int) -> Text:
    """Return a count, red where it is not 0."""
    return Text(f"{count:,}", "red" if count else "")


def size(count: int) -> str:
    """Return bytes in a unit that people read."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"
