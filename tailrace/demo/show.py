"""The live demo, from an empty folder to a proof: every step is a function of its own, told as it is taken.

Whatever was started is stopped at the end, also after Ctrl-C or an error, unless it shall be kept. The demo begins with
empty stores: it removes what an earlier run left in the stack's folder, and says so; a stack that still runs is only
touched when ``agree`` says yes.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from tailrace import project as projects
from tailrace.control import apply, barrier
from tailrace.demo import children, database, lookups, reference, seed, view
from tailrace.demo.probe import Probe
from tailrace.endpoints import STATE_FOLDER
from tailrace.errors import Refused
from tailrace.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tailrace.resource import Step

SNAPSHOT_SECONDS = 120.0
STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    folder: Path
    seconds: float = 30.0
    rate: float = 200.0
    seed: int = 1
    keep: bool = False


class Demo:
    """One demo on the terminal ``console``."""

    def __init__(self, options: Options, console: Console, agree: Callable[[str], bool]) -> None:
        self._options, self._console, self._agree = options, console, agree
        self._project = projects.load(options.folder)
        reference.stores(self._project)
        self._stack = Stack(options.folder)
        self._began = time.monotonic()

    def run(self) -> int:
        """Show everything and return 0 when all stores equal the source, else 1."""
        with cleaning_up() as cleanup:
            cleanup.callback(self._say, "everything is stopped")
            self._start_stack(cleanup)
            self._fill_bank()
            self._apply()
            workers = self._start_workers(cleanup)
            verdict = self._live(cleanup, workers)
            self._say(f"the demo took {time.monotonic() - self._began:.0f} s")
            if self._options.keep:
                cleanup.pop_all()
                children.remember(self._options.folder, workers)
                self._console.print(view.next_steps(self._project, self._options.folder))
            else:
                self._say("stopping workers and stack")
        return verdict

    def _say(self, line: str) -> None:
        self._console.print(f"[bold cyan]{time.monotonic() - self._began:6.1f} s[/]  {escape(line)}")

    def _detail(self, line: str) -> None:
        self._console.print(f"          [dim]{escape(line)}[/]")

    def _start_stack(self, cleanup: ExitStack) -> None:
        folder = self._options.folder
        if children.remembered(folder) or any(service.state != STOPPED for service in self._stack.status()):
            if not self._agree("The stack of this folder is running. Stop it and remove its data?"):
                raise Refused("The stack of this folder is running.", hint="`tailrace demo stop` stops it.")
            children.stop_remembered(folder)
        if (folder / STATE_FOLDER / "stack" / "state.json").exists():
            self._say("removing the data of an earlier run from .tailrace/stack")
            self._stack.wipe()
        self._say("starting Postgres, Kafka, Connect, registry, DynamoDB, S3 and OpenSearch on 127.0.0.1")
        cleanup.callback(self._stack.down)
        self._stack.up(self._detail, bound=not self._options.keep)
        self._project = projects.load(folder)  # its endpoints are known only now

    def _fill_bank(self) -> None:
        endpoints, name = self._project.endpoints, self._project.connector.database
        database.prepare(endpoints, name, self._project.folder / "migrations")
        with closing(database.connect(endpoints.database(name))) as opened:
            customers, accounts = seed.fill(opened, seed=self._options.seed)
        self._say(f"the bank has {customers:,} customers with {accounts:,} accounts")

    def _apply(self) -> None:
        self._say("tailrace apply: publication, topics, schemas, stores, connector")

        def told(moment: str, step: Step) -> None:
            if moment == "begin":
                self._detail(f"{step.action} {step.kind} {step.name}")

        apply.apply(self._project, told)

    def _start_workers(self, cleanup: ExitStack) -> children.Child:
        self._say("tailrace run all: one processor and three sinks; waiting until the snapshot is in every store")
        workers = children.Child(self._options.folder, "workers", ["run", "all"], bound=not self._options.keep)
        cleanup.callback(workers.stop)
        barrier.cross(self._project, timeout=SNAPSHOT_SECONDS, say=self._detail)
        self._say("the snapshot is in every store")
        return workers

    def _live(self, cleanup: ExitStack, workers: children.Child) -> int:
        """Traffic, live view, look-ups; then proof and latency."""
        options = self._options
        self._say(
            f"tailrace demo traffic: about {options.rate:g} changes/s for {options.seconds:g} s, seed {options.seed}"
        )
        arguments = ["demo", "traffic", "--rate", str(options.rate), "--seed", str(options.seed), "--json"]
        traffic = children.Child(options.folder, "traffic", arguments)
        cleanup.callback(traffic.stop)
        probe = Probe(self._project)
        probe.start()
        view.watch(self._project, self._console, options.seconds, (workers.check, traffic.check))
        self._say("three look-ups, while the traffic goes on")
        for found in lookups.all_three(self._project):
            self._console.print(view.look_up(found))
        self._stop_traffic(traffic)
        latencies = probe.finish()
        self._say("tailrace verify: every row of every table in every store, by key and by value")
        verdict = self._verify()
        self._console.print(view.latencies(latencies))
        return verdict

    def _stop_traffic(self, traffic: children.Child) -> None:
        traffic.check()
        code = traffic.stop()
        if code:
            raise Refused(f"The traffic ended with exit code {code}.", hint=f"See {STATE_FOLDER}/logs/traffic.log.")
        report = json.loads(traffic.output())
        self._say(
            f"the traffic has stopped: {report['changes']:,} changes, {report['changes_per_second']:g}/s; the sum of"
            f" all balances was {report['balance_before']} and is {report['balance_after']}"
        )

    def _verify(self) -> int:
        """Run the public command, which prints its table; 0 when all is equal."""
        command = [sys.executable, "-m", "tailrace", "verify", "--project", str(self._options.folder)]
        return subprocess.run(command, check=False).returncode  # noqa: S603 - our own command line


@contextmanager
def cleaning_up() -> Iterator[ExitStack]:
    """Give an ExitStack that is closed to its end, whatever signals come meanwhile."""
    cleanup = ExitStack()
    try:
        yield cleanup
    finally:
        before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            cleanup.close()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def stop(folder: Path) -> bool:
    """Stop what a demo with ``--keep`` left running, and say whether there were workers."""
    found = children.stop_remembered(folder)
    Stack(folder).down()
    return found
