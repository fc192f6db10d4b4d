"""``tailrace stack``: the embedded local stack of a project, up, down, status, logs and wipe."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from typing import TYPE_CHECKING

import click
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from tailrace.cli.context import err, json_option, out, print_json, project_option
from tailrace.errors import UsageError
from tailrace.stack import Lines, Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tailrace.endpoints import Endpoints
    from tailrace.stack import Download, ServiceStatus

WATCH_SECONDS = 1.0
FOLLOW_SECONDS = 0.3
HEADINGS = ("service", "version", "state", "address", "pid", "memory", "ready after")
STATE = HEADINGS.index("state")
COLOURS = {"ready": "green", "unready": "yellow", "stopped": "red"}


@click.group()
def stack() -> None:
    """Run Postgres, Kafka, Connect, registry, DynamoDB, S3 and OpenSearch on this machine, for this project.

    Nothing has to be installed for it: servers come from wheels and from locked artifacts that are fetched once.
    Data lives in .tailrace/stack of the project; every project has a stack of its own, on ports of its own.
    """


@stack.command()
@project_option
@click.option("--foreground", is_flag=True, help="Stay until Ctrl-C, then stop it; it ends if this process dies.")
@click.option(
    "--port", "ports", multiple=True, metavar="NAME=NUMBER", help="Fix a port, kept from then on; may be repeated."
)
@json_option
def up(folder: Path, ports: tuple[str, ...], *, foreground: bool, as_json: bool) -> None:
    """Start what is not running and wait until every service does its work.

    Twice is as good as once. Ctrl-C during the start leaves nothing behind.
    """
    embedded = Stack(folder, ports=numbers(ports))
    with watcher() as watch:
        embedded.fetch(watch)
    endpoints = embedded.up(lambda line: err.print(escape(line)), bound=foreground)
    print_endpoints(endpoints, as_json=as_json)
    if foreground:
        err.print("The stack runs until Ctrl-C.")
        stay(embedded)


@stack.command()
@project_option
def fetch(folder: Path) -> None:
    """Fetch the servers into the cache now, so that `up` needs no network, and prepare Java for quick starts.

    About 360 MB to fetch and as much again on the disk, once for all projects.
    """
    embedded = Stack(folder)
    with watcher() as watch:
        embedded.fetch(watch)
    embedded.prepare(lambda line: err.print(escape(line)))
    err.print(f"Everything is in {embedded.cache.root}.")


@stack.command()
@project_option
def down(folder: Path) -> None:
    """Stop every process of the stack. The data stays."""
    Stack(folder).down()
    err.print("The stack is down.")


@stack.command()
@project_option
@json_option
def status(folder: Path, *, as_json: bool) -> int:
    """Show state, address and memory of every service. Exit code 1 when one is not ready."""
    embedded = Stack(folder)
    services = embedded.status()
    ready = all(service.state == "ready" for service in services)
    if as_json:
        summary = {"ready": ready, "start_seconds": embedded.start_seconds(), "memory_mb": total(services)}
        print_json({**summary, "services": [service.as_dict() for service in services]})
    else:
        print_services(services, embedded.start_seconds())
    return 0 if ready else 1


@stack.command()
@click.argument("name")
@project_option
@click.option("-n", "lines", type=click.IntRange(min=0), default=50, show_default=True, help="How many lines.")
@click.option("--follow", "-f", is_flag=True, help="Go on with new lines until Ctrl-C.")
def logs(name: str, folder: Path, lines: int, *, follow: bool) -> None:
    """Print the end of the log of service NAME."""
    path = Stack(folder).logs(name)
    if not path.exists():
        raise UsageError(f"{name} has no log yet.", hint="Run `tailrace stack up`.")
    with path.open(encoding="utf-8", errors="replace") as stream:
        for line in deque(stream, maxlen=lines):
            click.echo(line, nl=False)
        while follow:
            click.echo(stream.read(), nl=False)
            threading.Event().wait(FOLLOW_SECONDS)


@stack.command()
@project_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def wipe(folder: Path, *, yes: bool) -> None:
    """Stop the stack and remove all its data: databases, topics, tables, objects, indexes."""
    if not yes:
        click.confirm(f"Remove all data of the stack in {folder.resolve()}?", abort=True, err=True)
    Stack(folder).wipe()
    err.print("The stack and its data are gone.")


def numbers(ports: Sequence[str]) -> dict[str, int]:
    """Turn ``NAME=NUMBER`` options into numbers by name."""
    pairs = [port.partition("=") for port in ports]
    for name, _, number in pairs:
        if not number.isdigit():
            raise UsageError(f"--port {name!r} needs a number.", hint="For example --port postgres=5432.")
    return {name: int(number) for name, _, number in pairs}


@contextlib.contextmanager
def watcher() -> Iterator[Callable[[Download], None]]:
    """Give a download watcher: a bar on a terminal, plain lines otherwise."""
    if not err.is_terminal:
        yield Lines(lambda line: err.print(escape(line)))
        return
    columns = (TextColumn("fetching the servers"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("fetch", total=None, visible=False)
        yield lambda download: bar.update(task, completed=download.bytes_done, total=download.bytes, visible=True)


def print_endpoints(endpoints: Endpoints, *, as_json: bool) -> None:
    """Print the addresses, without passwords."""
    if as_json:
        print_json(endpoints.public())
        return
    for name, address in endpoints.public().items():
        out.print(f"{name:<11} {escape(address)}")


def print_services(services: Sequence[ServiceStatus], start_seconds: float | None) -> None:
    """Print the table of services and one line about the whole."""
    rows = [HEADINGS, *(cells(service) for service in services)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        colour = COLOURS.get(row[STATE], "bold")
        padded[STATE] = f"[{colour}]{padded[STATE]}[/]"
        out.print("  ".join(padded).rstrip())
    started = f"last full start {start_seconds:.1f} s · " if start_seconds is not None else ""
    out.print(f"{started}memory {total(services)} MB in all")


def cells(service: ServiceStatus) -> tuple[str, ...]:
    """Return one line of the table."""
    after = f"{service.seconds_to_ready:.1f} s" if service.seconds_to_ready is not None else ""
    size = f"{service.memory_mb} MB" if service.pid else ""
    return (service.name, service.version, service.state, service.address, str(service.pid or ""), size, after)


def total(services: Sequence[ServiceStatus]) -> int:
    """Return the memory of all services, in MB."""
    return sum(service.memory_mb for service in services)


def stay(embedded: Stack) -> None:
    """Wait for Ctrl-C or SIGTERM, then stop the stack; say so when a service ends by itself."""
    missed: set[str] = set()
    try:
        while True:
            threading.Event().wait(WATCH_SECONDS)
            for name in embedded.stopped() - missed:
                missed.add(name)
                err.print(f"{name} has ended; see `tailrace stack logs {name}`.")
    except KeyboardInterrupt:
        err.print("stopping")
    finally:
        embedded.down()
