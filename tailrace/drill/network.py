"""The ways to the servers, each through a proxy that can be in trouble: refuse, hang, be slow, be cut, lose answers.

Workers get the proxies' addresses in their environment, the connector's way to Postgres is written into the drill's
copy of its file. Whoever watches and proves takes the servers' own addresses. Kafka tells its clients where to go, so
it has a second address for this (``Stack.behind_proxy``). Nobody who moves data asks Connect, so it has no proxy.
"""

from __future__ import annotations

import json
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from tailrace.deadline import wait_for
from tailrace.drill import schedule
from tailrace.errors import Unreachable
from tailrace.testing.proxy import HOST, Proxy, Trouble, http_answer

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tailrace.drill.schedule import Fault
    from tailrace.endpoints import Endpoints

MET_WITHIN = 20.0  # seconds that a bad way stays for longer while nobody has met it: a fault like that proves nothing
SLOWEST, SLOW_RATE = 0.4, 30_000.0  # seconds of each piece, bytes a second: with all force


def _dynamodb(status: int, kind: str) -> bytes:
    body = {"__type": kind, "message": "refused by the drill"}
    return http_answer(status, json.dumps(body).encode(), "application/x-amz-json-1.0")


def _plain(status: int, reason: str) -> bytes:
    said = {"error": {"type": reason, "reason": "refused by the drill"}, "status": status}
    return http_answer(status, json.dumps(said).encode())


def _registry(status: int) -> bytes:
    return http_answer(status, json.dumps({"error_code": status, "message": "refused by the drill"}).encode())


# What each service says when it is full or away; which one is drawn is the fault's force.
REFUSALS: Mapping[str, Sequence[bytes]] = {
    "dynamodb": (
        _dynamodb(400, "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException"),
        _dynamodb(400, "com.amazon.coral.availability#ThrottlingException"),
        _dynamodb(503, "com.amazonaws.dynamodb.v20120810#ServiceUnavailable"),
    ),
    "s3": (
        http_answer(
            503, b"<Error><Code>SlowDown</Code><Message>refused by the drill</Message></Error>", "application/xml"
        ),
        http_answer(
            500, b"<Error><Code>InternalError</Code><Message>refused by the drill</Message></Error>", "application/xml"
        ),
    ),
    "opensearch": (_plain(429, "es_rejected_execution_exception"), _plain(503, "cluster_block_exception")),
    "registry": (_registry(429), _registry(503)),
}  # fmt: skip


def trouble_of(fault: Fault) -> Trouble:
    """Return what a way meets. With more force more calls are refused or lose their answer, and slow is slower."""
    if fault.kind == schedule.REFUSE:
        said = REFUSALS[fault.target]
        return Trouble(refusal=said[int(fault.force * 100) % len(said)], share=fault.force)
    if fault.kind == schedule.LOSE:
        return Trouble(lost=True, share=fault.force)
    if fault.kind == schedule.SLOW:
        return Trouble(latency=round(SLOWEST * fault.force, 3), rate=SLOW_RATE / fault.force)
    return Trouble(silent=True) if fault.kind == schedule.SILENT else Trouble(cut=True)


class Network:
    """One proxy for each server that workers or the connector talk to; a context manager.

    ``kafka`` is its address for proxies and the port that it sends clients to.
    """

    def __init__(self, endpoints: Endpoints, *, kafka: tuple[str, int], seed: int = 0) -> None:
        self._endpoints, self._open = endpoints, ExitStack()
        self._proxies: dict[str, Proxy] = {}
        for name in schedule.CARRIED:
            url, port = kafka if name == "kafka" else (str(getattr(endpoints, name)), 0)
            self._proxies[name] = self._open.enter_context(Proxy(url, port=port, seed=seed))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @property
    def environment(self) -> dict[str, str]:
        """What workers get: the proxies' addresses, under the names that ``tailrace.endpoints`` looks for."""
        ways = {name: self._proxies[name].url + path(getattr(self._endpoints, name)) for name in schedule.SPOKEN}
        ways["kafka"] = f"{HOST}:{self._proxies['kafka'].port}"
        return {f"TAILRACE_{name.upper()}": url for name, url in ways.items()}

    def lead(self, connector: Path) -> None:
        """Write the way to Postgres into a connector's file."""
        config = json.loads(connector.read_text())
        config |= {"database.hostname": HOST, "database.port": str(self._proxies["postgres"].port)}
        connector.write_text(json.dumps(config, indent=2))

    def strike(self, fault: Fault, stop: threading.Event) -> int:
        """Make one way bad for as long as the fault lasts, and longer while nobody met it; return how much did."""
        proxy = self._proxies[fault.target]
        before = proxy.met
        proxy.trouble(trouble_of(fault))
        try:
            stop.wait(fault.lasts)
            with suppress(Unreachable):  # the report says that nothing met it
                wait_for(lambda: proxy.met > before, timeout=MET_WITHIN, what=f"{fault.name} to be met", stop=stop)
        finally:
            proxy.mend()
        return proxy.met - before

    def leave(self, server: str) -> None:
        """Let connections be refused, as they are where a server is gone."""
        if server in self._proxies:
            self._proxies[server].leave()

    def listen(self, server: str) -> None:
        """Take connections again."""
        if server in self._proxies:
            self._proxies[server].listen()


def path(url: str) -> str:
    """Return the path of an address."""
    return urlsplit(url).path
