"""Workers on this machine, as their run files and health ports say: who runs, as which process, ready or not.

A run file may outlive its process and a process id may be given to somebody else, so a worker counts as running only
while its own health port answers with its name, or while the process is one of ours.
"""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Any

import psutil

from tailrace.health import RunFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tailrace.project import Project

ANSWERS_WITHIN = 1.0


@dataclass(frozen=True, slots=True)
class Held:
    """A table that waits for its contract in one worker: what is wrong, what to do, why it does not go on by itself."""

    table: str
    problem: str
    hint: str
    why: str
    partitions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LocalWorker:
    """One running worker process. ``supervised`` says that `tailrace run all` is its parent.

    ``held`` are the tables that wait, ``notes`` what it says of tables that flow, both by raw topic.
    """

    name: str
    pid: int
    ready: bool
    doing: str
    supervised: bool
    held: Mapping[str, Held] = field(default_factory=dict)
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def find(project: Project, name: str) -> LocalWorker | None:
    """Return the worker ``name`` where it runs on this machine, else None."""
    written = RunFile(project.folder, name).read()
    if not written:
        return None
    try:
        process = psutil.Process(written["pid"])
        command = process.cmdline()
        parent = process.parent()
        above = parent.cmdline() if parent else []
    except psutil.Error:
        return None
    said = _ready(written["port"])
    if said.get("worker") != name and not _ours(command, name):
        return None
    supervised = "run" in above and "all" in above
    doing = str(said.get("doing") or "no answer")
    held = {topic: Held(**{**found, "partitions": tuple(found["partitions"])}) for topic, found in _of(said, "held")}
    notes = {topic: tuple(found) for topic, found in _of(said, "notes")}
    return LocalWorker(name, process.pid, bool(said.get("ready")), doing, supervised, held, notes)


def _of(said: Mapping[str, Any], part: str) -> Iterable[tuple[str, Any]]:
    found = said.get(part)
    return found.items() if isinstance(found, dict) else ()


def _ours(command: list[str], name: str) -> bool:
    return name in command and any("tailrace" in part for part in command)


def _ready(port: int) -> dict[str, Any]:
    """Return what a health port says, nothing when nobody answers there."""
    try:
        with closing(HTTPConnection("127.0.0.1", port, timeout=ANSWERS_WITHIN)) as connection:
            connection.request("GET", "/ready")
            found: dict[str, Any] = json.loads(connection.getresponse().read())
    except (OSError, HTTPException, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
