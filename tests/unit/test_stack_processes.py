"""Pid files, ports and the home of a stack: what is ours is known, and nothing else is touched."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psutil
import pytest

from tailrace.deadline import wait_for
from tailrace.errors import Refused, Unreachable, UsageError
from tailrace.stack import Stack, artifacts, claims, kafka, ports, process
from tailrace.stack.cache import Cache
from tailrace.stack.home import exclusive, open_home, root_of
from tailrace.stack.postgres import reachable
from tailrace.stack.process import Account, Launch, Record
from tailrace.stack.startup import last_words

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STUBBORN = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"

HEADLESS = """
import ctypes, platform, sys, threading
threading.Thread(target=sys.stdin.read).start()
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[platform.machine()], 0)  # exit, of the main thread alone
"""


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Record]:
    """A process of a stack that ends only when it is made to."""
    launch = Launch([sys.executable, "-c", STUBBORN], cwd=tmp_path)
    log = tmp_path / "log"
    record = process.spawn(launch, log=log, mark=str(tmp_path))
    wait_for(lambda: "up" in log.read_text(), timeout=10, what="the process to be up")
    yield record
    process.end([(found, signal.SIGKILL) for found in process.strays(str(tmp_path))], 5)


def test_a_record_means_its_process(sleeper: Record, tmp_path: Path) -> None:
    sleeper.save(tmp_path / "pid.json")

    kept = process.read(tmp_path / "pid.json")

    assert kept == sleeper
    assert kept is not None
    assert kept.process() is not None


def test_a_recycled_pid_is_never_taken_for_the_service(sleeper: Record) -> None:
    recycled = Record(sleeper.pid, sleeper.created - 60)

    assert recycled.process() is None


def test_a_torn_or_missing_pid_file_means_nothing_runs(tmp_path: Path) -> None:
    (tmp_path / "torn.json").write_text('{"pid": 1')
    (tmp_path / "strange.json").write_text('{"number": 1}')

    assert process.read(tmp_path / "torn.json") is None
    assert process.read(tmp_path / "strange.json") is None
    assert process.read(tmp_path / "missing.json") is None


def test_a_process_that_ignores_the_polite_signal_is_killed_at_the_deadline(sleeper: Record) -> None:
    found = sleeper.process()
    assert found is not None

    process.end([(found, signal.SIGTERM)], 0.3)

    assert sleeper.process() is None


def test_a_process_whose_head_is_dead_is_not_gone_before_its_last_thread() -> None:
    with subprocess.Popen([sys.executable, "-c", HEADLESS], stdin=subprocess.PIPE) as child:
        found = psutil.Process(child.pid)
        wait_for(lambda: found.status() == psutil.STATUS_ZOMBIE, timeout=10, what="the head to end")

        assert process.wait_gone([found], 0.2) == [found]

        assert child.stdin is not None
        child.stdin.close()
        assert process.wait_gone([found], 10) == []


def test_a_process_without_a_pid_file_is_found_by_its_mark_and_by_no_other(sleeper: Record, tmp_path: Path) -> None:
    assert [found.pid for found in process.strays(str(tmp_path))] == [sleeper.pid]
    assert process.strays(str(tmp_path / "other")) == []


def test_services_do_not_inherit_settings_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("JAVA_TOOL_OPTIONS", "KAFKA_OPTS", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "HTTP_PROXY"):
        monkeypatch.setenv(name, "x")

    assert set(process.minimal_environment(str(tmp_path))) <= {*process.KEPT, "LANG", "LC_ALL", process.MARK}


def test_a_taken_port_is_named_with_its_owner() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(Refused) as refusal:
            ports.require_free("kafka", port)

    assert f"Port {port}, wanted for kafka" in refusal.value.problem
    assert f"{psutil.Process().name()} (pid {os.getpid()})" in refusal.value.detail
    assert ports.is_free(port)


def test_ports_stay_the_same_over_restarts() -> None:
    first = ports.assign({}, {}, fresh=True)

    assert ports.assign(first, {}, fresh=True) == first
    assert len(set(first.values())) == len(ports.NAMES)


def test_a_kept_port_that_somebody_took_is_replaced_while_nothing_of_the_stack_runs() -> None:
    first = ports.assign({}, {}, fresh=True)
    with socket.create_server(("127.0.0.1", first["kafka"])):
        while_stopped = ports.assign(first, {}, fresh=True)
        while_running = ports.assign(first, {}, fresh=False)

    assert while_running == first
    assert {name for name in first if first[name] != while_stopped[name]} == {"kafka"}


def test_a_configured_port_is_taken_at_its_word() -> None:
    assert ports.assign({"kafka": 20001}, {"kafka": 19092}, fresh=True)["kafka"] == 19092


@pytest.mark.parametrize(("name", "port"), [("kafk", 9092), ("kafka", 0), ("kafka", 70000), ("opensearch", 9200)])
def test_a_port_no_service_can_have_is_a_usage_error(name: str, port: int) -> None:
    with pytest.raises(UsageError):
        ports.check({name: port})


def test_state_is_kept_and_readable_by_its_owner_alone(tmp_path: Path) -> None:
    cache = Cache(artifacts.load(), tmp_path / "cache")
    root_of(tmp_path).mkdir(parents=True)
    home = open_home(tmp_path, cache)
    home.assign_ports({}, fresh=True)

    again = open_home(tmp_path, cache)

    assert again.state == home.state
    assert stat.S_IMODE((home.root / "state.json").stat().st_mode) == 0o600
    assert home.state.postgres_password in home.endpoints().postgres


def test_stacks_that_choose_at_the_same_moment_have_no_port_in_common(tmp_path: Path) -> None:
    cache = Cache(artifacts.load(), tmp_path / "cache")
    homes = [open_home(tmp_path / f"stack {number}", cache) for number in range(12)]
    for home in homes:
        home.root.mkdir(parents=True)

    with ThreadPoolExecutor(len(homes)) as pool:
        list(pool.map(lambda home: home.assign_ports({}, fresh=True), homes))

    chosen = [port for home in homes for port in home.state.ports.values()]
    assert len(chosen) == len(set(chosen))


def test_where_every_port_is_claimed_a_free_one_is_taken_all_the_same() -> None:
    assert ports.choose("opensearch", (), ports.RANGES["opensearch"]) in ports.RANGES["opensearch"]


def test_a_stack_that_was_wiped_claims_nothing_and_one_that_is_down_keeps_its_ports(tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("wiped", "down", "own")}
    for folder in folders.values():
        folder.mkdir()
    with claims.held(tmp_path, folders["wiped"]) as held:
        held.set([20001])
    with claims.held(tmp_path, folders["down"]) as held:
        held.set([20002])
    folders["wiped"].rmdir()

    with claims.held(tmp_path, folders["own"]) as held:
        assert held.others == {20002}


def test_a_port_counts_as_ours_only_where_our_process_listens_on_it() -> None:
    ours = psutil.Process()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert process.listens(ours, port)
        with subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as other:
            assert not process.listens(psutil.Process(other.pid), port)
    assert not process.listens(ours, port)


def test_two_stacks_have_different_secrets_and_ids(tmp_path: Path) -> None:
    cache = Cache(artifacts.load(), tmp_path / "cache")
    one, two = (open_home(tmp_path / name, cache).state for name in ("one", "two"))

    assert one.postgres_password != two.postgres_password
    assert one.cluster_id != two.cluster_id


def test_only_one_command_at_a_time_changes_a_stack(tmp_path: Path) -> None:
    refused: list[str] = []

    def second() -> None:
        try:
            with exclusive(tmp_path, timeout=0.2):
                refused.append("entered")
        except Unreachable as error:
            refused.append(error.problem)

    with exclusive(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(10)

    assert len(refused) == 1
    assert "another `tailrace stack` command" in refused[0]


def test_a_folder_below_a_private_one_cannot_be_reached_by_another_account(tmp_path: Path) -> None:
    private = tmp_path / "private"
    inner = private / "inner"
    inner.mkdir(parents=True)
    private.chmod(0o700)
    stranger = Account(uid=os.getuid() + 54321, gid=os.getgid() + 54321)

    assert not reachable(inner, stranger)


def test_a_stack_that_was_never_started_is_stopped_and_says_how_to_start(tmp_path: Path) -> None:
    stack = Stack(tmp_path, cache=Cache(artifacts.load(), tmp_path / "cache"))

    assert {service.state for service in stack.status()} == {"stopped"}
    with pytest.raises(Refused, match="tailrace stack up"):
        stack.start("kafka")
    with pytest.raises(UsageError, match="postgres, kafka"):
        stack.logs("kafk")


def test_a_log_ends_in_one_readable_line(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"first\n\n  second \xff\n")

    assert last_words(tmp_path / "log") == "first / second \ufffd"
    assert last_words(tmp_path / "missing") == "(no log)"


def test_kafka_listens_on_this_machine_alone(tmp_path: Path) -> None:
    text = kafka.properties(data=tmp_path, broker=1, controller=2, behind=3, proxy=4)
    lines = dict(line.split("=", 1) for line in text.splitlines())

    assert lines["listeners"] == "PLAINTEXT://127.0.0.1:1,PROXIED://127.0.0.1:3,CONTROLLER://127.0.0.1:2"
    assert lines["advertised.listeners"] == "PLAINTEXT://127.0.0.1:1,PROXIED://127.0.0.1:4"
    assert lines["auto.create.topics.enable"] == "false"


def test_the_status_of_a_service_is_plain_json(tmp_path: Path) -> None:
    stack = Stack(tmp_path, cache=Cache(artifacts.load(), tmp_path / "cache"))

    assert json.loads(json.dumps([service.as_dict() for service in stack.status()]))


def test_a_tool_that_is_interrupted_does_not_run_on(tmp_path: Path) -> None:
    launch = Launch([sys.executable, "-c", STUBBORN], cwd=tmp_path)

    with pytest.raises(subprocess.TimeoutExpired):
        process.run_tool(launch, log=tmp_path / "log", mark=str(tmp_path), timeout=0.5)

    assert process.strays(str(tmp_path)) == []
