"""One drill, from a project to the proof. Whatever was started is stopped in the end, also after Ctrl-C."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tailrace import membership
from tailrace import project as projects
from tailrace.control import barrier, dlq
from tailrace.control.repair import repair
from tailrace.control.services import Services
from tailrace.control.verify import verify
from tailrace.control.verify.run import in_force
from tailrace.deadline import Deadline
from tailrace.demo import children, reference
from tailrace.drill import ground as grounds
from tailrace.drill import schedule
from tailrace.drill.balances import balances
from tailrace.drill.counters import Counters
from tailrace.drill.duplicates import Duplicates
from tailrace.drill.faults import Injector
from tailrace.drill.live import CHANGING, LIVE_WITHIN, RESTING, SETTLES_WITHIN, STANDING, Live
from tailrace.drill.report import Found
from tailrace.drill.watch import Watch
from tailrace.drill.workload import Workload
from tailrace.endpoints import STATE_FOLDER
from tailrace.errors import Refused, TailraceError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from tailrace.control.verify import Report
    from tailrace.drill.ground import Ground
    from tailrace.project import Project

LARGE = 100_000


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says; ``kinds`` of faults, see ``schedule.KINDS``."""

    folder: Path
    seed: int
    seconds: float
    rate: float = 150.0
    kinds: Sequence[str] = ()  # none: all that are possible
    only: Sequence[str] = ()  # the workers and servers that are struck; none: all
    keys_change: bool | None = None  # None: not around faults in which Debezium may lose half of one
    staging: bool = False
    traffic: bool | None = None  # None: wherever the project is the bank
    large: int = LARGE  # rows of the largest transaction
    rounds: int = 0  # whole ones, instead of so many seconds
    patience: float = LIVE_WITHIN  # seconds in which the pipeline is waited for to be live again


class Drill:
    """One drill; ``faults`` are drawn when it is made."""

    def __init__(self, options: Options, say: Callable[[str], None]) -> None:
        self._options, self._say = options, say
        self._stop = threading.Event()
        source = projects.load(options.folder)
        self._bank = is_bank(source, needed=options.traffic is True or not options.staging)
        self._traffic = self._bank and options.traffic is not False
        self._workers = source.workers
        kinds = options.kinds or (schedule.OF_WORKERS if options.staging else schedule.KINDS)
        if options.staging and not set(kinds) <= set(schedule.OF_WORKERS):
            raise UsageError(
                "At a staging stack only the workers are struck that the drill starts itself.",
                hint=f"Faults that are possible there: {', '.join(schedule.OF_WORKERS)}.",
            )
        self.faults = schedule.draw(
            options.seed,
            options.seconds,
            kinds=kinds,
            workers=list(self._workers),
            servers=() if options.staging else schedule.SERVERS,
            rounds=options.rounds,
            only=options.only,
        )
        if not self.faults:
            raise UsageError(
                "No fault strikes in this drill.",
                detail=f"Faults: {', '.join(kinds)}; of: {', '.join(options.only) or 'all'}; {options.seconds:g} s.",
                hint="Give it more --minutes, or a --fault that strikes such a --target.",
            )
        self._static = schedule.settled_members(options.seed)

    @contextmanager
    def ground(self, place: Path) -> Iterator[Ground]:
        """Set up where it takes place, in an empty folder."""
        if self._options.staging:
            with grounds.staging(self._options.folder, place) as found:
                self._say("the servers are somebody else's: only the workers that the drill starts itself are struck")
                yield found
        else:
            with grounds.own_stack(self._options.folder, place, number=self._options.seed, say=self._say) as found:
                yield found

    def run(self, ground: Ground) -> Found:
        """Strike, prove."""
        options = self._options
        keys = {None: RESTING, True: CHANGING, False: STANDING}[options.keys_change]
        members = "static" if self._static else "dynamic"
        found = Found(options.seed, options.seconds, keys, members)
        folder = ground.project.folder
        with ExitStack() as cleanup:
            cleanup.callback(self._stop.set)
            if not self._static:
                cleanup.enter_context(membership.claimed(folder))  # who holds the name leaves none for others
            supervisor = children.Child(folder, "workers", ["run", "all"], environment=ground.environment)
            cleanup.callback(supervisor.stop)
            barrier.cross(ground.project, timeout=SETTLES_WITHIN)
            self._say("everything is in every store; the drill begins")
            parked = _parked(ground.project)
            self._live(ground, supervisor.pid, found)
            self._prove(ground.project, parked, found)
        return found

    def _live(self, ground: Ground, pid: int, found: Found) -> None:
        """Strike while the workload runs, then wait until all of it is in every store."""
        project = ground.project
        workload = self._workload(project, found) if self._traffic else None
        counters, duplicates = Counters(project.folder, self._workers), Duplicates(project)
        watch = Watch(project, counters, time.monotonic())
        injector = Injector(ground, pid=pid, kinds=self._workers, stop=self._stop, last_look=counters.sample)
        live = Live(
            project,
            injector,
            workload,
            watch,
            keys=found.keys,
            patience=self._options.patience,
            stop=self._stop,
            say=self._say,
        )
        watch.start()
        try:
            live.go(self.faults, self._options.seconds)
            quiet = time.monotonic()
            found.trouble = [*live.trouble, *_reached(project)]
            found.quiet_seconds = round(time.monotonic() - quiet, 1)
            counters.sample()
        finally:
            watch.stop()
            found.samples, found.struck, found.quiet = watch.samples, live.struck(), live.quiet
        found.counted, found.duplicates = counters.tally.sums(), duplicates.count()
        if workload is not None:
            found.committed = workload.as_dict()
            found.trouble = [*found.trouble, *map(_named, workload.trouble)]

    def _workload(self, project: Project, found: Found) -> Workload:
        url, options = project.endpoints.database(project.connector.database), self._options
        keys = found.keys != STANDING
        return Workload(url, seed=found.seed, rate=options.rate, keys_change=keys, large=options.large)

    def _prove(self, project: Project, before: Mapping[str, int], found: Found) -> None:
        """Verify every row, add up the money, count what was parked; on a stack of its own, see what a repair mends."""
        try:
            found.verified = self._verify(project)
            found.balances = balances(project) if self._traffic else {}
            now = _parked(project)
            found.parked = {name: now[name] - before.get(name, 0) for name in now if now[name] > before.get(name, 0)}
            if not found.verified.ok and not self._options.staging:
                self._say("not equal: repairing, to see whether that mends it")
                with Services(in_force(project)) as services:
                    repair(services, found.verified, Deadline.after(SETTLES_WITHIN), self._say)
                found.repaired = self._verify(project)
        except TailraceError as error:
            found.trouble = [*found.trouble, f"the proof: {error}"]

    def _verify(self, project: Project) -> Report:
        return verify(project, wait=lambda: barrier.cross(project, timeout=SETTLES_WITHIN))


def is_bank(project: Project, *, needed: bool) -> bool:
    """Say whether a project is the reference bank; raise Refused where it has to be."""
    try:
        reference.stores(project)
    except Refused:
        if needed:
            raise
        return False
    return True


def _reached(project: Project) -> list[str]:
    """Wait until everything is in every store; say what did not get there."""
    try:
        barrier.cross(project, timeout=SETTLES_WITHIN)
    except TailraceError as error:
        return [f"in the end: {error}"]
    return []


def _named(error: BaseException) -> str:
    """Return an error without what it may quote of a row, which Postgres says in further lines."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _parked(project: Project) -> dict[str, int]:
    with Services(project) as services:
        return {f"{heap.worker}: {heap.reason}": heap.count for heap in dlq.heaps(project, services.admin)}


def log_folder(place: Path) -> Path:
    """Return where the workers of a drill log."""
    return place / "project" / STATE_FOLDER / "logs"
