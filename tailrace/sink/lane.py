"""One partition's part in a sink worker: what is buffered, what is being written, when to try again.

A lane has at most one batch in flight, and a batch stays the lane's until it is durable, so offsets move in order and
never past something unwritten. It decides and does nothing: ``tailrace.sink.loop`` acts. Times are monotonic seconds.

All lanes of a worker hold their messages in one ``Pool``. A lane is full when it holds as much as the pool has left, so
that one busy lane may take half of it, many busy lanes share it evenly, and a partition that comes late finds room.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tailrace.sink.writer import Batching

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from tailrace.kafka import Place
    from tailrace.sink.decode import Message
    from tailrace.sink.delivery import Delivered

    Job = Future[Delivered | None]

LONGEST_PAUSE = 10.0
MESSAGE_OVERHEAD = 1000  # bytes of a message that are neither key nor value: headers, names, objects; roughly


@dataclass(slots=True)
class Pool:
    """What the lanes of one worker may hold together, buffered and in flight, and what they do hold."""

    rows: int
    bytes: int
    held_rows: int = 0
    held_bytes: int = 0
    typical: int = 10_000  # bytes of a message, of late

    def fetch(self, most: int) -> int:
        """Return how many messages may be asked for at once, as large as they are of late."""
        rows, size = self.left
        if self.held_rows:
            self.typical = self.held_bytes // self.held_rows
        return max(1, min(most, rows, size // self.typical))

    def take(self, rows: int, size: int) -> None:
        """Count what a lane has got; negative for what it has let go."""
        self.held_rows += rows
        self.held_bytes += size

    @property
    def left(self) -> tuple[int, int]:
        """Rows and bytes that are free; one at least, so that a lane that holds nothing is never full."""
        return max(1, self.rows - self.held_rows), max(1, self.bytes - self.held_bytes)


@dataclass(slots=True)
class Lane:
    """The state of one assigned partition.

    ``batch`` is what is in flight or waiting to be tried again; ``begun`` is false until the sinks that want to know
    where the partition begins have been told.
    """

    place: Place
    batching: Batching
    pool: Pool
    begun: bool = True
    buffer: deque[Message] = field(default_factory=deque)
    size: int = 0
    oldest: float = 0.0
    batch: list[Message] = field(default_factory=list)
    batch_size: int = 0
    job: Job | None = None
    since: float = 0.0  # when the job was started
    attempts: int = 0
    retry_at: float = 0.0
    trouble: str = ""
    paused: bool = False

    def add(self, message: Message, now: float) -> None:
        """Buffer one message."""
        if not self.buffer:
            self.oldest = now
        self.buffer.append(message)
        size = weight(message)
        self.size += size
        self.pool.take(1, size)

    @property
    def held(self) -> tuple[int, int]:
        """Rows and bytes that are buffered or in flight."""
        return len(self.buffer) + len(self.batch), self.size + self.batch_size

    @property
    def full(self) -> bool:
        """Whether nothing more should be fetched for now."""
        (rows, size), (rows_left, size_left) = self.held, self.pool.left
        return rows >= rows_left or size >= size_left

    @property
    def low(self) -> bool:
        """Whether a paused lane should be fetched for again."""
        (rows, size), (rows_left, size_left) = self.held, self.pool.left
        return not rows or (2 * rows <= rows_left and 2 * size <= size_left)

    def release(self) -> None:
        """Let go of everything: the partition is no longer this worker's."""
        rows, size = self.held
        self.pool.take(-rows, -size)
        self.buffer.clear()
        self.size, self.batch, self.batch_size = 0, [], 0

    def wait(self, now: float) -> float | None:
        """Return in how many seconds this lane has something to start; None when only news can tell."""
        if self.job is not None:
            return None
        if self.attempts:
            return max(0.0, self.retry_at - now)
        if not self.begun:
            return 0.0
        if not self.buffer:
            return None
        if self.full or len(self.buffer) >= self.batching.rows or self.size >= self.batching.bytes:
            return 0.0
        return max(0.0, self.oldest + self.batching.linger_seconds - now)

    def take(self) -> list[Message]:
        """Return the batch to write: the one that failed before, else the next one off the buffer."""
        if self.batch:
            return self.batch
        if len(self.buffer) <= self.batching.rows and self.size <= self.batching.bytes:
            self.batch, self.buffer = list(self.buffer), deque()
            self.batch_size, self.size = self.size, 0
            return self.batch
        while self.buffer and len(self.batch) < self.batching.rows and self.batch_size < self.batching.bytes:
            message = self.buffer.popleft()
            self.batch_size += weight(message)
            self.batch.append(message)
        self.size -= self.batch_size
        return self.batch

    def delivered(self) -> int | None:
        """Forget the batch that is durable now; return the offset after it, None when there was no batch."""
        end = self.batch[-1].offset() + 1 if self.batch else None
        self.pool.take(-len(self.batch), -self.batch_size)
        self.batch, self.batch_size = [], 0
        self.job, self.attempts, self.trouble = None, 0, ""
        self.begun = True
        return end

    def put_back(self) -> None:
        """Take back a batch of which nothing was written: it comes before all that is buffered."""
        self.job = None
        self.buffer.extendleft(reversed(self.batch))
        self.size += self.batch_size
        self.batch, self.batch_size, self.attempts, self.trouble = [], 0, 0, ""

    def anew(self) -> None:
        """Have the sinks told again where the partition begins, before its next batch."""
        self.put_back()
        self.begun = False

    def failed(self, problem: str, after: float, now: float) -> float:
        """Keep the batch for another attempt; return in how many seconds."""
        self.job, self.trouble = None, problem
        self.attempts += 1
        delay = pause(self.attempts, after)
        self.retry_at = now + delay
        return delay


def weight(message: Message) -> int:
    """Return the bytes a buffered message takes, roughly."""
    return len(message.value() or b"") + len(message.key() or b"") + MESSAGE_OVERHEAD


def pause(attempts: int, after: float) -> float:
    """Return the seconds before the next attempt: what the store asks, doubled each time up to 10, with jitter."""
    longest = max(after, LONGEST_PAUSE)
    return min(longest, after * 2.0 ** min(attempts - 1, 10)) * random.uniform(0.75, 1.0)  # noqa: S311 - jitter


def smallest(wanted: Sequence[Batching]) -> Batching:
    """Return the batching that suits several sinks of one topic: the smallest of each figure."""
    return Batching(
        min(each.rows for each in wanted),
        min(each.bytes for each in wanted),
        min(each.linger_seconds for each in wanted),
    )
