"""What a service of the stack is, and the probes that ask one whether it really works."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from tailrace import web

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tailrace.stack.home import Home
    from tailrace.stack.process import Launch

PROBE_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class Service:
    """One server: how to start it and how to ask whether it works.

    ``launch`` prepares folders and configuration (and may run one-time tools) and returns the command; ``ready``
    does what a client would do and never raises for a server that is not there yet. ``ports`` are those it listens
    on, the clients' first; ``needs`` are services that have to be ready before it is started.
    """

    name: str
    ports: tuple[str, ...]
    launch: Callable[[Home], Launch]
    ready: Callable[[Home], bool]
    needs: tuple[str, ...] = ()


def ask(
    url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, content: str | None = None
) -> int | None:
    """Return the status of an answer, None when there is none; the proxy settings of the user do not apply."""
    try:
        with web.client(url, timeout=PROBE_TIMEOUT, trust_env=False) as client:
            return client.request(method, url, headers=headers, content=content).status_code
    except httpx.TransportError:
        return None


def answers(
    url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, content: str | None = None
) -> bool:
    """Say whether an http request is answered with 200."""
    return ask(url, method=method, headers=headers, content=content) == httpx.codes.OK
