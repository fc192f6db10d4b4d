import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tailrace.deadline import wait_for
from tailrace.supervisor import Child, Supervisor

FOREVER = "import signal; signal.pause()"


def worker(folder: Path, name: str, program: str) -> Child:
    return Child(name=name, command=[sys.executable, "-c", program], log_path=folder / f"{name}.log")


@contextmanager
def supervised(folder: Path, *children: Child) -> Iterator[tuple[Supervisor, list[str]]]:
    said: list[str] = []
    supervisor = Supervisor(folder=folder, children=list(children), report=said.append)
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    try:
        yield supervisor, said
    finally:
        supervisor.stop.set()
        thread.join(60)
    assert not thread.is_alive()


def pid(child: Child) -> int:
    return wait_for(lambda: child.process.pid if child.process else 0, timeout=10, what="the worker")


def test_a_failing_worker_is_started_again_while_the_others_go_on(tmp_path: Path) -> None:
    good, bad = worker(tmp_path, "good", FOREVER), worker(tmp_path, "bad", "raise SystemExit(70)")
    with supervised(tmp_path, good, bad) as (_, said):
        steady = pid(good)
        wait_for(lambda: len(said) >= 2, timeout=20, what="two failures")
        assert "bad ended with exit code 70" in said[0]
        assert pid(good) == steady


def test_a_killed_worker_comes_back(tmp_path: Path) -> None:
    child = worker(tmp_path, "killed", FOREVER)
    with supervised(tmp_path, child):
        first = pid(child)
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: child.process is not None and child.process.pid != first, timeout=20, what="a new process")


def test_a_held_worker_stays_down_until_the_hold_is_lifted(tmp_path: Path) -> None:
    child = worker(tmp_path, "held", FOREVER)
    hold = tmp_path / ".tailrace" / "run" / "held.hold"
    hold.parent.mkdir(parents=True)
    hold.touch()
    other = worker(tmp_path, "other", FOREVER)
    with supervised(tmp_path, child, other):
        pid(other)
        assert child.process is None
        hold.unlink()
        pid(child)


def test_a_worker_that_a_dead_command_held_is_started(tmp_path: Path) -> None:
    hold = tmp_path / ".tailrace" / "run" / "held.hold"
    hold.parent.mkdir(parents=True)
    hold.write_text(str(2**22 + 1))  # a process number that Linux never gives
    child = worker(tmp_path, "held", FOREVER)
    with supervised(tmp_path, child):
        pid(child)


def test_stopping_the_supervisor_leaves_no_process(tmp_path: Path) -> None:
    children = [worker(tmp_path, name, FOREVER) for name in ("a", "b")]
    with supervised(tmp_path, *children):
        pids = [pid(child) for child in children]
    assert not any(psutil.pid_exists(number) for number in pids)
