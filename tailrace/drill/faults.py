"""Doing a fault, and undoing it: signals to workers and servers, a second instance, a connector restart.

``strike`` returns when the fault is over: what was stopped goes on, what was killed was started again (workers by their
supervisor, servers here). It touches only processes of the drill's own folder.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

import httpx
import psutil

from tailrace.deadline import wait_for
from tailrace.demo.children import Child
from tailrace.drill import schedule

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping

    from tailrace.drill.schedule import Fault
    from tailrace.project import Project
    from tailrace.stack import Stack

STARTS_WITHIN = 120.0
ANSWER_SECONDS = 60.0


class Injector:
    """Strikes one pipeline. ``kinds`` says of each worker whether it is a processor or a sink."""

    def __init__(
        self, project: Project, stack: Stack, supervisor: Child, kinds: Mapping[str, str], stop: threading.Event
    ) -> None:
        self._project, self._stack, self._supervisor = project, stack, supervisor
        self._kinds, self._stop = kinds, stop

    def strike(self, fault: Fault) -> None:
        """Do one fault and return when it is over."""
        acts = {
            schedule.KILL_WORKER: self._kill_worker, schedule.PAUSE_WORKER: self._pause_worker,
            schedule.SCALE: self._scale, schedule.KILL_SERVER: self._kill_server,
            schedule.PAUSE_SERVER: self._pause_server, schedule.RESTART_CONNECTOR: self._restart_connector,
        }  # fmt: skip
        acts[fault.kind](fault)

    def _kill_worker(self, fault: Fault) -> None:
        os.kill(self._worker(fault.target), signal.SIGKILL)

    def _pause_worker(self, fault: Fault) -> None:
        found = self._worker(fault.target)
        os.kill(found, signal.SIGSTOP)
        try:
            self._stop.wait(fault.lasts)
        finally:
            with suppress(ProcessLookupError):  # its supervisor, or the end of the drill, was quicker
                os.kill(found, signal.SIGCONT)

    def _scale(self, fault: Fault) -> None:
        arguments = ["run", self._kinds[fault.target], fault.target]
        second = Child(self._project.folder, f"{fault.target}-second", arguments)
        try:
            self._stop.wait(fault.lasts)
        finally:
            second.stop()

    def _kill_server(self, fault: Fault) -> None:
        self._stack.kill(fault.target)
        self._stop.wait(fault.lasts)
        self._stack.start(fault.target)

    def _pause_server(self, fault: Fault) -> None:
        self._stack.kill(fault.target, signal.SIGSTOP)
        try:
            self._stop.wait(fault.lasts)
        finally:
            self._stack.kill(fault.target, signal.SIGCONT)

    def _restart_connector(self, _fault: Fault) -> None:
        address = f"{self._project.endpoints.connect}/connectors/{self._project.connector.name}/restart"

        def taken() -> bool:
            try:
                answer = httpx.post(address, params={"includeTasks": "true"}, timeout=ANSWER_SECONDS)
            except httpx.HTTPError:
                return False
            return answer.is_success

        wait_for(taken, timeout=ANSWER_SECONDS, every=1.0, what="Kafka Connect to restart the connector")

    def _worker(self, name: str) -> int:
        """Return the process of a worker, once its supervisor has it running."""
        return wait_for(lambda: self._find(name), timeout=STARTS_WITHIN, what=f"the worker {name} to run")

    def _find(self, name: str) -> int | None:
        for child in psutil.Process(self._supervisor.pid).children():
            with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                if child.cmdline()[3:6] == ["run", self._kinds[name], name]:
                    return child.pid
        return None
