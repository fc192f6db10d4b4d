"""``tailrace run all``: every worker of a project as a child process, watched until asked to stop.

A worker that exits 0 was asked to stop: it is started again once no hold file (``.tailrace/run/<worker>.hold``, written
by ``tailrace replay`` and others) is there whose command still lives. A worker that exits otherwise is started again
after a growing pause, and loudly; the others go on. Children die with this process, also when it is killed. It holds no
state besides the children.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil
import structlog

from tailrace.deadline import Deadline
from tailrace.endpoints import STATE_FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

FIRST_PAUSE, LONGEST_PAUSE, SETTLED = 1.0, 60.0, 30.0
GRACE = 35.0  # seconds a worker gets to finish what is in flight
_PR_SET_PDEATHSIG = 1

log = structlog.get_logger()


def die_with_parent() -> None:
    """Ask Linux to send SIGTERM to this process when its parent ends; elsewhere it does nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclass
class Child:
    """One worker: its command, its process while it runs, and when it may start again."""

    name: str
    command: Sequence[str]
    log_path: Path
    environment: Mapping[str, str] = field(default_factory=dict)  # besides this process's own
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause: float = FIRST_PAUSE
    not_before: float = 0.0

    def start(self) -> None:
        """Start the process; its output goes to the log file."""
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as output:
            self.process = subprocess.Popen(  # noqa: S603 - our own command line
                list(self.command),
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **self.environment},
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - Linux only, calls prctl and nothing else
            )
        self.started = time.monotonic()

    def reap(self) -> int | None:
        """Return the exit code of a process that just ended, else None."""
        if self.process is None or self.process.poll() is None:
            return None
        code, self.process = self.process.returncode, None
        return code

    def schedule(self, code: int) -> None:
        """Decide when a worker that ended with ``code`` may start again."""
        now = time.monotonic()
        settled = now - self.started > SETTLED
        if code == 0 or settled:
            self.pause = FIRST_PAUSE
        self.not_before = now if code == 0 else now + self.pause
        self.pause = FIRST_PAUSE if code == 0 else min(LONGEST_PAUSE, self.pause * 2)


@dataclass
class Supervisor:
    """The children of one project; ``run`` blocks until ``stop`` is set.

    ``parted`` hears of each that stopped as asked.
    """

    folder: Path
    children: list[Child]
    stop: threading.Event = field(default_factory=threading.Event)
    report: Callable[[str], None] = print
    parted: Callable[[Child], None] = lambda _: None

    def held(self, child: Child) -> bool:
        """Say whether a command that lives asks that a worker stays down for the moment."""
        try:
            holder = (self.folder / STATE_FOLDER / "run" / f"{child.name}.hold").read_text()
        except FileNotFoundError:
            return False
        return not holder.isdecimal() or psutil.pid_exists(int(holder))

    def run(self) -> None:
        """Start every worker and keep them running; on ``stop`` end them all, within GRACE seconds."""
        try:
            while not self.stop.is_set():
                for child in self.children:
                    self._tend(child)
                self.stop.wait(0.2)
        finally:
            self._end()

    def _tend(self, child: Child) -> None:
        code = child.reap()
        if code is not None:
            child.schedule(code)
            self._say(child, code)
            if code == 0:
                self.parted(child)
        if child.process is None and time.monotonic() >= child.not_before and not self.held(child):
            child.start()
            log.info("worker started", worker=child.name, pid=child.process.pid if child.process else None)

    def _say(self, child: Child, code: int) -> None:
        if code == 0:
            self.report(f"{child.name} stopped as asked")
        else:
            wait = max(0.0, child.not_before - time.monotonic())
            self.report(f"{child.name} ended with exit code {code}; next start in {wait:.0f} s; see {child.log_path}")

    def _end(self) -> None:
        running = [child.process for child in self.children if child.process and child.process.poll() is None]
        for process in running:
            process.terminate()
        deadline = Deadline.after(GRACE)
        for process in running:
            try:
                process.wait(deadline.remaining())
            except subprocess.TimeoutExpired:
                log.warning("worker did not stop in time and is killed", pid=process.pid)
                process.kill()
                process.wait(10)
        for child in self.children:
            if child.reap() == 0:
                self.parted(child)
