"""The shared cache of artifacts: fetched once, verified by sha256, offline afterwards.

Lives in ``$TAILRACE_CACHE``, else ``$XDG_CACHE_HOME/tailrace``, else ``~/.cache/tailrace``, and is shared by every
stack of the user. A file appears under its final name only after its sum was right, so whatever is there is
whole; archives are unpacked beside it the same way. Which repository serves the files is jgo's knowledge, or
``$TAILRACE_MAVEN_REPOSITORY`` where a mirror is used.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tarfile
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tailrace.errors import Refused
from tailrace.stack.download import Download, fetch_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tailrace.stack.artifacts import Artifact, Lock

UNPACKED_MARK = ".complete"


def default_root() -> Path:
    """Return the cache folder of this user."""
    if named := os.environ.get("TAILRACE_CACHE"):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "tailrace"


@dataclass(frozen=True, slots=True)
class Cache:
    """A folder with the artifacts of one lock file."""

    lock: Lock
    root: Path = field(default_factory=default_root)

    def path(self, artifact: Artifact) -> Path:
        """Return where the artifact is, or would be."""
        return self.root / "artifacts" / artifact.path

    def holds(self, artifact: Artifact) -> bool:
        """Say whether the artifact is here with its full size (its sum was checked when it was put here)."""
        path = self.path(artifact)
        return path.is_file() and path.stat().st_size == artifact.size

    def missing(self) -> tuple[Artifact, ...]:
        """Return what has to be fetched: nothing, once all was."""
        return tuple(artifact for artifact in self.lock.artifacts if not self.holds(artifact))

    def fetch(self, watch: Callable[[Download], None]) -> None:
        """Fetch what is missing and unpack the archives; ``watch`` is told the progress."""
        missing = self.missing()
        if missing:
            self.root.mkdir(parents=True, exist_ok=True)
            with self._staging() as staging:
                fetch_all(missing, staging=staging, keep=self.keep, watch=watch)
        for artifact in self.lock.artifacts:
            if artifact.is_archive:
                self.unpacked(artifact)

    def keep(self, artifact: Artifact, fetched: Path) -> None:
        """Move a fetched file to its place if it is what the lock file says, else remove it and raise Refused."""
        size, digest = fetched.stat().st_size, sha256(fetched)
        if (size, digest) != (artifact.size, artifact.sha256):
            fetched.unlink()
            raise Refused(
                f"The download of {artifact.coordinate} is not the file that was locked.",
                detail=f"Expected {artifact.size} bytes with sha256 {artifact.sha256[:16]}..., "
                f"got {size} bytes with {digest[:16]}....",
                hint="It was removed. Run the command again; if it comes back, a proxy or mirror alters downloads.",
            )
        target = self.path(artifact)
        target.parent.mkdir(parents=True, exist_ok=True)
        fetched.replace(target)

    def unpacked(self, artifact: Artifact) -> Path:
        """Return the folder with the content of an archive, unpacking it first if need be."""
        folder = self.root / "unpacked" / f"{artifact.parts[1]}-{artifact.parts[2]}-{artifact.sha256[:12]}"
        if (folder / UNPACKED_MARK).exists():
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        with self._staging() as staging:
            with tarfile.open(self.path(artifact)) as archive:
                archive.extractall(staging / "content", filter="data")
            (staging / "content" / UNPACKED_MARK).touch()
            if folder.exists():
                shutil.rmtree(folder)
            with contextlib.suppress(FileExistsError):  # another process was faster; what it put there is the same
                (staging / "content").rename(folder)
        return folder

    def class_path(self, component: str) -> str:
        """Return the Java class path of a component."""
        jars = [self.path(item) for item in self.lock.of(component) if item.path.suffix == ".jar"]
        return os.pathsep.join(map(str, jars))

    @contextlib.contextmanager
    def _staging(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self.root, prefix="staging-") as name:
            yield Path(name)


def sha256(path: Path) -> str:
    """Return the hex sha256 sum of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
