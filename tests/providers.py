"""Where tests get their servers from: the embedded stack, containers, or addresses from the environment.

``TAILRACE_TEST_STACK`` chooses: ``embedded`` (the default), ``compose`` (docker-compose.yml, where a Docker engine
answers) or ``external`` (``TAILRACE_POSTGRES``, ``TAILRACE_KAFKA`` and so on). Whatever does not start is an error.
"""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tailrace.endpoints import Endpoints, resolve
from tailrace.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
VARIABLE = "TAILRACE_TEST_STACK"
COMPOSE_SERVICES = ["postgres", "kafka", "registry", "connect", "dynamodb", "s3", "opensearch"]


@dataclass(frozen=True)
class RunningStack:
    """Servers that work, and the project folder whose .tailrace/endpoints.json says where they are.

    ``embedded`` is there only where the servers are ours to kill and start again.
    """

    endpoints: Endpoints
    folder: Path
    embedded: Stack | None = None


@contextmanager
def embedded(folder: Path) -> Iterator[RunningStack]:
    """Start a stack of its own in ``folder``; it dies with the test process; its logs outlive it."""
    stack = Stack(folder)
    try:
        yield RunningStack(stack.up(print, bound=True), folder, stack)
    finally:
        logs = stack.logs("kafka").parent
        shutil.copytree(logs, folder / "logs", dirs_exist_ok=True)
        stack.wipe()


@contextmanager
def compose(folder: Path) -> Iterator[RunningStack]:
    """Start the servers of docker-compose.yml, without its workers."""
    from testcontainers.compose import DockerCompose

    with DockerCompose(ROOT, "docker-compose.yml", services=COMPOSE_SERVICES, wait=True):
        endpoints = Endpoints(
            postgres="postgresql://tailrace:tailrace@127.0.0.1:5432",
            kafka="127.0.0.1:9092",
            connect="http://127.0.0.1:8083",
            registry="http://127.0.0.1:8080/apis/ccompat/v7",
            dynamodb="http://127.0.0.1:8000",
            s3="http://127.0.0.1:7070",
            opensearch="http://127.0.0.1:9200",
        )
        endpoints.save(folder)
        yield RunningStack(endpoints, folder)


@contextmanager
def external(folder: Path) -> Iterator[RunningStack]:
    """Use the servers the environment names."""
    endpoints = resolve(folder, {}, os.environ)
    endpoints.save(folder)
    yield RunningStack(endpoints, folder)


PROVIDERS = {"embedded": embedded, "compose": compose, "external": external}
