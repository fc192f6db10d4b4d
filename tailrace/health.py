"""What every worker tells the world: /live, /ready and /metrics over HTTP, and a run file for local commands.

``Health`` is written by the worker and read by the server's thread; each field is set by plain assignment.
The server binds 127.0.0.1 unless told otherwise. It decides nothing: the worker says whether it is ready.
"""

from __future__ import annotations

import json
import os
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from tailrace.endpoints import STATE_FOLDER

if TYPE_CHECKING:
    from pathlib import Path

LATENCY_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Health:
    """State and metrics of one worker; its own registry, so that two workers in one process do not mix."""

    def __init__(self, worker: str) -> None:
        self.worker = worker
        self.ready = False
        self.doing = "starting"
        self.held: dict[str, dict[str, Any]] = {}  # by raw topic: table, problem, hint, why, partitions
        self.notes: dict[str, tuple[str, ...]] = {}  # by raw topic: what is worth knowing and no trouble
        self._beat = time.monotonic()
        self.stall_after = 120.0
        self.registry = CollectorRegistry()
        labels = ["worker", "topic"]
        self.records = Counter("tailrace_records", "Records whose effect is durable", labels, registry=self.registry)
        self.stale = Counter(
            "tailrace_stale", "Writes refused because the store was newer", labels, registry=self.registry
        )
        self.parked = Counter(
            "tailrace_dead_letters", "Records sent to the dead-letter topic", labels, registry=self.registry
        )
        self.retries = Counter("tailrace_retries", "Batches tried again", ["worker"], registry=self.registry)
        self.evolutions = Counter(
            "tailrace_evolutions", "Contracts followed while running", labels, registry=self.registry
        )
        self.lag = Gauge(
            "tailrace_lag_seconds",
            "Seconds from source commit to durable, newest batch",
            labels,
            registry=self.registry,
        )
        self.holding = Gauge(
            "tailrace_table_held", "Partitions of a table that waits for its contract", labels, registry=self.registry
        )
        self.latency = Histogram(
            "tailrace_latency_seconds",
            "Seconds from source commit to durable",
            labels,
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )

    def beat(self) -> None:
        """Say that the main loop goes round; /live fails when it has not for ``stall_after`` seconds."""
        self._beat = time.monotonic()

    @property
    def live(self) -> bool:
        """Whether the main loop has gone round lately."""
        return time.monotonic() - self._beat < self.stall_after


class HealthServer:
    """The HTTP server of one Health, in a daemon thread; ``port`` 0 takes a free one."""

    def __init__(self, health: Health, *, host: str = "127.0.0.1", port: int = 0) -> None:
        handler = type("Handler", (_Handler,), {"health": health})
        self._server = ThreadingHTTPServer((host, port), handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    health: Health

    def do_GET(self) -> None:
        """Answer one probe."""
        if self.path == "/metrics":
            self._answer(HTTPStatus.OK, generate_latest(self.health.registry), CONTENT_TYPE_LATEST)
        elif self.path in ("/live", "/ready"):
            good = self.health.live if self.path == "/live" else self.health.ready
            status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
            body = {"worker": self.health.worker, self.path[1:]: good, "doing": self.health.doing}
            if self.path == "/ready":
                body |= {"held": self.health.held, "notes": self.health.notes}
            self._answer(status, json.dumps(body).encode(), "application/json")
        else:
            self._answer(HTTPStatus.NOT_FOUND, b'{"paths": ["/live", "/ready", "/metrics"]}', "application/json")

    def _answer(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Probes are not worth a log line."""


class RunFile:
    """``.tailrace/run/<worker>.json``: pid and health port of a worker on this machine, for status and replay."""

    def __init__(self, folder: Path, worker: str) -> None:
        self.path = folder / STATE_FOLDER / "run" / f"{worker}.json"

    def write(self, port: int) -> None:
        """Say that this process is the worker."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps({"pid": os.getpid(), "port": port}))

    def read(self) -> dict[str, int]:
        """Return pid and port, or nothing when no worker wrote it."""
        try:
            content: dict[str, int] = json.loads(self.path.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return content

    def remove(self) -> None:
        """Remove it, at a clean stop."""
        self.path.unlink(missing_ok=True)
