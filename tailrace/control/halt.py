"""Workers at rest: those on this machine are stopped and kept from starting again while something is changed.

A worker whose supervisor runs here comes back by itself afterwards. One that runs elsewhere cannot be stopped from
here: it is named, and nothing was changed.
"""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil

from tailrace import topics
from tailrace.control import local
from tailrace.deadline import Deadline, wait_for
from tailrace.endpoints import STATE_FOLDER
from tailrace.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tailrace.kafka import KafkaAdmin
    from tailrace.project import Project

EMPTY_WITHIN = 75.0  # seconds: a worker drains for 20, a static member is remembered for 45


@contextmanager
def halted(
    project: Project, admin: KafkaAdmin, names: Iterable[str], say: Callable[[str], None]
) -> Iterator[tuple[str, ...]]:
    """Stop some workers, keep them stopped inside, and yield those that nobody here starts again."""
    wanted = tuple(names)
    folder = project.folder / STATE_FOLDER / "run"
    folder.mkdir(parents=True, exist_ok=True)
    holds = [folder / f"{name}.hold" for name in wanted]
    try:
        for hold in holds:
            hold.write_text(str(os.getpid()))
        found = {name: worker for name in wanted if (worker := local.find(project, name)) is not None}
        for worker in found.values():
            say(f"stopping {worker.name} (process {worker.pid})")
            _stop(worker)
        _wait_empty(project, admin, wanted, here=set(found))
        yield tuple(name for name in wanted if name not in found or not found[name].supervised)
    finally:
        for hold in holds:
            hold.unlink(missing_ok=True)


def _stop(worker: local.LocalWorker) -> None:
    try:
        process = psutil.Process(worker.pid)
        process.send_signal(signal.SIGTERM)
    except psutil.NoSuchProcess:
        return
    wait_for(
        lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE,
        timeout=EMPTY_WITHIN,
        what=f"the worker {worker.name} (process {worker.pid}) to stop",
        hint=f"Its log is in {STATE_FOLDER}/logs/{worker.name}.log; nothing was changed.",
    )


def _wait_empty(project: Project, admin: KafkaAdmin, names: Iterable[str], *, here: set[str]) -> None:
    """Wait until no group has a member; who runs elsewhere is not waited for."""
    for name in names:
        group = topics.group(project.name, name)
        deadline = Deadline.after(EMPTY_WITHIN if name in here else 0)
        left = _left(admin, group, deadline)
        if left:
            raise Refused(
                f"The group of the worker {name} has {left} members.",
                detail=f"{group} runs somewhere else; this can only be done while nobody is there.",
                hint="Stop every instance of it (all replicas), then run the command again. Nothing was changed.",
            )


def _left(admin: KafkaAdmin, group: str, deadline: Deadline) -> int:
    """Return how many members a group still has at the deadline, 0 as soon as it has none."""
    counts = [0]

    def settled() -> bool:
        counts[0] = admin.members(group)
        return counts[0] == 0 or deadline.passed()

    wait_for(settled, timeout=EMPTY_WITHIN + 30, every=0.3, what=f"the group {group} to be empty")
    return counts[0]
