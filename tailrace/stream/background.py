"""One background thread that runs calls in order, for work that may take long: conforming, flushing, start-up.

It is a daemon, unlike concurrent.futures' threads: a process that was asked to stop never waits for a silent broker.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
_Job = tuple["Future[Any]", "Callable[[], Any]"]


class Background:
    """Runs what it is given, one call after the other, in a thread of its own."""

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    async def run(self, call: Callable[[], T]) -> T:
        """Run ``call`` in the thread and return what it returns; a cancelled wait does not stop the call."""
        future: Future[T] = Future()
        self._jobs.put((future, call))
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """End the thread after what it is doing."""
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, call = job
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except BaseException as error:  # noqa: BLE001 - it is raised again where the result is awaited
                    future.set_exception(error)
