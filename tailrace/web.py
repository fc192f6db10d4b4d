"""Clients of services that speak HTTP, made in one place.

Reading the certificates that a TLS connection trusts takes a client 27 ms of processor time, and httpx does it for
every client. It is done only where the address is https; redirects are not followed, so no client gets there otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx

if TYPE_CHECKING:
    from collections.abc import Mapping


def client(
    url: str, *, timeout: float, headers: Mapping[str, str] | None = None, trust_env: bool = True
) -> httpx.Client:
    """Return a client that asks for paths under a URL; ``timeout`` is in seconds, for each step of a call."""
    return httpx.Client(
        base_url=url.rstrip("/"),
        timeout=timeout,
        headers=headers,
        trust_env=trust_env,
        verify=urlsplit(url).scheme == "https",
        follow_redirects=False,
    )
