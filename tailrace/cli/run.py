"""``tailrace run``: a processor, a sink worker, or all of them under a supervisor."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

import click

from tailrace import logs, project
from tailrace.cli.context import err, project_option
from tailrace.endpoints import STATE_FOLDER
from tailrace.errors import UsageError
from tailrace.supervisor import Child, Supervisor

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
    supervisor = Supervisor(
        folder=loaded.folder,
        children=[child(loaded.folder, name, kind) for name, kind in names.items() if not only or name in only],
        report=err.print,
    )
    stop_on_signals(supervisor.stop)
    logs.configure()
    supervisor.run()


def child(folder: Path, name: str, kind: str) -> Child:
    """Return one worker as a child of the supervisor."""
    command = [sys.executable, "-m", "tailrace", "run", kind, name, "--project", str(folder)]
    return Child(name=name, command=command, log_path=folder / STATE_FOLDER / "logs" / f"{name}.log")


def stop_on_signals(stop: threading.Event) -> None:
    """Set ``stop`` on SIGTERM and SIGINT, so that a worker ends in its own time."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
