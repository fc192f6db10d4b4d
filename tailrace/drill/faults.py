"""Doing a fault, and undoing it: signals to workers and servers, a second instance, a bad way, a connector restart.

``strike`` returns when the fault is over: what was stopped goes on, what was killed was started again (workers by their
supervisor, servers here). It touches only workers that the drill started, and servers of a stack that is its own.
Several may be struck at once.
"""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import httpx
import psutil

from tailrace import membership, web
from tailrace.deadline import wait_for
from tailrace.demo.children import Child
from tailrace.drill import schedule
from tailrace.errors import Refused

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping

    from tailrace.drill.ground import Ground
    from tailrace.drill.schedule import Fault
    from tailrace.stack import Stack

STARTS_WITHIN = 120.0
ANSWER_SECONDS = 60.0
POLLS = "poll.interval.ms"


class Injector:
    """Strikes one pipeline. ``pid`` is the workers' supervisor; ``kinds`` says which are processors and which sinks.

    ``last_look`` is called before workers die: what they have counted dies with them.
    """

    def __init__(
        self,
        ground: Ground,
        *,
        pid: int,
        kinds: Mapping[str, str],
        stop: threading.Event,
        last_look: Callable[[], None],
    ) -> None:
        self._ground, self._pid, self._kinds = ground, pid, kinds
        self._stop, self._last_look = stop, last_look

    def strike(self, fault: Fault) -> int | None:
        """Do one fault and return when it is over, on a bad way with how much met it."""
        if fault.kind in schedule.OF_NETWORK:
            if self._ground.network is None:
                raise Refused("There is no proxy on the ways to these servers.")
            return self._ground.network.strike(fault, self._stop)
        acts = {
            schedule.KILL_WORKER: self._kill_worker, schedule.KILL_WORKERS: self._kill_workers,
            schedule.PAUSE_WORKER: self._pause_worker, schedule.ZOMBIE: self._zombie, schedule.SCALE: self._scale,
            schedule.KILL_SERVER: self._kill_server, schedule.PAUSE_SERVER: self._pause_server,
            schedule.RESTART_CONNECTOR: self._restart_connector,
        }  # fmt: skip
        acts[fault.kind](fault)
        return None

    def _kill_worker(self, fault: Fault) -> None:
        self._kill([self._worker(fault.target)])

    def _kill_workers(self, _fault: Fault) -> None:
        self._kill([self._worker(name) for name in self._kinds])

    def _kill(self, found: list[int]) -> None:
        self._last_look()
        for pid in found:
            with suppress(ProcessLookupError):  # it was ended by itself, just now
                os.kill(pid, signal.SIGKILL)

    def _pause_worker(self, fault: Fault) -> None:
        with _stopped(self._worker(fault.target)):
            self._stop.wait(fault.lasts)

    def _zombie(self, fault: Fault) -> None:
        """Stop a worker until another one has taken its place, and wake it up while that one works."""
        with self._second(fault.target):
            with _stopped(self._worker(fault.target)):
                self._stop.wait(fault.lasts)
            self._stop.wait(schedule.AWAKE)

    def _scale(self, fault: Fault) -> None:
        with self._second(fault.target):
            self._stop.wait(fault.lasts)

    @contextmanager
    def _second(self, worker: str) -> Iterator[None]:
        """Have a second instance of a worker; it leaves for good, so it is no static member."""
        arguments = ["run", self._kinds[worker], worker]
        environment = {**self._ground.environment, membership.INSTANCE: ""}
        second = Child(self._ground.project.folder, f"{worker}-second", arguments, environment=environment)
        try:
            yield
            self._last_look()
        finally:
            second.stop()

    def _kill_server(self, fault: Fault) -> None:
        self._stack.kill(fault.target)
        self._leave(fault.target)
        try:
            self._stop.wait(fault.lasts)
        finally:
            self._stack.start(fault.target)
            self._listen(fault.target)

    def _leave(self, server: str) -> None:
        if self._ground.network is not None:
            self._ground.network.leave(server)

    def _listen(self, server: str) -> None:
        if self._ground.network is not None:
            self._ground.network.listen(server)

    def _pause_server(self, fault: Fault) -> None:
        self._stack.kill(fault.target, signal.SIGSTOP)
        try:
            self._stop.wait(fault.lasts)
        finally:
            self._stack.kill(fault.target, signal.SIGCONT)

    def _restart_connector(self, _fault: Fault) -> None:
        """Configure the connector anew, by one millisecond of its poll interval, and restart it with its task."""
        project = self._ground.project
        address = f"{project.endpoints.connect}/connectors/{project.connector.name}"
        with web.client(address, timeout=ANSWER_SECONDS) as client:

            def configured() -> httpx.Response:
                there = client.get("/config").raise_for_status().json()
                return client.put("/config", json={**there, POLLS: str(int(there.get(POLLS, "500")) + 1)})

            def restarted() -> httpx.Response:
                return client.post("/restart", params={"includeTasks": "true"})

            for act, what in ((configured, "take the connector's configuration"), (restarted, "restart the connector")):
                wait_for(partial(_taken, act), timeout=ANSWER_SECONDS, every=1.0, what=f"Kafka Connect to {what}")

    @property
    def _stack(self) -> Stack:
        if self._ground.stack is None:
            raise Refused("These servers are somebody else's: the drill strikes only the workers it started.")
        return self._ground.stack

    def _worker(self, name: str) -> int:
        """Return the process of a worker, once its supervisor has it running."""
        return wait_for(lambda: self._find(name), timeout=STARTS_WITHIN, what=f"the worker {name} to run")

    def _find(self, name: str) -> int | None:
        for child in psutil.Process(self._pid).children():
            with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                if child.cmdline()[3:6] == ["run", self._kinds[name], name]:
                    return child.pid
        return None


@contextmanager
def _stopped(pid: int) -> Iterator[None]:
    """Have a process stopped; it may end meanwhile, by another fault, its supervisor or the end of the drill."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _taken(act: Callable[[], httpx.Response]) -> bool:
    """Say whether Kafka Connect did it; it may be away, or busy with the last restart."""
    try:
        return act().is_success
    except httpx.HTTPError:
        return False
