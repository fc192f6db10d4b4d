"""``tailrace run``: a processor, a sink worker, or all of them under a supervisor."""

from __future__ import annotations

import os
import signal
import sys
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
import structlog

from tailrace import logs, membership, project, topics
from tailrace.cli.context import err, project_option
from tailrace.endpoints import STATE_FOLDER
from tailrace.errors import Unreachable, UsageError
from tailrace.supervisor import Child, Supervisor

if TYPE_CHECKING:
    from collections.abc import Mapping

log = structlog.get_logger()

port_option = click.option(
    "--health-port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default="a free one",
    help="Port of /live, /ready, /metrics.",
)
verbose_option = click.option("--verbose", is_flag=True, help="Log every batch.")


@click.group()
def run() -> None:
    """Run workers in the foreground until SIGTERM or Ctrl-C.

    A worker that fails exits with 70 and leaves its offsets where they are: start it again and nothing is lost.
    """


@run.command()
@click.argument("name")
@project_option
@port_option
@verbose_option
def processor(name: str, folder: Path, health_port: int, *, verbose: bool) -> int:
    """Run the processor NAME (a module in processors/; `conform` always exists)."""
    from tailrace.stream.processor import run as work  # noqa: PLC0415 - Faust is slow to import

    logs.configure(verbose=verbose)
    return work(project.load(folder), name, health_port=health_port)


@run.command()
@click.argument("name")
@project_option
@port_option
@verbose_option
def sink(name: str, folder: Path, health_port: int, *, verbose: bool) -> int:
    """Run the sink worker NAME (a module in sinks/)."""
    from tailrace.sink.worker import run as work  # noqa: PLC0415 - only this command needs the stores

    logs.configure(verbose=verbose)
    return work(project.load(folder), name, health_port=health_port)


@run.command("all")
@project_option
@click.option("--only", multiple=True, metavar="NAME", help="Run only these workers; may be given several times.")
def run_all(folder: Path, only: tuple[str, ...]) -> None:
    """Run every processor and sink of the project as child processes, restarting those that fail.

    Their output goes to .tailrace/logs/NAME.log.
    """
    loaded = project.load(folder)
    names = loaded.workers
    unknown = sorted(set(only) - set(names))
    if unknown:
        raise UsageError(f"There is no worker {', '.join(unknown)}.", hint=f"Known: {', '.join(names)}.")
    with membership.claimed(loaded.folder) as instance:
        named = bool(os.environ.get(membership.INSTANCE))  # by the user, who knows better
        environment = {membership.INSTANCE: instance} if instance and not named else {}
        supervisor = Supervisor(
            folder=loaded.folder,
            children=[
                child(loaded.folder, name, kind, environment)
                for name, kind in names.items()
                if not only or name in only
            ],
            report=err.print,
            parted=partial(let_go, loaded),
        )
        stop_on_signals(supervisor.stop)
        logs.configure()
        supervisor.run()


def child(folder: Path, name: str, kind: str, environment: Mapping[str, str]) -> Child:
    """Return one worker as a child of the supervisor."""
    command = [sys.executable, "-m", "tailrace", "run", kind, name, "--project", str(folder)]
    log_path = folder / STATE_FOLDER / "logs" / f"{name}.log"
    return Child(name=name, command=command, log_path=log_path, environment=environment)


def let_go(loaded: project.Project, stopped: Child) -> None:
    """Take a worker that stopped as asked out of its group; where Kafka is away its session runs out."""
    name = membership.member(stopped.name, stopped.environment)
    if name is None:
        return
    from tailrace.control.leaving import leave  # noqa: PLC0415 - only here, and slow to import

    try:
        leave(loaded.endpoints.kafka, topics.group(loaded.name, stopped.name), name)
    except Unreachable as error:
        log.warning("a worker that stopped stays a member for a while", worker=stopped.name, reason=str(error))


def stop_on_signals(stop: threading.Event) -> None:
    """Set ``stop`` on SIGTERM and SIGINT, so that a worker ends in its own time."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
