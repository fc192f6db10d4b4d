"""Where a stack lives: its folders, ports and secrets, kept in ``<project>/.tailrace/stack``.

``state.json`` (mode 0600) holds the ports, the random Postgres password and the Kafka cluster id. When the folder
cannot be reached by the account that Postgres runs under (we are root, and the project lies in a private folder),
Postgres' part is put below the system's temporary folder, and the state points to it.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import uuid
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tailrace.endpoints import STATE_FOLDER, Endpoints
from tailrace.stack import claims, lock
from tailrace.stack import ports as port_numbers
from tailrace.stack.ports import HOST

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tailrace.stack.cache import Cache

POSTGRES_USER = "tailrace"


@dataclass(slots=True)
class State:
    """What has to be the same after a restart."""

    ports: dict[str, int] = field(default_factory=dict)
    configured: dict[str, int] = field(default_factory=dict)
    postgres_password: str = field(default_factory=lambda: secrets.token_hex(16))
    postgres_home: str = ""
    cluster_id: str = field(default_factory=lambda: base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("="))
    start_seconds: float | None = None


@dataclass(slots=True)
class Home:
    """The folders of one stack, and its state."""

    project: Path
    cache: Cache
    state: State
    recording: Path | None = None  # where the servers write their Java caches when they end, see javacache

    @property
    def root(self) -> Path:
        """Return the folder everything of the stack is in."""
        return root_of(self.project)

    @property
    def mark(self) -> str:
        """Return what every process of this stack carries in its environment."""
        return str(self.root)

    def folder(self, name: str) -> Path:
        """Return the data folder of a service, made if need be."""
        path = self.root / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def pid_file(self, name: str) -> Path:
        """Return the pid file of a service."""
        return self.folder("run") / f"{name}.json"

    def log(self, name: str) -> Path:
        """Return the log file of a service."""
        return self.folder("logs") / f"{name}.log"

    def port(self, name: str) -> int:
        """Return the port that was given to ``name``."""
        return self.state.ports[name]

    def url(self, name: str) -> str:
        """Return the http address of a service."""
        return f"http://{HOST}:{self.port(name)}"

    def endpoints(self) -> Endpoints:
        """Return the addresses clients use."""
        login = f"{POSTGRES_USER}:{self.state.postgres_password}"
        return Endpoints(
            postgres=f"postgresql://{login}@{HOST}:{self.port('postgres')}",
            kafka=f"{HOST}:{self.port('kafka')}",
            connect=self.url("connect"),
            registry=f"{self.url('registry')}/apis/ccompat/v7",  # as Confluent clients take it
            dynamodb=self.url("dynamodb"),
            s3=self.url("s3"),
            opensearch=self.url("opensearch"),
        )

    def save(self) -> None:
        """Write the state, readable by its owner alone."""
        path = self.root / "state.json"
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "w") as stream:
            json.dump(asdict(self.state), stream, indent=1)
        fresh.replace(path)

    def assign_ports(self, configured: Mapping[str, int], *, fresh: bool) -> None:
        """Fix the ports: configured now or earlier, kept, or free."""
        wanted = {**self.state.configured, **configured}
        with claims.held(self.cache.root, self.root) as claimed:
            self.state.ports = port_numbers.assign(self.state.ports, wanted, fresh=fresh, others=claimed.others)
            claimed.set(self.state.ports.values())
        self.state.configured = wanted
        self.save()


def root_of(project: Path) -> Path:
    """Return the folder of the stack of a project."""
    return project.resolve() / STATE_FOLDER / "stack"


def open_home(project: Path, cache: Cache) -> Home:
    """Return the home of a project's stack, with its kept state or a new one; nothing is written."""
    path = root_of(project) / "state.json"
    state = State(**json.loads(path.read_text())) if path.exists() else State()
    return Home(project.resolve(), cache, state)


@contextmanager
def exclusive(project: Path, timeout: float = 120) -> Iterator[None]:
    """Hold the stack's lock, so that two commands at once do not start or stop it at the same time."""
    with lock.held(root_of(project) / "lock", timeout=timeout, what="another `tailrace stack` command to finish"):
        yield
