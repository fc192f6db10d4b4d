"""What the embedded stack is made of: the lock file, read.

``artifacts.lock`` (JSON, written by tools/lock_stack.py) names every component with its version and compose image,
and every artifact with coordinate, size, sha256 and the components that need it. Nothing is resolved here and no
repository address is known here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Any

from tailrace.errors import ProjectError

LOCK_NAME = "artifacts.lock"


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file of a Maven repository, pinned by its sum."""

    coordinate: str  # group:artifact:version[:packaging[:classifier]]
    sha256: str
    size: int
    components: tuple[str, ...]

    @property
    def parts(self) -> tuple[str, str, str, str, str]:
        """Return group, artifact, version, packaging and classifier ("" when there is none)."""
        group, artifact, version, *rest = self.coordinate.split(":")
        packaging, classifier = (*rest, *("jar", "")[len(rest) :])
        return group, artifact, version, packaging, classifier

    @property
    def path(self) -> PurePosixPath:
        """Return where a Maven repository keeps the file, relative to its root."""
        group, artifact, version, packaging, classifier = self.parts
        name = "-".join(part for part in (artifact, version, classifier) if part)
        return PurePosixPath(*group.split("."), artifact, version, f"{name}.{packaging}")

    @property
    def is_archive(self) -> bool:
        """Say whether the file is to be unpacked."""
        return self.path.name.endswith(".tar.gz")


@dataclass(frozen=True, slots=True)
class Component:
    """One server of the stack: its version and the image of the same version for compose."""

    name: str
    version: str
    image: str


@dataclass(frozen=True, slots=True)
class Lock:
    """The whole lock file."""

    artifacts: tuple[Artifact, ...]
    components: dict[str, Component]

    def of(self, component: str) -> tuple[Artifact, ...]:
        """Return the artifacts that ``component`` needs, in a fixed order."""
        return tuple(artifact for artifact in self.artifacts if component in artifact.components)

    @property
    def size(self) -> int:
        """Return the bytes of all artifacts together."""
        return sum(artifact.size for artifact in self.artifacts)


def parse(text: str, *, origin: str = LOCK_NAME) -> Lock:
    """Parse the text of a lock file; a wrong shape is a ProjectError that names the place."""
    try:
        content = json.loads(text)
        artifacts = tuple(_artifact(name, entry) for name, entry in content["artifacts"].items())
        components = {
            name: Component(name, entry["version"], entry["image"]) for name, entry in content["components"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as cause:
        raise ProjectError(
            f"The lock file {origin} cannot be read.",
            detail=f"{type(cause).__name__}: {cause}",
            hint="Install Tailrace again, or write the file anew with tools/lock_stack.py.",
        ) from cause
    return Lock(artifacts, components)


def _artifact(coordinate: str, entry: dict[str, Any]) -> Artifact:
    if not 3 <= len(coordinate.split(":")) <= 5 or len(entry["sha256"]) != 64:
        raise ValueError(f"entry {coordinate!r} is no pinned coordinate")
    return Artifact(coordinate, entry["sha256"], int(entry["size"]), tuple(entry["components"]))


def load() -> Lock:
    """Read the lock file that ships with the package."""
    return parse((files("tailrace.stack") / LOCK_NAME).read_text(encoding="utf-8"))
