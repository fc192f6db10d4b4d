"""Print docs/crash-points.md: the places at which a process under test dies, made from the table that names them.

python tools/crash_points.py > docs/crash-points.md
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the source tree, installed or not

from tailrace.crashpoint import VARIABLE, Command, CrashPoint, Lake, Processor, SinkWorker

HEAD = f"""\
# Crash points

Made by `python tools/crash_points.py`; do not edit. Before and after every durable step of Tailrace's own code there is
a named place at which a process under test dies by its own SIGKILL: `{VARIABLE}=batch-durable` dies the first time it
comes by, `{VARIABLE}=batch-durable:3` the third time; `{VARIABLE}=batch-durable:stop` stops there (SIGSTOP) instead, to
be a zombie when it goes on; `{VARIABLE}=@FILE` does what the file says, which may be written while the process runs.
Where the variable is not set a place costs one look at a global, per batch and not per record.

Each place is exercised by `make test`: `tests/faults/test_crash_points.py` kills real workers on the real stack, starts
them again and compares what they wrote; `tests/unit/test_crash_points.py` does so for the lake's log and compaction on
a bucket in memory; `test_epoch.py`, `test_structure.py`, `test_dlq.py` and `test_search_rebuild.py` in
`tests/integration` for the commands.
"""
PARTS: dict[str, type[CrashPoint]] = {
    "Processors": Processor,
    "Sink workers, DynamoDB and OpenSearch": SinkWorker,
    "The lake and its compaction": Lake,
    "epoch bump, snapshot --sweep, verify --repair, dlq replay, search rebuild": Command,
}


def page() -> str:
    """Return docs/crash-points.md."""
    lines = [HEAD]
    for title, points in PARTS.items():
        lines += [f"## {title}", "", "| name | where it dies | what the next start finds |", "| --- | --- | --- |"]
        lines += [f"| `{point.spelled}` | {point.done} | {point.found} |" for point in points]
        lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


if __name__ == "__main__":
    print(page(), end="")
