"""Fetching artifacts in parallel through jgo, which knows where Maven artifacts live.

Each file goes to a staging folder; the caller's ``keep`` verifies and moves it. A wrong or broken download is
tried once more, then named in a clear error; what was fetched before stays.
"""

from __future__ import annotations

import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import requests

from tailrace.errors import Refused, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tailrace.stack.artifacts import Artifact

PARALLEL = 8
READ_TIMEOUT = 60
ATTEMPTS = 2


@dataclass(slots=True)
class Download:
    """How far the fetching is; ``watch`` callbacks get it after every step, from several threads."""

    files: int
    bytes: int
    files_done: int = 0
    bytes_done: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)
    guard: threading.Lock = field(default_factory=threading.Lock)

    def add(self, count: int) -> None:
        """Count bytes that arrived."""
        with self.guard:
            self.bytes_done += count

    def finish(self) -> None:
        """Count a file that is in place."""
        with self.guard:
            self.files_done += 1


def fetch_all(
    artifacts: Sequence[Artifact],
    *,
    staging: Path,
    keep: Callable[[Artifact, Path], None],
    watch: Callable[[Download], None],
) -> None:
    """Fetch every artifact; the first failure stops the rest and is raised."""
    progress = Download(len(artifacts), sum(artifact.size for artifact in artifacts))
    largest_first = sorted(artifacts, key=lambda artifact: -artifact.size)
    with ThreadPoolExecutor(PARALLEL) as pool:
        jobs = [pool.submit(_fetch, item, staging, keep, progress, watch) for item in largest_first]
        try:
            for job in jobs:
                job.result()
        except BaseException:
            progress.stopped.set()
            pool.shutdown(cancel_futures=True)
            raise


def _fetch(
    artifact: Artifact,
    staging: Path,
    keep: Callable[[Artifact, Path], None],
    progress: Download,
    watch: Callable[[Download], None],
) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        counted = 0

        def count(size: int) -> None:
            nonlocal counted
            counted += size
            progress.add(size)
            watch(progress)

        try:
            keep(artifact, _download(artifact, staging / f"{artifact.sha256}-{attempt}", count))
        except (Refused, requests.RequestException, RuntimeError, OSError) as cause:
            progress.add(-counted)
            if attempt == ATTEMPTS or progress.stopped.is_set():
                raise _explained(artifact, cause) from cause
        else:
            progress.finish()
            watch(progress)
            return


def _download(artifact: Artifact, folder: Path, count: Callable[[int], None]) -> Path:
    """Let jgo fetch one artifact below ``folder``; return the file."""
    from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415 - optional, needed only to fetch

    @contextlib.contextmanager
    def counting(_name: str, _size: int) -> Iterator[Callable[[int], None]]:
        yield count

    mirror = os.environ.get("TAILRACE_MAVEN_REPOSITORY", "").rstrip("/")
    context = MavenContext(
        resolver=PythonResolver(progress_callback=counting),
        repo_cache=folder,
        remote_repos={"mirror": mirror} if mirror else None,
        timeout=READ_TIMEOUT,
    )
    group, name, version, packaging, classifier = artifact.parts
    component = context.project(group, name).at_version(version)
    path: Path = component.artifact(classifier=classifier, packaging=packaging).resolve()
    return path


def _explained(artifact: Artifact, cause: Exception) -> Exception:
    """Return the error a person reads."""
    if isinstance(cause, Refused):
        return cause
    return Unreachable(
        f"{artifact.coordinate} could not be fetched.",
        detail=f"{type(cause).__name__} after {ATTEMPTS} attempts.",
        hint="Check the network and proxy settings (HTTPS_PROXY, TAILRACE_MAVEN_REPOSITORY) and run it again: "
        "what was fetched so far is kept.",
    )
