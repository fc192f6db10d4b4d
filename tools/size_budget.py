"""The size budget: functions, classes and files stay small, measured by ``ast`` over the tracked Python files.

function: median <= 8 lines, 95th percentile <= 35, never over 60; file <= 400; class <= 200; a sink file <= 300.
Lines run from ``def`` to the last line, docstring included. Exit 1 with every place over the budget.
"""

from __future__ import annotations

import ast
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MEDIAN, P95, FUNCTION, CLASS, FILE, SINK_FILE = 8, 35, 60, 200, 400, 300
ENGINE = ("tailrace/", "processors/", "sinks/", "examples/")


@dataclass(frozen=True)
class Span:
    """One definition and its length in lines."""

    place: str
    kind: str
    lines: int


def spans(path: str, source: str) -> list[Span]:
    """Return every function and class of a file."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            kind = "class" if isinstance(node, ast.ClassDef) else "function"
            found.append(Span(f"{path}:{node.name}", kind, (node.end_lineno or node.lineno) - node.lineno + 1))
    return found


def over(path: str, source: str) -> list[str]:
    """Say what of one file is over the budget."""
    lines = source.count("\n")
    limit = SINK_FILE if path.startswith("tailrace/sink/") else FILE
    complaints = [f"{path}: {lines} lines, limit {limit}"] if lines > limit else []
    for span in spans(path, source):
        limit = FUNCTION if span.kind == "function" else CLASS
        if span.lines > limit:
            complaints.append(f"{span.place}: {span.kind} of {span.lines} lines, limit {limit}")
    return complaints


def main() -> int:
    """Measure the tree and print the figures."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    sources = {name: (ROOT / name).read_text() for name in sorted(names) if (ROOT / name).exists()}
    complaints = [line for name, source in sources.items() for line in over(name, source)]
    engine = [name for name in sources if name.startswith(ENGINE)]
    lengths = sorted(s.lines for name in engine for s in spans(name, sources[name]) if s.kind == "function")
    median, p95 = statistics.median(lengths), lengths[int(0.95 * len(lengths)) - 1]
    if median > MEDIAN:
        complaints.append(f"the median function has {median} lines, limit {MEDIAN}")
    if p95 > P95:
        complaints.append(f"the 95th percentile function has {p95} lines, limit {P95}")
    print(f"size budget: {len(sources)} files, functions median {median:g}, p95 {p95}, max {lengths[-1]} lines")
    print("\n".join(complaints))
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
