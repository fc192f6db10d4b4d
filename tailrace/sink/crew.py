"""Threads that write while the main thread polls.

They are daemons, unlike those of concurrent.futures: a write that hangs past the drain cannot keep a stopping worker
alive. What it leaves behind is an uncommitted batch, which the successor writes again.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Crew:
    """``size`` daemon threads that run what is submitted, first come first served."""

    def __init__(self, size: int) -> None:
        self._queue: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._work, name=f"sink-{n}", daemon=True) for n in range(size)]
        for thread in self._threads:
            thread.start()

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Run ``call`` in a thread; its result or its error is in the future."""
        future: Future[T] = Future()
        self._queue.put((future, call))
        return future

    def close(self) -> None:
        """Let every thread end after what it is doing."""
        for _ in self._threads:
            self._queue.put(None)

    def _work(self) -> None:
        while (task := self._queue.get()) is not None:
            future, call = task
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 - handed over to the main thread, which raises it
                future.set_exception(error)
