"""Where a drill takes place: at a staging stack nothing is struck but its own workers, and nothing is touched."""

from __future__ import annotations

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tailrace import project
from tailrace.deadline import wait_for
from tailrace.drill import schedule
from tailrace.drill.faults import Injector
from tailrace.drill.ground import Ground, copy, staging
from tailrace.drill.network import Network
from tailrace.drill.run import Drill, Options
from tailrace.drill.schedule import Fault
from tailrace.endpoints import Endpoints
from tailrace.errors import Refused, UsageError
from tests.providers import ROOT

SERVERS = Endpoints(
    "postgresql://user:secret@127.0.0.1:1", "127.0.0.1:2", "http://127.0.0.1:3", "http://127.0.0.1:4/apis/ccompat/v7",
    "http://127.0.0.1:5", "http://127.0.0.1:6", "http://127.0.0.1:7",
)  # fmt: skip


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    """Give a copy of the reference project that has addresses of its own."""
    folder = copy(ROOT, tmp_path / "bank")
    SERVERS.save(folder)
    return folder


def written(folder: Path) -> dict[Path, int]:
    """Tell when each file of a project was written; Python may keep its bytecode beside its functions."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}


def nothing(_: str) -> None:
    """Say nothing."""


def test_a_drill_at_a_staging_stack_strikes_workers_only(bank: Path) -> None:
    drill = Drill(Options(bank, 1, 3600, staging=True), nothing)
    assert {fault.kind for fault in drill.faults} == set(schedule.OF_WORKERS)
    with pytest.raises(UsageError) as caught:
        Drill(Options(bank, 1, 60, kinds=[schedule.KILL_SERVER], staging=True), nothing)
    assert schedule.SCALE in caught.value.hint


def test_a_drill_in_which_nothing_would_strike_is_refused(bank: Path) -> None:
    with pytest.raises(UsageError):
        Drill(Options(bank, 1, 60, kinds=[schedule.SCALE], only=["s3"]), nothing)


def test_a_staging_stack_is_reached_from_a_copy_under_the_same_addresses(bank: Path, tmp_path: Path) -> None:
    before = written(bank)
    with staging(bank, tmp_path) as ground:
        assert ground.project.endpoints == SERVERS
        assert ground.project.folder != bank
        assert (ground.stack, ground.network, ground.environment) == (None, None, {})
    assert written(bank) == before


@pytest.mark.parametrize("kind", [schedule.KILL_SERVER, schedule.PAUSE_SERVER, schedule.CUT])
def test_servers_of_others_are_refused_even_if_a_schedule_names_them(bank: Path, kind: str) -> None:
    ground = Ground(project.load(bank))
    injector = Injector(ground, pid=0, kinds={}, stop=threading.Event(), last_look=lambda: None)
    with pytest.raises(Refused):
        injector.strike(Fault(kind, "s3"))


def test_a_drill_on_a_stack_of_its_own_is_the_banks(tmp_path: Path) -> None:
    other = copy(ROOT / "examples" / "leaderboard", tmp_path / "other")
    with pytest.raises(Refused):
        Drill(Options(other, 1, 60), nothing)
    assert Drill(Options(other, 1, 60, staging=True), nothing).faults


def test_workers_get_the_proxies_and_the_connector_its_way_to_postgres(bank: Path) -> None:
    connector = bank / "connectors" / "bank.json"
    with Network(SERVERS, kafka=("127.0.0.1:20", 0)) as network:
        network.lead(connector)
        environment = network.environment
    assert set(environment) == {f"TAILRACE_{name}" for name in ("REGISTRY", "DYNAMODB", "S3", "OPENSEARCH", "KAFKA")}
    assert environment["TAILRACE_REGISTRY"].endswith("/apis/ccompat/v7")
    assert not set(environment.values()) & {SERVERS.registry, SERVERS.dynamodb, SERVERS.s3, SERVERS.opensearch}
    config = json.loads(connector.read_text())
    assert (config["database.hostname"], config["database.port"].isdigit()) == ("127.0.0.1", True)
    assert project.load(bank).connector.database == "bank"


def test_a_way_stays_bad_until_somebody_has_gone_it_or_the_drill_ends() -> None:
    over = threading.Event()
    with Network(SERVERS, kafka=("127.0.0.1:20", 0)) as network, ThreadPoolExecutor(1) as crew:
        port = urlsplit(network.environment["TAILRACE_DYNAMODB"]).port or 0

        def went() -> bool:
            with suppress(ConnectionResetError), closing(socket.create_connection(("127.0.0.1", port), timeout=5)):
                pass  # it may be reset before this side knows that it was there
            return struck.done()

        struck = crew.submit(network.strike, Fault(schedule.CUT, "dynamodb"), over)
        wait_for(went, timeout=10, what="the way to be good again")
        assert struck.result() > 0

        unmet = crew.submit(network.strike, Fault(schedule.CUT, "s3"), over)
        over.set()
        assert unmet.result(timeout=10) == 0
