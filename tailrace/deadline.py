"""Deadlines: a timeout given once, turned into a monotonic instant, passed down.

``wait_for`` is the one place that polls: every wait of Tailrace that is not a blocking client call goes through it.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from tailrace.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Deadline:
    """An instant on the monotonic clock, in seconds."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Return the deadline ``seconds`` from now."""
        return cls(time.monotonic() + seconds)

    def remaining(self) -> float:
        """Return the seconds left, never negative."""
        return max(0.0, self.at - time.monotonic())

    def passed(self) -> bool:
        """Say whether the instant is over."""
        return time.monotonic() >= self.at


def wait_for(
    condition: Callable[[], T | None],
    *,
    timeout: float,
    what: str,
    every: float = 0.1,
    hint: str = "",
    stop: threading.Event | None = None,
) -> T:
    """Call ``condition`` until it returns something true; raise Unreachable after ``timeout`` seconds.

    ``what`` completes the sentence "Waited N s for ...". A set ``stop`` event ends the wait early, the same way.
    """
    deadline = Deadline.after(timeout)
    pause = stop or threading.Event()
    while True:
        result = condition()
        if result:
            return result
        if deadline.passed() or pause.wait(min(every, deadline.remaining() or every)):
            raise Unreachable(f"Waited {timeout:g} s for {what}.", hint=hint)
