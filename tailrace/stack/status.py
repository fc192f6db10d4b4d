"""What `stack status` knows: per service its state, process, address, memory and time to readiness."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import psutil

from tailrace.stack import process

if TYPE_CHECKING:
    from tailrace.stack.home import Home
    from tailrace.stack.process import Record
    from tailrace.stack.service import Service

MEGABYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """One service as it is now; ``state`` is ``ready``, ``unready`` (it runs, but does not answer) or ``stopped``."""

    name: str
    version: str
    state: str
    address: str
    pid: int | None = None
    memory_mb: int = 0
    seconds_to_ready: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the status as ``--json`` prints it."""
        return asdict(self)


def survey(home: Home, service: Service, record: Record | None) -> ServiceStatus:
    """Look at one service."""
    version = home.cache.lock.components[service.name].version
    address = home.endpoints().public()[service.name] if home.state.ports else ""
    live = record.process() if record else None
    if not record or not live:
        return ServiceStatus(service.name, version, "stopped", address)
    return ServiceStatus(
        service.name,
        version,
        "ready" if service.ready(home) else "unready",
        address,
        pid=record.pid,
        memory_mb=round(sum(map(memory, process.family(live))) / MEGABYTE),
        seconds_to_ready=record.ready_after,
    )


def memory(found: psutil.Process) -> int:
    """Return the bytes of memory a process uses, shared pages counted by share where the system tells."""
    try:
        full = found.memory_full_info()
        return int(getattr(full, "pss", 0) or full.rss)
    except psutil.AccessDenied:
        return int(found.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
