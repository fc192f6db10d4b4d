"""Faults on demand: a wrapper around any sink, and a queue of what shall go wrong.

Each ``write`` takes the next fault off the queue; when the queue is empty, writes go through. A fault names the error
to raise, so the same three shapes make a store that throttles (Retryable), one that breaks (any error) and one that
did the work but lost the answer.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tailrace.errors import Retryable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tailrace.change import Change, Rejection
    from tailrace.targets import Sink


@dataclass(frozen=True, slots=True)
class FailBefore:
    """Raise without writing anything."""

    error: Exception = field(default_factory=lambda: Retryable("The store is away.", after=0.01))


@dataclass(frozen=True, slots=True)
class FailAfter:
    """Write the batch, then raise: the answer was lost."""

    error: Exception = field(default_factory=lambda: Retryable("The store's answer was lost.", after=0.01))


@dataclass(frozen=True, slots=True)
class Hold:
    """Hold the write until ``release`` is set, then let it through; ``held`` says that it has arrived."""

    held: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    at_most: float = 30.0  # seconds


Fault = FailBefore | FailAfter | Hold


class Faults:
    """A sink that takes faults off ``queue``; everything else is the wrapped sink's."""

    def __init__(self, sink: Sink, *faults: Fault) -> None:
        self.sink = sink
        self.queue: deque[Fault] = deque(faults)

    @property
    def records(self) -> Sequence[str]:
        """The wrapped sink's records."""
        return self.sink.records

    def write(self, batch: Sequence[Change], *, timeout: float) -> Sequence[Rejection]:
        """Write the batch, unless the next fault says otherwise."""
        try:
            fault = self.queue.popleft()
        except IndexError:
            return self.sink.write(batch, timeout=timeout)
        if isinstance(fault, FailBefore):
            raise fault.error
        if isinstance(fault, Hold):
            fault.held.set()
            if not fault.release.wait(fault.at_most):
                raise TimeoutError(f"A held write was not released in {fault.at_most:g} s.")
        answer = self.sink.write(batch, timeout=timeout)
        if isinstance(fault, FailAfter):
            raise fault.error
        return answer

    def close(self) -> None:
        """Close the wrapped sink."""
        self.sink.close()
