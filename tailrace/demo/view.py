"""What the demo shows: the live table, the look-ups, the latencies, and where to go on from here."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from tailrace.control.status import Monitor
from tailrace.control.statusboard import board
from tailrace.deadline import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from rich.console import Console, RenderableType

    from tailrace.control.status import Status
    from tailrace.demo.lookups import LookUp
    from tailrace.demo.probe import Latencies
    from tailrace.project import Project

REFRESH, LINE_EVERY = 1.0, 5.0  # seconds between two samples, on a terminal and elsewhere


def watch(project: Project, console: Console, seconds: float, checks: Sequence[Callable[[], None]]) -> None:
    """Show the pipeline for so many seconds, live on a terminal, as lines elsewhere; raise what a check raises."""
    deadline, pause = Deadline.after(seconds), threading.Event()
    terminal = console.is_terminal
    every = REFRESH if terminal else LINE_EVERY
    with Monitor(project) as monitor, Live(console=console, auto_refresh=False, transient=True) as live:
        while not deadline.passed():
            for check in checks:
                check()
            status = monitor.sample()
            if terminal:
                live.update(Group(board(status), remaining(deadline)), refresh=True)
            else:
                console.print(f"          {line(status)}", style="dim", highlight=False)
            pause.wait(min(every, deadline.remaining()))


def remaining(deadline: Deadline) -> Text:
    """Return how long the live view goes on."""
    return Text(f"live traffic, {deadline.remaining():.0f} s to go; Ctrl-C stops everything", style="dim")


def line(status: Status) -> str:
    """Return one sample as one line: for every worker its rate and its largest lag."""
    parts = []
    for worker in status.workers:
        flows = [flow for flow in status.flows if flow.worker == worker.name]
        rate = sum(flow.rate or 0.0 for flow in flows)
        lag = max((flow.lag_seconds for flow in flows), default=0.0)
        parked = f", {worker.parked} parked" if worker.parked else ""
        parts.append(f"{worker.name} {rate:,.0f}/s lag {lag:.1f} s{parked}")
    return " · ".join(parts)


def look_up(found: LookUp) -> RenderableType:
    """Return one look-up as a box: the request, then the answer."""
    return Panel(
        Group(Text(found.request, style="yellow"), *(Text(f"  {line}") for line in found.answer)),
        title=escape(found.question),
        title_align="left",
    )


def latencies(found: Sequence[Latencies]) -> RenderableType:
    """Return the table of the measured latencies, with a line on how they were measured."""
    table = Table(title="from commit in Postgres to visible in the store", title_justify="left")
    for name in ("store", "n", "p50", "p99", "not seen"):
        table.add_column(name, justify="left" if name == "store" else "right")
    for entry in found:
        shown = (f"{entry.percentile(share):.2f} s" if entry.seconds else "-" for share in (0.5, 0.99))
        table.add_row(entry.store, str(len(entry.seconds)), *shown, str(entry.missed))
    how = (
        "measured from outside, on this traffic: a probe row is changed four times a second, and each store is asked\n"
        "by its own client (GetItem every 30 ms, a search every 0.1 s, new Parquet objects every 0.15 s) until it shows"
    )
    return Group(table, Text(how, style="dim"))


def next_steps(project: Project, folder: Path) -> RenderableType:
    """Return the addresses and what to try next, for a stack that goes on."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, address in project.endpoints.public().items():
        table.add_row(f"  {name}", address)
    place = "" if folder.resolve() == folder.cwd() else f" --project {folder}"
    steps = (
        ("tailrace status", "lag, rates and parked records, live"),
        ("tailrace demo traffic --seconds 60", "more traffic"),
        ("tailrace verify", "the proof again, also under traffic"),
        ("tailrace replay sink search --to beginning", "write everything again; the guard makes it harmless"),
        ("tailrace demo stop", "stop all of it"),
    )
    lines = "\n".join(f"  {command + place:<48} {what}" for command, what in steps)
    return Group(Text("Everything goes on running. Addresses:"), table, Text("Next:"), Text(lines))
