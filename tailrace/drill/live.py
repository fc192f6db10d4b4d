"""The time in which faults strike: one after the other, or two at once, while the workload goes on or rests.

Twice the workload rests, everything crosses the barrier, and the money is added up in every store. Where keys rest
around a fault, none is changed from before it until the pipeline is live again behind it. A fault that could not be
done is told, and the drill goes on.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tailrace.control import barrier
from tailrace.control.services import Services
from tailrace.deadline import Deadline, wait_for
from tailrace.drill import schedule
from tailrace.drill.balances import balances
from tailrace.drill.report import Quiet, Struck
from tailrace.errors import TailraceError, Unreachable

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor, Future

    from tailrace.drill.faults import Injector
    from tailrace.drill.schedule import Fault
    from tailrace.drill.watch import Watch
    from tailrace.drill.workload import Workload
    from tailrace.project import Project

LIVE_WITHIN, SETTLES_WITHIN = 60.0, 300.0
CHANGING, RESTING, STANDING = "change", "change, but not around faults in which Debezium may lose half of one", "stay"


class Live:
    """One such time. ``keys`` is one of the three words above; ``workload`` is None where others make the traffic."""

    def __init__(
        self,
        project: Project,
        injector: Injector,
        workload: Workload | None,
        watch: Watch,
        *,
        keys: str,
        patience: float,
        stop: threading.Event,
        say: Callable[[str], None],
    ) -> None:
        self._project, self._injector, self._workload, self._watch = project, injector, workload, watch
        self._keys, self._patience, self._stop, self._say = keys, patience, stop, say
        self._since = 0.0  # when the last fault ended that the pipeline has not been live again after
        self.times: list[tuple[Fault, float, float, int | None]] = []
        self.quiet: list[Quiet] = []
        self.trouble: list[str] = []

    def go(self, faults: Sequence[Fault], seconds: float) -> None:
        """Strike with all of them, for at least so many seconds."""
        self._resume()
        try:
            self._stop.wait(schedule.FIRST)
            with ThreadPoolExecutor(2, thread_name_prefix="fault") as crew:
                try:
                    self._one_by_one(faults, crew)
                except BaseException:
                    self._stop.set()  # the crew is waited for: what it does shall not last
                    raise
            self._stop.wait(max(schedule.LAST, seconds - self._now()))
        finally:
            if self._workload is not None:
                self._workload.rest()
                self._watch.busy = False

    def _one_by_one(self, faults: Sequence[Fault], crew: Executor) -> None:
        resting = sorted(schedule.rests(len(faults)))
        jobs: list[Future[None]] = []
        for number, fault in enumerate(faults):
            if resting and number >= resting[0] and not jobs:
                del resting[0]
                self._rest()
            self._spare_keys(fault)
            jobs.append(crew.submit(self._strike, fault))
            if fault.then != schedule.BESIDE:
                self._over(jobs)
                self._follow(fault)
            self._stop.wait(fault.pause)

    def _now(self) -> float:
        return time.monotonic() - self._watch.began

    def _strike(self, fault: Fault) -> None:
        began, met = self._now(), None
        self._say(f"{began:6.1f} s  {fault.name}" + (f" for {fault.lasts:g} s" if fault.lasts else ""))
        try:
            met = self._injector.strike(fault)
        except TailraceError as error:
            self.trouble.append(f"{fault.name}: {error}")
        self.times.append((fault, began, self._now(), met))

    def _over(self, jobs: list[Future[None]]) -> None:
        for job in jobs:
            job.result()
        jobs.clear()
        self._since = self._now()

    def _follow(self, fault: Fault) -> None:
        """Wait for what the fault's plan says, and let keys change again once that is safe."""
        workload = self._workload
        live = self._live() if fault.then == schedule.LIVE_AGAIN else self._watch.live_since(self._since) is not None
        if live and workload is not None and self._keys == RESTING and not workload.keys_change:
            workload.change_keys(wanted=True)

    def _live(self) -> bool:
        """Wait until the pipeline is live again, and say whether it was in time."""
        try:
            wait_for(
                lambda: self._watch.live_since(self._since) is not None,
                timeout=self._patience,
                what="the pipeline to be live again",
                stop=self._stop,
            )
        except Unreachable:
            return False
        return True

    def _spare_keys(self, fault: Fault) -> None:
        """Have no key change on its way to Kafka when a fault strikes that may halve one."""
        workload = self._workload
        if not fault.halves or workload is None or self._keys != RESTING or not workload.keys_change:
            return
        workload.change_keys(wanted=False)
        try:
            with Services(self._project) as services:
                barrier.Barrier(services, Deadline.after(LIVE_WITHIN), lambda _: None).source()
        except TailraceError as error:
            self.trouble.append(f"before {fault.name}: {error}")

    def _rest(self) -> None:
        """Let everything stand still, and add up the money."""
        if self._workload is None:
            return
        at = self._now()
        self._workload.rest()
        self._watch.busy = False
        try:
            barrier.cross(self._project, timeout=SETTLES_WITHIN)
            found = Quiet(round(at, 1), round(self._now() - at, 1), balances(self._project))
        except TailraceError as error:
            self.trouble.append(f"while the workload rested: {error}")
        else:
            self.quiet.append(found)
            self._say(f"{at:6.1f} s  quiet after {found.seconds:g} s; " + _money(found))
        self._resume()

    def _resume(self) -> None:
        if self._workload is not None:
            self._workload.start()
            self._watch.busy = True

    def struck(self) -> list[Struck]:
        """Return the faults with what the lag says of each: live again before the next one struck, or not."""
        times = sorted(self.times, key=lambda each: each[1])
        ends = [began for _, began, _, _ in times[1:]] + [float("inf")]
        return [
            Struck(
                fault.name,
                round(began, 1),
                round(ended, 1),
                self._watch.live_since(ended, until=end),
                met,
                waited=fault.then == schedule.LIVE_AGAIN,
            )
            for (fault, began, ended, met), end in zip(times, ends, strict=True)
        ]


def _money(found: Quiet) -> str:
    return "the money is the same in every store" if found.ok else f"the money differs: {dict(found.balances)}"
