"""A TCP proxy that can be cut: put it before a real service to see what its clients do when it goes away.

While it is cut, connections are taken and closed at once, and those that were open are gone. It knows nothing of what
it carries.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from typing import Self
from urllib.parse import urlsplit

CHUNK = 65_536


class Proxy:
    """Forwards ``127.0.0.1:port`` to the host and port of ``url``; a context manager."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._scheme = parts.scheme
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._cut = False
        self.refused = 0
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    @property
    def url(self) -> str:
        """The address to give to clients."""
        return f"{self._scheme}://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut(self) -> None:
        """Break every connection and take no new one."""
        with self._lock:
            self._cut = True
            for each in self._open:
                _end(each)

    def mend(self) -> None:
        """Take connections again."""
        self._cut = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        _end(self._listener)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # the proxy was closed
            threading.Thread(target=self._serve, args=(client,), name="proxy-pair", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            if self._cut:
                self.refused += 1
                return
            with socket.create_connection(self._target) as server:
                with self._lock:
                    self._open |= {client, server}
                try:
                    _carry(client, server)
                finally:
                    with self._lock:
                        self._open -= {client, server}


def _carry(client: socket.socket, server: socket.socket) -> None:
    """Copy both ways until one side ends or is cut."""
    other = {client: server, server: client}
    with selectors.DefaultSelector() as selector, contextlib.suppress(OSError):  # a cut connection is the purpose
        for each in other:
            selector.register(each, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                source = key.fileobj
                if not isinstance(source, socket.socket):
                    continue
                data = source.recv(CHUNK)
                if not data:
                    return
                other[source].sendall(data)


def _end(each: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it may have ended by itself
        each.shutdown(socket.SHUT_RDWR)
