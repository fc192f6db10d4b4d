"""Resolve the poms of requirements/stack once and write tailrace/stack/artifacts.lock.

Maintenance only, and the only place where Maven is used: run it after a version in requirements/stack changed, with
`mvn` and Java on the path, and commit the result. Users fetch exactly what the lock file lists. It writes
coordinates, sizes and sha256 sums, and no repository address.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
POMS = ROOT / "requirements" / "stack"
LOCK = ROOT / "tailrace" / "stack" / "artifacts.lock"
UNUSED = re.compile(r"sqlite4java-win32|linux-i386")  # natives of systems the stack does not run on


def resolved(pom: Path) -> list[tuple[str, Path]]:
    """Return (coordinate, local file) of everything the pom needs at run time."""
    with tempfile.TemporaryDirectory() as folder:
        listing = Path(folder) / "list"
        options = ["-DincludeScope=runtime", f"-DoutputFile={listing}", "-DoutputAbsoluteArtifactFilename=true"]
        subprocess.run(["mvn", "-B", "-q", "-f", str(pom), "dependency:list", *options], check=True, timeout=1800)
        lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in listing.read_text().splitlines()]
    return [entry(line) for line in lines if line.count(":") >= 5]


def entry(line: str) -> tuple[str, Path]:
    """Turn ``group:artifact:type[:classifier]:version:scope:path`` into (coordinate, path)."""
    line = line.split(" -- module", maxsplit=1)[0]
    fields = line.split(":")
    group, artifact, kind = fields[:3]
    classifier, version = ("", fields[3]) if len(fields) == 6 else (fields[3], fields[4])
    parts = [group, artifact, version, kind, classifier]
    return ":".join(parts).rstrip(":").removesuffix(":jar"), Path(fields[-1])


def locked(component: str, pom: Path) -> dict[str, dict[str, Any]]:
    """Return the lock entries of one component by coordinate."""
    entries: dict[str, dict[str, Any]] = {}
    for coordinate, path in resolved(pom):
        if not UNUSED.search(coordinate):
            content = path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            entries[coordinate] = {"sha256": digest, "size": len(content), "components": [component]}
    return entries


def main() -> int:
    """Write the lock file."""
    if not shutil.which("mvn"):
        print("mvn is not on the path; it is needed only here, to refresh the lock file.", file=sys.stderr)
        return 2
    components = json.loads((POMS / "components.json").read_text())
    artifacts: dict[str, dict[str, Any]] = {}
    for name, component in components.items():
        pom = component.pop("pom", None)
        for coordinate, item in (locked(name, POMS / pom) if pom else {}).items():
            artifacts.setdefault(coordinate, {**item, "components": []})["components"] += item["components"]
        print(f"{name}: {sum(name in item['components'] for item in artifacts.values())} artifacts")
    content = {"components": components, "artifacts": dict(sorted(artifacts.items()))}
    LOCK.write_text(json.dumps(content, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
