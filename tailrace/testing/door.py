"""An HTTP door before a real service: it forwards every request, and spoils the next one that it is told to.

A store behind it is throttled, away, or does the work and has its answer lost, cut short or replaced by nonsense, at
the place where that happens in life. Requests are forwarded byte for byte, their Host included, so signatures hold.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

from tailrace.testing.faults import Hold

TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer at once, without asking the service."""

    status: int
    body: bytes = b"{}"
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/json"),)


@dataclass(frozen=True, slots=True)
class Spoil:
    """Have the service do it, then spoil its answer: none at all, half of it, or nonsense."""

    how: str = "none"  # "none", "half", "nonsense"


@dataclass
class Door:
    """Forwards ``127.0.0.1:port`` to ``target``; a context manager.

    ``spoil`` says what the next request is to meet whose method and path contain a word.
    """

    target: str
    requests: list[str] = field(default_factory=list)
    _faults: list[tuple[str, Answer | Spoil | Hold]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Listen."""
        door = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                door._handle(self)

            do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _serve  # noqa: N815 - the names http.server looks for

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="door", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The address to give to clients."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def spoil(self, word: str, fault: Answer | Spoil | Hold) -> None:
        """Let the next request whose method and path contain ``word`` meet a fault."""
        with self._lock:
            self._faults.append((word, fault))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _next(self, request: str) -> Answer | Spoil | Hold | None:
        with self._lock:
            self.requests.append(request)
            for index, (word, fault) in enumerate(self._faults):
                if word in request:
                    del self._faults[index]
                    return fault
        return None

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        fault = self._next(f"{handler.command} {handler.path}")
        if isinstance(fault, Answer):
            _send(handler, fault.status, list(fault.headers), fault.body)
            return
        if isinstance(fault, Hold):
            fault.held.set()
            fault.release.wait(fault.at_most)
        status, headers, answer = self._ask(handler, body)
        if isinstance(fault, Spoil) and fault.how == "none":
            handler.close_connection = True
            return
        nonsense = isinstance(fault, Spoil) and fault.how == "nonsense"
        half = isinstance(fault, Spoil) and fault.how == "half"
        _send(handler, status, headers, b'{"never": "mind"}' if nonsense else answer, half=half)

    def _ask(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """Ask the service."""
        parts = urlsplit(self.target)
        connection = HTTPConnection(parts.hostname or "127.0.0.1", parts.port or 80, timeout=TIMEOUT)
        try:
            connection.putrequest(handler.command, handler.path, skip_host=True, skip_accept_encoding=True)
            for name, value in handler.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body or None)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()


def _send(
    handler: BaseHTTPRequestHandler, status: int, headers: list[tuple[str, str]], body: bytes, *, half: bool = False
) -> None:
    own = ("content-length", "transfer-encoding", "connection")
    handler.send_response(status)
    for name, value in headers:
        if name.lower() not in own:
            handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[: len(body) // 2] if half else body)
    if half:
        handler.close_connection = True
