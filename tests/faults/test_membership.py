"""A supervised worker that dies and comes back moves no partition; one that is asked to stop leaves at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from tailrace import topics
from tailrace.deadline import Deadline, wait_for
from tailrace.health import RunFile
from tests.mortal import ROOT, Parcels

if TYPE_CHECKING:
    from pathlib import Path

    from tests.providers import RunningStack


def instances(parcels: Parcels) -> list[tuple[str | None, str]]:
    """Return the members of the group: instance and member id."""
    group = topics.group(parcels.name, "dynamodb")
    found = parcels.admin.client.describe_consumer_groups([group], request_timeout=15)[group].result()
    return [(member.group_instance_id, member.member_id) for member in found.members]


def test_a_killed_worker_is_back_before_its_session_ends_and_a_stopped_one_leaves_its_group(
    stack: RunningStack, tmp_path: Path
) -> None:
    parcels = Parcels(tmp_path / "project", stack.endpoints, ["dynamodb"])
    command = [sys.executable, "-m", "tailrace", "run", "all", "--only", "dynamodb", "--project", str(parcels.folder)]
    supervisor = subprocess.Popen(command, cwd=ROOT)
    try:
        parcels.traffic()
        parcels.settle()
        ((name, member),) = instances(parcels)
        assert name is not None
        os.kill(RunFile(parcels.folder, "dynamodb").read()["pid"], signal.SIGKILL)
        parcels.traffic()
        parcels.settle()
        ((again, another),) = instances(parcels)
        assert (again, another != member) == (name, True)
        supervisor.terminate()
        assert supervisor.wait(45) == 0
        begun = Deadline.after(5)  # a static member that said nothing would be waited for 45 s
        wait_for(lambda: parcels.admin.members(topics.group(parcels.name, "dynamodb")) == 0, timeout=5, what="nobody")
        assert not begun.passed()
        assert parcels.differences() == []
    finally:
        supervisor.kill()
        supervisor.wait(30)
        parcels.remove()
