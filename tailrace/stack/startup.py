"""Starting services in parallel: each one as soon as those it needs are ready, each watched until it works.

A service that ends while it starts, or is not ready by its deadline, stops the whole start; the caller cleans up.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tailrace.deadline import wait_for
from tailrace.errors import Unreachable
from tailrace.stack import process
from tailrace.stack.ports import require_free

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tailrace.stack.home import Home
    from tailrace.stack.process import Record
    from tailrace.stack.service import Service

READY_SECONDS = 180
LOG_LIMIT = 16 * 1024 * 1024
LOG_TAIL = 400


@dataclass(slots=True)
class Startup:
    """One parallel start."""

    home: Home
    services: Sequence[Service]
    say: Callable[[str], None]
    stop: threading.Event = field(default_factory=threading.Event)
    done: dict[str, threading.Event] = field(default_factory=dict)

    def run(self) -> None:
        """Bring every service to readiness, or raise the first error."""
        self.done = {service.name: threading.Event() for service in self.services}
        with ThreadPoolExecutor(len(self.services) or 1) as pool:
            jobs = [pool.submit(self._bring_up, service) for service in self.services]
            try:
                wait(jobs, return_when=FIRST_EXCEPTION)
            finally:
                self.stop.set()
        failures = [error for error in (job.exception() for job in jobs) if error]
        if failures:
            raise min(failures, key=lambda error: isinstance(error, _Abandoned))

    def _bring_up(self, service: Service) -> None:
        for needed in service.needs:
            if needed in self.done:
                self._await(self.done[needed].is_set, f"{needed} to be ready")
        if self.stop.is_set():
            raise _Abandoned(f"The start of {service.name} was given up.")
        record = running(self.home, service) or start(self.home, service)
        began = time.monotonic()
        self._await(lambda: self._works(service, record), f"{service.name} to be ready")
        if record.ready_after is None:
            record.ready_after = round(time.monotonic() - began, 1)
            record.save(self.home.pid_file(service.name))
        self.say(f"{service.name} is ready after {record.ready_after:.1f} s")
        self.done[service.name].set()

    def _await(self, condition: Callable[[], bool], what: str) -> None:
        try:
            wait_for(condition, timeout=READY_SECONDS, what=what, stop=self.stop, every=0.15)
        except Unreachable as cause:
            if self.stop.is_set():
                raise _Abandoned(f"Waiting for {what} was given up.") from cause
            raise

    def _works(self, service: Service, record: Record) -> bool:
        process.reap()
        found = record.process()
        if found is None:
            raise ended(self.home, service)
        return process.listens(found, self.home.port(service.ports[0])) and service.ready(self.home)


class _Abandoned(Unreachable):
    """A wait that ended only because another service failed."""


def running(home: Home, service: Service) -> Record | None:
    """Return the record of the live process of a service, or None."""
    process.reap()
    record = process.read(home.pid_file(service.name))
    return record if record and record.process() else None


def require_ports(home: Home, service: Service) -> None:
    """Raise Refused, naming the owner, when a port of the service is taken."""
    for name in service.ports:
        require_free(name, home.port(name))


def start(home: Home, service: Service) -> Record:
    """Start one service and write its pid file; its ports must be free."""
    require_ports(home, service)
    log = home.log(service.name)
    if log.exists() and log.stat().st_size > LOG_LIMIT:
        log.replace(log.with_suffix(".log.1"))
    record = process.spawn(service.launch(home), log=log, mark=home.mark)
    record.save(home.pid_file(service.name))
    return record


def ended(home: Home, service: Service) -> Unreachable:
    """Return the error for a service that ended while it started."""
    log = home.log(service.name)
    return Unreachable(
        f"{service.name} ended while it was starting.",
        detail=f"Its last words: {last_words(log)}",
        hint=f"The whole log: `tailrace stack logs {service.name}`.",
    )


def last_words(log: Path) -> str:
    """Return the end of a log as one line."""
    if not log.exists():
        return "(no log)"
    text = log.read_bytes()[-LOG_TAIL * 4 :].decode(errors="replace")
    return " / ".join(line.strip() for line in text.splitlines() if line.strip())[-LOG_TAIL:]
