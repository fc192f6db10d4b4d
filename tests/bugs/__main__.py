"""A short drill for each deliberate bug: ``python -m tests.bugs [NAME ...]`` exits 0 only if each was caught.

The drill is the one that users have; only the environment of what it starts is another one. A bug is caught where a
store is not equal to the source, money came or went, or something was parked without need; that a drill merely failed
does not count. ``letter-not-awaited`` has no drill, because nothing is parked in one: its test is in tests/faults.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
KINDS = ("missing", "extra", "different", "stale", "resurrected")


@dataclass(frozen=True)
class Run:
    """One drill: faults of these kinds as a seed draws them."""

    faults: tuple[str, ...]
    seed: int
    minutes: float = 1.0


RUNS = {
    "offset-before-write": Run(("kill-worker",), 1),
    "unguarded-put": Run(("pause-worker", "scale"), 1, 1.5),
    "state-without-changelog": Run(("kill-worker",), 2),
    "batch-dropped": Run(("scale",), 3, 1.5),
}


def drill(bug: str, run: Run) -> dict[str, Any]:
    """Run one drill and return its report; nothing where it made none."""
    kept = ROOT / ".tailrace" / "bugs" / bug
    (kept / "drill.json").unlink(missing_ok=True)
    command = [sys.executable, "-m", "tailrace", "drill", "--project", str(ROOT), "--report", str(kept)]
    command += ["--seed", str(run.seed), "--minutes", str(run.minutes)]
    command += [part for fault in run.faults for part in ("--fault", fault)]
    path = os.pathsep.join([str(HERE), str(ROOT)])
    subprocess.run(command, check=False, env={**os.environ, "TAILRACE_BUG": bug, "PYTHONPATH": path})
    report = kept / "drill.json"
    found: dict[str, Any] = json.loads(report.read_text()) if report.exists() else {}
    return found


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
