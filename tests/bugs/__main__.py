"""A short drill for each deliberate bug: ``python -m tests.bugs [NAME ...]`` exits 0 only if each was caught.

The drill is the one that users have; only the environment of what it starts is another one. A bug is caught where a
store is not equal to the source, money came or went, or something was parked without need; that a drill merely failed
does not count. One bug has no drill, only its test in tests/faults: ``letter-not-awaited``, because nothing is parked
in a drill.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PARTS = ("connectors", "schemas", "processors", "sinks", "migrations")
WHOLE = "alter table customers replica identity full;\n"
KINDS = ("missing", "extra", "different", "stale", "resurrected")


@dataclass(frozen=True)
class Run:
    """One drill: faults of one kind as a seed draws them.

    ``lean`` takes a copy of the project in which customers are sent without what an update left unchanged, so that the
    processor has to know it: with the reference project as it is nothing depends on the processor's state.
    """

    fault: str
    seed: int
    minutes: float
    lean: bool = False
    more: tuple[str, ...] = ()


RUNS = {
    "offset-before-write": Run("kill-worker", 139, 2.0),  # 13 sinks: a kill has to hit a batch on its way
    "state-without-changelog": Run("kill-worker", 3, 0.8, lean=True),  # search, the processor twice
    "batch-dropped": Run("scale", 4, 2.0, more=("--target", "conform", "--rate", "400")),
    # So busy that the zombie falls asleep amid a batch; its stale rows are seen where nobody writes them again.
    "unguarded-put": Run("zombie", 2, 1.5, more=("--target", "dynamodb", "--rate", "1500")),
}


def drill(bug: str, run: Run) -> dict[str, Any]:
    """Run one drill and return its report; nothing where it made none."""
    kept = ROOT / ".tailrace" / "bugs" / bug
    (kept / "drill.json").unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="tailrace-bugs-") as folder:
        project = lean(Path(folder)) if run.lean else ROOT
        command = [sys.executable, "-m", "tailrace", "drill", "--project", str(project), "--report", str(kept)]
        command += ["--seed", str(run.seed), "--minutes", str(run.minutes), "--fault", run.fault, *run.more]
        path = os.pathsep.join([str(HERE), str(ROOT)])
        subprocess.run(command, check=False, env={**os.environ, "TAILRACE_BUG": bug, "PYTHONPATH": path})
    report = kept / "drill.json"
    found: dict[str, Any] = json.loads(report.read_text()) if report.exists() else {}
    return found


def lean(folder: Path) -> Path:
    """Copy the project without the line that has Postgres send whole rows of customers."""
    shutil.copy(ROOT / "tailrace.toml", folder)
    for part in PARTS:
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    migration = folder / "migrations" / "0002_replica_identity.sql"
    text = migration.read_text()
    assert WHOLE in text
    migration.write_text(text.replace(WHOLE, ""))
    return folder


def caught(report: dict[str, Any]) -> str:
    """Say what a drill found; nothing where it found nothing wrong in the stores."""
    checks = (report.get("verify") or {}).get("checks", [])
    lines = [
        f"{check[kind]} {kind} in {check['sink']} {check['table']}"
        for check in checks
        for kind in KINDS
        if check.get(kind)
    ]
    if len(set(report.get("balances", {}).values())) > 1:
        lines.append(f"balances {report['balances']}")
    lines += [f"parked {count} x {reason}" for reason, count in report.get("parked", {}).items()]
    return "; ".join(lines)


def main(names: list[str]) -> int:
    """Run the drills and print what each found."""
    found = {name: caught(drill(name, RUNS[name])) for name in names or RUNS}
    for name, lines in found.items():
        print(f"{name}, seed {RUNS[name].seed}: {lines or 'NOT CAUGHT'}")  # noqa: T201 - what it is run for
    return 0 if all(found.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
