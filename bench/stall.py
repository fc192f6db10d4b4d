"""A store that stands still for five minutes under traffic: memory stays flat, the others go on. Only when named.

OpenSearch is stopped (SIGSTOP: it takes connections and never answers, which is worse than being away) while the bank's
traffic goes on. The search worker may hold 8 MiB, which it reaches soon; then the memory of every worker is compared,
the second half of the stall against the first. The other sinks may not fall behind. When the store goes on, the worker
has to catch up, and ``tailrace verify`` finds everything equal. TAILRACE_STALL_SECONDS makes it shorter.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psutil

from bench.latency import bank
from bench.pipeline import tailrace, workers
from bench.soak import MIB, behind, pending, watch
from tailrace import project
from tailrace.deadline import wait_for
from tailrace.errors import Fatal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tailrace.endpoints import Endpoints

SECONDS, RATE, CUSTOMERS = 300.0, 300, 1_000
BUFFER = "\n[workers.search]\nbuffer_mb = 8\n"
CEILING = 1.15  # memory of the second half of the stall against the first
LEFT_BEHIND = 10 * RATE  # records: ten seconds of traffic


def measure(endpoints: Endpoints) -> list[dict[str, Any]]:
    """Return the memory of each worker, how far the others fell behind, and how long catching up took."""
    with tempfile.TemporaryDirectory(prefix="tailrace-bench-stall-") as folder:
        made = bank(endpoints, Path(folder))
        settings = made / "tailrace.toml"
        settings.write_text(settings.read_text() + BUFFER)
        return of_bank(made, endpoints, float(os.environ.get("TAILRACE_STALL_SECONDS", SECONDS)))


def of_bank(folder: Path, endpoints: Endpoints, seconds: float) -> list[dict[str, Any]]:
    """Stall the search index of the bank in a folder, whose names nobody else uses."""
    loaded = project.load(folder)
    tailrace(folder, "demo", "seed", "--customers", str(CUSTOMERS))
    tailrace(folder, "apply", "--yes")
    with workers(folder):
        wait_for(lambda: pending(loaded) == 0, timeout=300, every=0.5, what="the snapshot to be in every store")
        with traffic(folder) as busy:
            wait_for(lambda: busy.poll() is not None or behind(loaded)["search"] > 0, timeout=60, what="traffic")
            with stopped(endpoints.opensearch):
                sizes, furthest = stalled(loaded, seconds)
            began = time.monotonic()
            wait_for(lambda: behind(loaded)["search"] < RATE, timeout=300, every=0.2, what="search to catch up")
            caught_up = time.monotonic() - began
            if busy.poll() is not None:
                raise Fatal(f"The traffic ended by itself, with exit code {busy.returncode}.")
        tailrace(folder, "verify")
    return rows(seconds, sizes, furthest, caught_up)


@contextmanager
def traffic(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the bank's traffic beside what is measured."""
    command = [sys.executable, "-m", "tailrace", "demo", "traffic", "--rate", str(RATE), "--project", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def stopped(address: str) -> Iterator[None]:
    """Stop the server that listens at an address, and let it go on afterwards."""
    port = urlsplit(address).port
    listening = [each for each in psutil.net_connections("tcp") if each.status == psutil.CONN_LISTEN]
    (server,) = {each.pid for each in listening if each.laddr and each.laddr[1] == port and each.pid}
    os.kill(server, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server, signal.SIGCONT)


def stalled(loaded: project.Project, seconds: float) -> tuple[dict[str, list[int]], dict[str, int]]:
    """Return the memory of each worker, and how many records each had before it at most, until the time is over."""
    sizes: dict[str, list[int]] = {name: [] for name in (*loaded.processors, *loaded.sinks)}
    furthest = dict.fromkeys(sizes, 0)
    over = threading.Event()
    watching = threading.Thread(target=watch, args=(loaded, sizes, over))
    watching.start()
    ends = time.monotonic() + seconds
    try:
        while time.monotonic() < ends:
            for name, count in behind(loaded).items():
                furthest[name] = max(furthest[name], count)
            over.wait(0.5)
    finally:
        over.set()
        watching.join(30)
    return sizes, furthest


def rows(
    seconds: float, sizes: dict[str, list[int]], furthest: dict[str, int], caught_up: float
) -> list[dict[str, Any]]:
    """Return the lines of the table."""
    title = f"search stalled for {seconds:g} s"
    found: list[dict[str, Any]] = []
    for name, seen in sizes.items():
        middle = len(seen) // 2
        first, second = max(seen[:middle]), max(seen[middle:])
        both = {"value": round(second / MIB), "baseline": round(first / MIB), "ratio": round(second / first, 3)}
        found.append({"name": f"{title}: memory of {name}", "unit": "MiB", **both, "ceiling": CEILING})
    for name, count in furthest.items():
        bound = None if name == "search" else LEFT_BEHIND
        found.append({"name": f"{title}: records before {name}", "value": count, "unit": "at most", "ceiling": bound})
    return [*found, {"name": f"{title}: until search had caught up", "value": round(caught_up, 1), "unit": "s"}]
