"""Threads that write while the main thread polls.

They are daemons, unlike those of concurrent.futures: a write that hangs past the drain cannot keep a stopping worker
alive. What it leaves behind is an uncommitted batch, which the successor writes again.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, wait
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

T = TypeVar("T")
THREADS, FEWEST = 8, 2  # of a worker with one topic; of each topic at least


class Crew:
    """At most ``size`` daemon threads that run what is submitted, first come first served; made when needed."""

    def __init__(self, size: int) -> None:
        self._size, self._made = size, 0
        self._queue: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._lock = threading.Lock()

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Run ``call`` in a thread; its result or its error is in the future."""
        future: Future[T] = Future()
        self._queue.put((future, call))
        with self._lock:
            if self._made < self._size and not self._idle.acquire(blocking=False):
                threading.Thread(target=self._work, name=f"sink-{self._made}", daemon=True).start()
                self._made += 1
        return future

    def close(self) -> None:
        """Let every thread end after what it is doing."""
        for _ in range(self._made):
            self._queue.put(None)

    def _work(self) -> None:
        while (task := self._queue.get()) is not None:
            future, call = task
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 - handed over to the main thread, which raises it
                future.set_exception(error)
            self._idle.release()


class Crews:
    """A crew for each topic: a store that hangs keeps the threads of its own topics and no other's.

    A worker of one topic has eight threads; many topics have two each.
    """

    def __init__(self, topics: Collection[str]) -> None:
        size = max(FEWEST, THREADS // max(1, len(topics)))
        self._crews = {topic: Crew(size) for topic in topics}

    def submit(self, topic: str, call: Callable[[], T]) -> Future[T]:
        """Run ``call`` in a thread of the topic's crew."""
        return self._crews[topic].submit(call)

    def close(self) -> None:
        """Let every thread end after what it is doing."""
        for crew in self._crews.values():
            crew.close()


def within(seconds: float, call: Callable[[], object]) -> bool:
    """Run ``call`` in a thread of its own and wait at most so long; say whether it came to its end.

    What it raises is raised. One that hangs is left behind.
    """
    crew = Crew(1)
    job = crew.submit(call)
    crew.close()
    wait([job], seconds)
    if job.done():
        job.result()
    return job.done()
