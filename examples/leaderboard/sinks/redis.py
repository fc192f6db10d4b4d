"""The best players of each game, as sorted sets in Redis (or Valkey): a sink of one's own.

``players:board:<game>`` orders the ids of players by score. The hash ``players:rows`` keeps, for each id, the version
that was written last and the board it went to: whatever is not newer changes nothing, and a delete leaves its version
there for ever. One script looks and writes, so nothing comes in between. A score that a double would round is rejected.
The server must have ``appendonly yes``: a batch is over when WAITAOF says that it is on disk.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from redis import Redis
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import OutOfMemoryError
from redis.exceptions import TimeoutError as TooSlow

from tailrace import Change, Rejection, Retryable

WRITE = """
local row = redis.call('HGET', KEYS[1], ARGV[1])
if row and string.sub(row, 1, 20) >= ARGV[2] then return 0 end
if row and #row > 20 then redis.call('ZREM', string.sub(row, 21), ARGV[1]) end
if ARGV[3] ~= '' then redis.call('ZADD', ARGV[3], ARGV[4], ARGV[1]) end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ARGV[3])
return 1
"""


class Leaderboard:
    """One board for each value of the field ``board``, ordered by the field ``score``."""

    def __init__(self, url: str, record: str, *, board: str, score: str) -> None:
        self.records, self.fields = (record,), (board, score)
        self._redis: Any = Redis.from_url(url, socket_timeout=30, decode_responses=True)
        self._script = self._redis.register_script(WRITE)

    def write(self, batch: Sequence[Change], *, timeout: float) -> Sequence[Rejection]:
        """Write each change, guarded by its version, in one round trip."""
        rejections, calls = [], self._redis.pipeline(transaction=False)
        for position, change in enumerate(batch):
            [key], place = change.key.values(), self._place(change)
            if place is None:
                rejections.append(Rejection(position, f"A sorted set cannot hold this {self.fields[1]} exactly."))
            else:
                self._script([f"{change.record}:rows"], [key, f"{change.version:020}", *place], calls)
        try:
            if calls.waitaof(1, 0, int(timeout * 1000)).execute()[-1][0] < 1:
                raise Retryable("Redis was too slow to write its file.")
        except (NoConnection, TooSlow, OutOfMemoryError) as error:
            raise Retryable("Redis does not take writes.", detail=type(error).__name__) from error
        return rejections

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def read(self, record: str) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        """Yield key and fields of every row that is on a board, for `tailrace verify`."""
        begin = f"{record}:board:"
        for board in self._redis.scan_iter(f"{begin}*"):
            for player, score in self._redis.zscan_iter(board):
                yield {"id": int(player)}, {self.fields[0]: board.removeprefix(begin), self.fields[1]: int(score)}

    def _place(self, change: Change) -> tuple[str, str] | None:
        if change.value is None:
            return "", ""
        board, score = (change.value[name] for name in self.fields)
        return (f"{change.record}:board:{board}", str(score)) if float(score) == score else None


players = Leaderboard(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379"), "players", board="game", score="score")
