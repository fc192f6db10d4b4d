"""What the workers counted, added up over all their lives: a killed worker's numbers die with it, so they are sampled.

A life is one process. Each is asked for its /metrics every second and once more before it is killed, so a sum is what
was seen and may be a second short for each death. A worker that does not answer is asked again next time.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING

import psutil
from prometheus_client.parser import text_string_to_metric_families

from tailrace.health import RunFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

ANSWERS_WITHIN = 2.0
COUNTED = {
    "tailrace_records_total": "records",
    "tailrace_stale_total": "stale",
    "tailrace_retries_total": "retries",
    "tailrace_dead_letters_total": "dead letters",
}
Life = tuple[str, int]  # a worker's name and process


@dataclass
class Tally:
    """The newest counts of every life; pure."""

    lives: dict[Life, Counter[str]] = field(default_factory=dict)

    def note(self, life: Life, counts: Mapping[str, int]) -> None:
        """Take note of what a life has counted so far; counts of one life never fall."""
        held = self.lives.setdefault(life, Counter())
        held |= Counter(counts)

    def sums(self) -> dict[str, dict[str, int]]:
        """Return what each worker counted in all its lives, and how many those were."""
        found: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for (worker, _), counts in self.lives.items():
            found[worker].update(counts)
            found[worker]["lives"] += 1
        return {
            worker: {name: counts[name] for name in ("lives", *COUNTED.values())} for worker, counts in found.items()
        }


class Counters:
    """Asks the workers of a folder on this machine; may be called from several threads."""

    def __init__(self, folder: Path, workers: Iterable[str]) -> None:
        self._folder, self._workers = folder, tuple(workers)
        self._ports: dict[Life, int] = {}
        self._lock = threading.Lock()
        self.tally = Tally()

    def sample(self) -> None:
        """Ask every worker that lives; a second instance hides the first one's run file, so ports are remembered."""
        with self._lock:
            for worker in self._workers:
                written = RunFile(self._folder, worker).read()
                if written:
                    self._ports[worker, written["pid"]] = written["port"]
            self._ports = {life: port for life, port in self._ports.items() if psutil.pid_exists(life[1])}
            for life, port in self._ports.items():
                counts = ask(port)
                if counts is not None:
                    self.tally.note(life, counts)


def ask(port: int) -> dict[str, int] | None:
    """Return what the worker at a health port has counted, None where nobody answers."""
    try:
        with closing(HTTPConnection("127.0.0.1", port, timeout=ANSWERS_WITHIN)) as connection:
            connection.request("GET", "/metrics")
            return counted(connection.getresponse().read().decode())
    except (OSError, HTTPException):
        return None


def counted(text: str) -> dict[str, int]:
    """Return the counters in a page of metrics, added up over topics."""
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in COUNTED:
                found[COUNTED[sample.name]] += int(sample.value)
    return dict(found)
