"""A proxy in trouble: put it before a real service to see what its clients do when it is away, slow, full or silent.

It carries bytes and knows nothing of them, but for one thing: where HTTP/1.1 is spoken it knows where a request begins,
so that some may be refused while others pass. Bytes are forwarded as they are, ``Host`` included, so signatures hold.
While it is cut, connections are taken and closed at once, and those that were open are gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
import threading
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Coroutine

_Side = tuple[asyncio.StreamReader, asyncio.StreamWriter]
HOST = "127.0.0.1"
CHUNK = 65_536
ANSWERS_WITHIN = 10.0
REQUEST = re.compile(rb"(GET|POST|PUT|DELETE|HEAD|PATCH|OPTIONS) \S+ HTTP/1\.[01]\r\n")
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: a close is a reset
END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Trouble:
    """What clients meet: by default nothing.

    ``cut``: connections break and none lasts · ``silent``: nothing passes, either way, until it is over · ``latency``
    and ``rate``: seconds and bytes a second of what passes · ``refusal``: a whole HTTP answer in the service's place ·
    ``lost``: the service does it and the connection breaks where its answer should come. ``share`` is how many of the
    requests are refused, or of the answers lost.
    """

    cut: bool = False
    silent: bool = False
    latency: float = 0.0
    rate: float = float("inf")
    refusal: bytes = b""
    lost: bool = False
    share: float = 1.0


class _Link:
    """One connection on both sides; ``asked`` says that a request is on its way."""

    def __init__(self, client: socket.socket) -> None:
        self.client: socket.socket | None = client  # as long as no writer owns it
        self.writers: list[asyncio.StreamWriter] = []
        self.asked = False

    async def open(self, target: tuple[str, int]) -> tuple[_Side, _Side]:
        """Reach the service for the client and return both sides."""
        client, self.client = self.client, None
        near = await asyncio.open_connection(sock=client)
        self.writers.append(near[1])
        far = await asyncio.open_connection(*target)
        self.writers.append(far[1])
        return near, far

    def reset(self) -> None:
        """Break both sides at once, as a network does."""
        if self.client is not None:
            _abortive(self.client)
            self.client.close()
        for writer in self.writers:
            _abortive(writer.get_extra_info("socket"))
            writer.transport.abort()

    async def close(self) -> None:
        """End both sides once what was written is sent."""
        for writer in self.writers:
            writer.close()
        for writer in self.writers:
            with contextlib.suppress(OSError):  # broken is closed too
                await writer.wait_closed()


def _abortive(end: socket.socket) -> None:
    """Let a close be a reset."""
    with contextlib.suppress(OSError):  # it may have ended by itself
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


class Proxy:
    """Forwards ``127.0.0.1:port`` to the host and port of ``url``, in a thread of its own; a context manager.

    ``refused`` counts connections that came while it was cut, ``met`` everything that met a trouble.
    """

    def __init__(self, url: str, *, port: int = 0, seed: int = 0) -> None:
        parts = urlsplit(url if "//" in url else f"//{url}")
        self._target = (parts.hostname or HOST, parts.port or 80)
        self._scheme, self._rng = parts.scheme, Random(seed)  # noqa: S311 - choices of a test, not secrets
        self._links: dict[asyncio.Task[None], _Link] = {}
        self._trouble = Trouble()
        self.refused = self.met = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._passing = asyncio.Event()
        self._listener: socket.socket | None = None
        self.port = port
        self.listen()

    @property
    def url(self) -> str:
        """The address to give to clients."""
        return f"{self._scheme}://{HOST}:{self.port}" if self._scheme else f"{HOST}:{self.port}"

    def trouble(self, trouble: Trouble) -> None:
        """Let clients meet it from now on, until something else is said."""
        self._do(self._change(trouble))

    def cut(self) -> None:
        """Break every connection and let no new one last."""
        self.trouble(Trouble(cut=True))

    def mend(self) -> None:
        """End the trouble."""
        self.trouble(Trouble())

    def leave(self) -> None:
        """Stop listening, as a server that is gone: connections are refused. Those that are open stay."""
        self._do(self._leave())

    def listen(self) -> None:
        """Listen, again on the same port after ``leave``."""
        self._do(self._listen())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(ANSWERS_WITHIN)
        self._loop.close()

    def _do(self, act: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(act, self._loop).result(ANSWERS_WITHIN)

    async def _change(self, trouble: Trouble) -> None:
        self._trouble = trouble
        if trouble.silent:
            self._passing.clear()
        else:
            self._passing.set()
        if trouble.cut:
            self.met += len(self._links)
            for serving, link in self._links.items():
                link.reset()
                serving.cancel()

    async def _listen(self) -> None:
        if self._listener is None:
            self._passing.set()
            self._listener = socket.create_server((HOST, self.port), backlog=100)
            self._listener.setblocking(False)
            self._loop.add_reader(self._listener, self._accept, self._listener)
            self.port = int(self._listener.getsockname()[1])

    async def _leave(self) -> None:
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    async def _end(self) -> None:
        await self._leave()
        await self._change(Trouble(cut=True))
        while self._links:
            await asyncio.wait(self._links)
        await asyncio.sleep(0)  # the loop closes behind this what was reset

    def _accept(self, listener: socket.socket) -> None:
        """Take one connection. It is known from here on, so that none is forgotten when the proxy is cut or ends."""
        try:
            client, _ = listener.accept()
        except OSError:  # it went away again
            return
        client.setblocking(False)
        link = _Link(client)
        if self._trouble.cut:
            self.refused += 1
            self.met += 1
            link.reset()
            return
        serving = self._loop.create_task(self._serve(link))
        self._links[serving] = link
        serving.add_done_callback(self._served)

    def _served(self, serving: asyncio.Task[None]) -> None:
        self._links.pop(serving).reset()  # a task that is cancelled before its first step closes nothing

    async def _serve(self, link: _Link) -> None:
        """Carry one connection until one side ends, or is cut."""
        try:
            await self._hinder(0)
            await self._carry(link, *await link.open(self._target))
        except OSError:
            link.reset()  # the service is not there, or one side broke: that is passed on
        await link.close()

    async def _carry(self, link: _Link, near: _Side, far: _Side) -> None:
        ways = [
            asyncio.ensure_future(way) for way in (self._forth(link, near, far[1]), self._back(link, far[0], near[1]))
        ]
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in done:
                way.result()
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _forth(self, link: _Link, near: _Side, to_server: asyncio.StreamWriter) -> None:
        while data := await near[0].read(CHUNK):
            await self._hinder(len(data))
            trouble = self._trouble
            if trouble.refusal and not link.asked and REQUEST.match(data) and self._chosen(trouble):
                await self._refuse(near, data, trouble.refusal)
                return
            link.asked = True
            to_server.write(data)
            await to_server.drain()

    async def _back(self, link: _Link, from_server: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        while data := await from_server.read(CHUNK):
            await self._hinder(len(data))
            if self._trouble.lost and link.asked and self._chosen(self._trouble):
                link.reset()
                return
            link.asked = False
            to_client.write(data)
            await to_client.drain()

    async def _hinder(self, size: int) -> None:
        """Let bytes pass as the trouble says: not now, later, or at once."""
        if not self._passing.is_set():
            self.met += 1
            await self._passing.wait()
        trouble = self._trouble
        delay = trouble.latency + size / trouble.rate
        if delay:
            self.met += 1
            await asyncio.sleep(delay)

    def _chosen(self, trouble: Trouble) -> bool:
        chosen = self._rng.random() < trouble.share
        self.met += chosen
        return chosen

    async def _refuse(self, near: _Side, data: bytes, refusal: bytes) -> None:
        """Read the request to its end and answer it; a client that asks first whether it may send is told no."""
        from_client, to_client = near
        while END not in data and (more := await from_client.read(CHUNK)):
            data += more
        head, _, body = data.partition(END)
        if b"100-continue" not in head.lower():
            found = LENGTH.search(head)
            left = int(found[1]) - len(body) if found else 0
            while left > 0 and (more := await from_client.read(min(CHUNK, left))):
                left -= len(more)
        to_client.write(refusal)
        await to_client.drain()


def http_answer(status: int, body: bytes, kind: str = "application/json") -> bytes:
    """Return a whole HTTP answer, after which the connection ends."""
    head = f"HTTP/1.1 {status} Refused\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close"
    return head.encode() + END + body
