"""One drill, from an empty folder to the proof. Whatever was started is stopped in the end, also after Ctrl-C."""

from __future__ import annotations

import shutil
import threading
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tailrace import project as projects
from tailrace.control import apply, barrier, dlq
from tailrace.control.repair import repair
from tailrace.control.services import Services
from tailrace.control.verify import verify
from tailrace.control.verify.run import in_force
from tailrace.deadline import Deadline
from tailrace.demo import children, database, reference, seed
from tailrace.drill import schedule
from tailrace.drill.balances import balances
from tailrace.drill.faults import Injector
from tailrace.drill.report import Found, Struck
from tailrace.drill.watch import Watch, recovered
from tailrace.drill.workload import Workload
from tailrace.endpoints import STATE_FOLDER
from tailrace.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tailrace.control.verify import Report
    from tailrace.drill.schedule import Fault
    from tailrace.project import Project

PARTS = ("tailrace.toml", "connectors", "schemas", "processors", "sinks", "migrations")
SERVERS = ("postgres", "kafka", "connect", "registry", "dynamodb", "s3", "opensearch")
SETTLES_WITHIN = 300.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says; ``kinds`` of faults, see ``schedule.KINDS``."""

    folder: Path
    seed: int
    seconds: float
    rate: float
    kinds: Sequence[str] = schedule.KINDS
    keys_change: bool | None = None  # None: wherever no fault can make Debezium lose half of one


class Drill:
    """One drill in ``place``, an empty folder that is its own."""

    def __init__(self, options: Options, place: Path, say: Callable[[str], None]) -> None:
        self._options, self._say = options, say
        self._folder = place / "project"
        self._stop = threading.Event()
        source = projects.load(options.folder)
        reference.stores(source)
        self._workers = source.workers
        self.faults = schedule.draw(
            options.seed, options.seconds, kinds=options.kinds, workers=list(self._workers), servers=SERVERS
        )

    def run(self) -> Found:
        """Set up, strike, prove."""
        keys = self._options.keys_change
        keys = not schedule.may_halve_keys(self.faults) if keys is None else keys
        with ExitStack() as cleanup:
            project, stack = self._set_up(cleanup)
            supervisor = children.Child(self._folder, "workers", ["run", "all"])
            cleanup.callback(supervisor.stop)
            barrier.cross(project, timeout=SETTLES_WITHIN)
            self._say("the snapshot is in every store; the drill begins")
            found = Found(self._options.seed, self._options.seconds, keys)
            self._live(project, Injector(project, stack, supervisor, self._workers, self._stop), found)
            self._prove(project, found)
        return found

    def _set_up(self, cleanup: ExitStack) -> tuple[Project, Stack]:
        """Copy the project, start a stack of its own, fill the bank, deploy."""
        self._folder.mkdir()
        for part in PARTS:
            source = self._options.folder / part
            if source.is_dir():
                shutil.copytree(source, self._folder / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, self._folder / part)
        stack = Stack(self._folder)
        cleanup.callback(stack.wipe)
        self._say("starting a stack of the drill's own")
        stack.up(bound=True)
        project = projects.load(self._folder)
        name = project.connector.database
        database.prepare(project.endpoints, name, self._folder / "migrations")
        with closing(database.connect(project.endpoints.database(name))) as opened:
            seed.fill(opened, seed=self._options.seed)
        apply.apply(project, lambda _moment, _step: None)
        return project, stack

    def _live(self, project: Project, injector: Injector, found: Found) -> None:
        """Strike one fault after the other while the workload runs."""
        url = project.endpoints.database(project.connector.database)
        workload = Workload(url, seed=found.seed, rate=self._options.rate, keys_change=found.keys_change)
        began = time.monotonic()
        watch = Watch(project, began)
        watch.start()
        workload.start()
        times: list[tuple[Fault, float, float]] = []
        try:
            self._stop.wait(schedule.FIRST)
            for fault in self.faults:
                self._stop.wait(fault.pause)
                struck = time.monotonic() - began
                self._say(f"{struck:6.1f} s  {fault.name}" + (f" for {fault.lasts:g} s" if fault.lasts else ""))
                injector.strike(fault)
                times.append((fault, struck, time.monotonic() - began))
            self._stop.wait(max(schedule.LAST, self._options.seconds - (time.monotonic() - began)))
        finally:
            workload.stop()
        quiet = time.monotonic()
        try:
            barrier.cross(project, timeout=SETTLES_WITHIN)
        finally:
            watch.stop()
        found.quiet_seconds = round(time.monotonic() - quiet, 1)
        found.samples, found.committed = watch.samples, workload.as_dict()
        found.struck = timeline(times, watch)
        found.trouble = [f"{type(error).__name__}: {error}" for error in workload.trouble]

    def _prove(self, project: Project, found: Found) -> None:
        """Verify every row, add up the money, count what was parked; repair what differs and verify again."""
        found.verified = self._verify(project)
        found.balances = balances(project)
        with Services(project) as services:
            heaps = dlq.heaps(project, services.admin)
            found.parked = {f"{heap.worker}: {heap.reason}": heap.count for heap in heaps}
        if not found.verified.ok:
            self._say("not equal: repairing, to see whether that mends it")
            with Services(in_force(project)) as services:
                repair(services, found.verified, Deadline.after(SETTLES_WITHIN), self._say)
            found.repaired = self._verify(project)

    def _verify(self, project: Project) -> Report:
        return verify(project, wait=lambda: barrier.cross(project, timeout=SETTLES_WITHIN))


def timeline(times: Sequence[tuple[Fault, float, float]], watch: Watch) -> list[Struck]:
    """Return the faults with what the lag says of each: live again before the next one struck, or not."""
    ends = [began for _, began, _ in times[1:]] + [float("inf")]
    return [
        Struck(fault.name, round(began, 1), round(ended, 1), recovered(watch.samples, ended, end))
        for (fault, began, ended), end in zip(times, ends, strict=True)
    ]


def log_folder(place: Path) -> Path:
    """Return where the workers of a drill log."""
    return place / "project" / STATE_FOLDER / "logs"
