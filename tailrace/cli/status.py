"""``tailrace status``: where the pipeline is, once or live."""

from __future__ import annotations

import threading
from pathlib import Path

import click
from rich.live import Live

from tailrace import project
from tailrace.cli.context import json_option, out, print_json, project_option
from tailrace.control.status import Monitor
from tailrace.control.statusboard import board

EVERY = 1.0


@click.command()
@project_option
@json_option
@click.option("--watch", is_flag=True, help="Go on until Ctrl-C, one sample a second.")
def status(folder: Path, *, as_json: bool, watch: bool) -> int:
    """Show source, workers, and per table and worker: records/s, records and seconds behind, parked records.

    Exit 1 when a table is held: it waits for its contract (docs/evolution.md).
    """
    pause = threading.Event()
    with Monitor(project.load(folder)) as monitor:
        monitor.sample()
        pause.wait(EVERY)  # rates need two samples
        sample = monitor.sample()
        if as_json:
            print_json(sample.as_dict())
        elif not watch:
            out.print(board(sample))
        else:
            with Live(board(sample), console=out, auto_refresh=False, screen=out.is_terminal) as live:
                while not pause.wait(EVERY):
                    live.update(board(monitor.sample()), refresh=True)
    return 1 if sample.held else 0
