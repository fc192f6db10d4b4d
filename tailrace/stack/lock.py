"""A file that one process at a time may hold, waited for with a deadline. The kernel frees it when its holder dies."""

from __future__ import annotations

import fcntl
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tailrace.deadline import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def held(path: Path, *, timeout: float, what: str, every: float = 0.1) -> Iterator[None]:
    """Hold the file, made if need be; Unreachable when others hold it for ``timeout`` seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:

        def locked() -> bool:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        wait_for(locked, timeout=timeout, what=what, every=every)
        yield
