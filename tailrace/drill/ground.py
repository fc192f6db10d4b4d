"""Where a drill takes place: on a stack of its own, or at a staging stack that others own.

Both work on a copy of the project in a folder of the drill's own, so its workers' files meet nobody else's. On its own
stack every server and every way may be struck, and all of it is wiped in the end. At a staging stack nothing is made,
changed or removed but what the workload writes, and only the workers that the drill started itself are struck.
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tailrace import project as projects
from tailrace.control import apply
from tailrace.demo import database, seed
from tailrace.drill.network import Network
from tailrace.errors import Refused
from tailrace.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tailrace.project import Project

PARTS = ("tailrace.toml", "connectors", "schemas", "processors", "sinks", "migrations")


@dataclass(frozen=True)
class Ground:
    """The project under the servers' own addresses, what may be struck, and what workers get in their environment."""

    project: Project
    stack: Stack | None = None
    network: Network | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def own_stack(folder: Path, place: Path, *, number: int, say: Callable[[str], None]) -> Iterator[Ground]:
    """Copy the bank to ``place``, start a stack there, fill the bank, deploy; wipe all of it in the end."""
    copied = copy(folder, place / "project")
    with ExitStack() as cleanup:
        stack = Stack(copied)
        cleanup.callback(stack.wipe)
        say("starting a stack of the drill's own")
        endpoints = stack.up(bound=True)
        project = projects.load(copied)
        if project.endpoints != endpoints:
            raise Refused(
                "The project's addresses are not those of the drill's own stack.",
                detail="TAILRACE_* variables or [endpoints] in tailrace.toml name others.",
                hint="Unset them, or strike there with --staging.",
            )
        name = project.connector.database
        database.prepare(endpoints, name, copied / "migrations")
        with closing(database.connect(endpoints.database(name))) as opened:
            seed.fill(opened, seed=number)
        yield cleanup.enter_context(behind_proxies(project, stack, number=number))


@contextmanager
def behind_proxies(project: Project, stack: Stack, *, number: int) -> Iterator[Ground]:
    """Deploy a project on a stack that may be struck, with a proxy on every way."""
    with Network(project.endpoints, kafka=stack.behind_proxy(), seed=number) as network:
        network.lead(project.folder / "connectors" / f"{project.connector.name}.json")
        project = projects.load(project.folder)
        apply.apply(project)
        yield Ground(project, stack, network, network.environment)


@contextmanager
def staging(folder: Path, place: Path) -> Iterator[Ground]:
    """Copy a project, with the addresses it has; it has to be deployed there already."""
    source = projects.load(folder)
    copied = copy(folder, place / "project")
    source.endpoints.save(copied)
    yield Ground(projects.load(copied))


def copy(folder: Path, target: Path) -> Path:
    """Copy what makes a project, and nothing of what it left behind while it ran."""
    target.mkdir()
    for part in PARTS:
        source = folder / part
        if source.is_dir():
            shutil.copytree(source, target / part, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, target / part)
    return target
