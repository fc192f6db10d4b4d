"""Processes of the stack: started detached, found again by pid file, ended without leftovers.

A pid alone is not an identity: every record carries the start time of its process too, so that a recycled pid is
never signalled. Each process also carries ``TAILRACE_STACK=<folder>`` in its environment, so that one whose record
was lost can still be found. Zombies count as gone.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import psutil

from tailrace.deadline import Deadline

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

MARK = "TAILRACE_STACK"
KEPT = ("PATH", "HOME", "TMPDIR", "PYTHONPATH")  # the last one for our own Python processes
SAME_START = 1.0  # seconds by which two readings of one start time may differ (clock corrections)
_GONE = (psutil.NoSuchProcess, psutil.ZombieProcess)
_children: dict[int, subprocess.Popen[bytes]] = {}  # ours, so that the ended ones are reaped


@dataclass(frozen=True, slots=True)
class Account:
    """The operating system account a server runs under when ours must not be used (Postgres refuses root)."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Launch:
    """Everything needed to start one server."""

    argv: Sequence[str]
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)
    account: Account | None = None
    term: int = signal.SIGTERM  # the signal that asks for an orderly stop


@dataclass(slots=True)
class Record:
    """What the pid file of a service says."""

    pid: int
    created: float
    term: int = signal.SIGTERM
    ready_after: float | None = None

    def save(self, path: Path) -> None:
        """Write the pid file in one step."""
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(self)))
        fresh.replace(path)

    def process(self) -> psutil.Process | None:
        """Return the live process this record means, or None."""
        try:
            process = psutil.Process(self.pid)
            alive = process.status() != psutil.STATUS_ZOMBIE
            same = abs(process.create_time() - self.created) < SAME_START
        except _GONE:
            return None
        return process if alive and same else None


def read(path: Path) -> Record | None:
    """Read a pid file; a missing or torn one is None."""
    try:
        return Record(**json.loads(path.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def minimal_environment(mark: str) -> dict[str, str]:
    """Return an environment without the user's Java, Kafka, AWS or Postgres settings."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return {**kept, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", MARK: mark}


def spawn(launch: Launch, *, log: Path, mark: str) -> Record:
    """Start a server in its own session, with its output appended to ``log``."""
    reap()
    child = _popen(launch, log, mark, detached=True)
    _children[child.pid] = child
    return Record(child.pid, created_at(child.pid), launch.term)


def run_tool(launch: Launch, *, log: Path, mark: str, timeout: float) -> int:
    """Run a program to its end, output appended to ``log``; return its exit status."""
    with _popen(launch, log, mark, detached=False) as child:
        try:
            return child.wait(timeout)
        except BaseException:
            child.kill()
            raise


def _popen(launch: Launch, log: Path, mark: str, *, detached: bool) -> subprocess.Popen[bytes]:
    account = launch.account
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - the command lines are built by this package alone
            list(launch.argv),
            cwd=launch.cwd,
            env={**minimal_environment(mark), **launch.env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=detached,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )


def created_at(pid: int) -> float:
    """Return the start time of a process, 0 when it is gone already."""
    try:
        return psutil.Process(pid).create_time()
    except _GONE:
        return 0.0


def reap() -> None:
    """Collect the exit status of our own children that have ended."""
    for pid, child in list(_children.items()):
        if child.poll() is not None:
            _children.pop(pid, None)


def family(process: psutil.Process) -> list[psutil.Process]:
    """Return a process with all its descendants."""
    try:
        return [process, *process.children(recursive=True)]
    except _GONE:
        return []


def listens(process: psutil.Process, port: int) -> bool:
    """Say whether a process or one of its descendants listens on a TCP port: an answer may come from somebody else."""
    for member in family(process):
        try:
            found = member.net_connections(kind="tcp")
        except _GONE:
            continue
        except psutil.AccessDenied:  # a system that does not tell
            return True
        if any(each.status == psutil.CONN_LISTEN and each.laddr[1] == port for each in found):
            return True
    return False


def strays(mark: str) -> list[psutil.Process]:
    """Return live processes of the stack ``mark`` that we may look at, with or without a pid file."""
    return [process for process in psutil.process_iter() if _carries(process, mark)]


def _carries(process: psutil.Process, mark: str) -> bool:
    try:
        return (
            process.pid != os.getpid()
            and process.environ().get(MARK) == mark
            and process.status() != psutil.STATUS_ZOMBIE
        )
    except (*_GONE, psutil.AccessDenied, OSError):
        return False


def send(processes: Iterable[psutil.Process], signum: int) -> None:
    """Signal processes; those that are gone are passed over."""
    for process in processes:
        try:
            process.send_signal(signum)
        except _GONE:
            continue


def wait_gone(processes: Iterable[psutil.Process], timeout: float) -> list[psutil.Process]:
    """Wait until the processes have ended; return those that have not."""
    deadline = Deadline.after(timeout)
    left = list(processes)
    while left and not deadline.passed():
        reap()
        _, left = psutil.wait_procs(left, timeout=min(0.1, deadline.remaining()))
        left = [process for process in left if not _is_gone(process)]
    reap()
    return left


def _is_gone(process: psutil.Process) -> bool:
    try:
        # Killed, a server with many threads is a zombie before the last of them has ended and given up its ports.
        ended = process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1
        return ended or not process.is_running()
    except _GONE:
        return True


def end(targets: Sequence[tuple[psutil.Process, int]], timeout: float) -> None:
    """Ask each process to stop with its own signal, and kill it with its family if it has not by the deadline."""
    families = [member for process, _ in targets for member in family(process)]
    for process, signum in targets:
        send([process], signum)
    left = wait_gone(families, timeout)
    send(left, signal.SIGKILL)
    wait_gone(left, 10)
