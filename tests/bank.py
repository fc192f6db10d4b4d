"""A copy of the reference project on the stack of the tests, with names of its own, and its commands as typed."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from tailrace import project
from tailrace.crashpoint import VARIABLE
from tailrace.deadline import wait_for
from tailrace.demo import database
from tailrace.health import RunFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tailrace.crashpoint import CrashPoint
    from tests.providers import RunningStack

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("connectors", "schemas", "processors", "sinks", "migrations")
STOP_SECONDS = 60
RENAMED = {
    "tailrace.toml": (('"bank"', '"{name}"'), ("bank-lake", "{name}-lake")),
    "connectors/bank.json": (
        ("bank.raw", "{name}.raw"),
        ("tailrace_bank", "tailrace_{name}"),
        ("bank.notifications", "{name}.notifications"),
        ('"bank"', '"{name}"'),
        ('"poll.interval.ms": "20"', '"poll.interval.ms": "100"'),  # asking 50 times a second costs 8 % of a core
    ),
    "sinks/dynamodb.py": (('"bank"', '"{name}"'),),
    "sinks/search.py": (('    "customers"', '    "{name}-customers"'),),
}


@dataclass(frozen=True)
class Bank:
    """One copy, in ``folder``; its pipeline, database, table and so on are called ``name``."""

    folder: Path
    name: str

    def load(self) -> project.Project:
        return project.load(self.folder)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "tailrace", *arguments, "--project", str(self.folder)]

    def tailrace(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        return subprocess.run(
            self.command(*arguments), capture_output=True, text=True, timeout=timeout, check=False, cwd=ROOT
        )

    def must(self, *arguments: str, timeout: float = 120) -> str:
        """Run one command that has to succeed and return what it printed."""
        done = self.tailrace(*arguments, timeout=timeout)
        assert done.returncode == 0, f"{arguments} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def json(self, *arguments: str, timeout: float = 120) -> Any:
        return json.loads(self.must(*arguments, "--json", timeout=timeout))

    def dies(self, at: CrashPoint, *arguments: str, timeout: float = 120) -> None:
        """Run one command that dies at a crash point."""
        done = subprocess.run(
            self.command(*arguments), capture_output=True, text=True, timeout=timeout, check=False, cwd=ROOT,
            env={**os.environ, VARIABLE: at.spelled},
        )  # fmt: skip
        assert done.returncode == -signal.SIGKILL, f"{arguments} lived past {at}\n{done.stdout}\n{done.stderr}"

    @contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a command beside the test and end it in good order."""
        log = self.folder / ".tailrace" / "logs" / f"test-{'-'.join(arguments[:3])}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            process = subprocess.Popen(self.command(*arguments), stdout=output, stderr=output, start_new_session=True)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(STOP_SECONDS)

    def pid(self, worker: str) -> int:
        """Return the process of a worker, once it runs."""
        return wait_for(lambda: self._alive(worker), timeout=60, what=f"the worker {worker} to run")

    def kill(self, worker: str) -> int:
        """Kill a worker without a word and return the pid it had."""
        pid = self.pid(worker)
        os.kill(pid, signal.SIGKILL)
        return pid

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the bank's own database."""
        loaded = self.load()
        url = loaded.endpoints.database(loaded.connector.database)
        with closing(database.connect(url, autocommit=True)) as opened, opened.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def remove(self) -> None:
        """Remove connector and slot, so that no later test pays for them."""
        loaded = self.load()
        httpx.delete(f"{loaded.endpoints.connect}/connectors/{loaded.connector.name}", timeout=30)
        slot = loaded.connector.slot
        drop = f"select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = '{slot}'"

        def dropped() -> bool:
            self.query(f"{drop} and not active")
            return not self.query(f"select from pg_replication_slots where slot_name = '{slot}'")

        wait_for(dropped, timeout=30, what=f"the slot {slot} to be dropped")

    def _alive(self, worker: str) -> int | None:
        pid = RunFile(self.folder, worker).read().get("pid")
        if pid is None:
            return None
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        return pid


def copy(stack: RunningStack, folder: Path, prefix: str) -> Bank:
    """Copy the reference project into ``folder``, under a name that nobody used before."""
    name = f"{prefix}{secrets.token_hex(3)}"
    shutil.copy(ROOT / "tailrace.toml", folder / "tailrace.toml")
    for part in PARTS:
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for place, pairs in RENAMED.items():
        text = (folder / place).read_text()
        for old, new in pairs:
            assert old in text, f"{place} no longer says {old}"
            text = text.replace(old, new.format(name=name))
        (folder / place).write_text(text)
    (folder / "connectors" / "bank.json").rename(folder / "connectors" / f"{name}.json")
    stack.endpoints.save(folder)
    return Bank(folder, name)
