"""Static members of consumer groups: what a worker is called that keeps its partitions while it is being restarted.

``TAILRACE_INSTANCE`` names a worker that comes back after it died: while its session lasts its group waits for it, and
a quick restart moves no partition. ``tailrace run all`` gives its children such a name, that of their folder on this
machine, and lets go of those that were asked to stop (tailrace.control.leaving), because a static member never says
goodbye by itself. Nothing here speaks to Kafka.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tailrace.endpoints import STATE_FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

INSTANCE = "TAILRACE_INSTANCE"


def member(worker: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the name of a static member, None where the worker is to be a member like any other."""
    instance = environment.get(INSTANCE, "")
    return f"{worker}-{instance}" if instance else None


@contextmanager
def claimed(folder: Path) -> Iterator[str]:
    """Give the instance name of a project folder on this machine; empty while another process here has it."""
    place = folder / STATE_FOLDER / "run" / "instance.lock"
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield ""
            return
        digest = hashlib.blake2b(str(folder.resolve()).encode(), digest_size=4).hexdigest()
        yield f"{socket.gethostname()}-{digest}"
