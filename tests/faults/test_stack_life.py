"""No process is left behind, however the stack or the one who started it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tailrace.deadline import wait_for
from tailrace.endpoints import saved
from tailrace.stack import Stack, process
from tailrace.stack.home import root_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECONDS = 120


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A project folder whose stack is removed in the end."""
    yield tmp_path
    Stack(tmp_path).wipe()


def start(folder: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tailrace", "stack", "up", *options, "--project", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def left(folder: Path) -> list[int]:
    return [found.pid for found in process.strays(str(root_of(folder)))]


def wait_until_none_is_left(folder: Path) -> None:
    wait_for(lambda: not left(folder), timeout=SECONDS, what="every process of the stack to end")


def wait_until_one_has_started(folder: Path) -> None:
    pid_files = root_of(folder) / "run"
    wait_for(lambda: any(pid_files.glob("*.json")), timeout=SECONDS, what="a service to be started")


def test_a_stack_outlives_the_command_that_started_it_until_down_ends_all_of_it(folder: Path) -> None:
    with start(folder) as command:
        assert command.wait(SECONDS) == 0
    states = {service.state for service in Stack(folder).status()}
    addresses = saved(folder)

    done = subprocess.run([sys.executable, "-m", "tailrace", "stack", "down", "--project", folder], check=False)

    assert states == {"ready"}
    assert set(addresses) == {service.name for service in Stack(folder).status()}
    assert done.returncode == 0
    assert left(folder) == []
    assert saved(folder) == {}


def test_a_stack_bound_to_a_process_that_is_killed_ends_with_it_and_keeps_its_ports(folder: Path) -> None:
    with start(folder, "--foreground") as command:
        wait_for(lambda: saved(folder), timeout=SECONDS, what="the stack to be up")
        ports = {service.name: service.address for service in Stack(folder).status()}
        command.kill()

    wait_until_none_is_left(folder)
    assert {service.name: service.address for service in Stack(folder).status()} == ports


@pytest.mark.parametrize("options", [[], ["--foreground"]])
def test_a_start_that_is_killed_half_way_leaves_no_process(folder: Path, options: list[str]) -> None:
    with start(folder, *options) as command:
        wait_until_one_has_started(folder)
        command.kill()

    wait_until_none_is_left(folder)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_start_that_is_interrupted_says_so_and_leaves_no_process(folder: Path, signum: int) -> None:
    with start(folder) as command:
        wait_until_one_has_started(folder)
        command.send_signal(signum)
        _, words = command.communicate(timeout=SECONDS)

    assert command.returncode == 130
    assert b"interrupted" in words
    assert left(folder) == []
