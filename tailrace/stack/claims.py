"""Which stack of this user has which ports, so that stacks started at the same moment do not choose the same.

A server binds its port seconds after it was chosen, and until then nothing shows that it is spoken for. Claims are kept
beside the cache, under a lock, for as long as the folder of their stack is there, whether it runs or not.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tailrace.stack import lock

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

WAIT_SECONDS = 30.0


@dataclass(slots=True)
class Claims:
    """The ports of every stack, by the folder of its state."""

    own: str
    by_stack: dict[str, list[int]] = field(default_factory=dict)

    @property
    def others(self) -> set[int]:
        """Return the ports of all other stacks."""
        return {port for stack, ports in self.by_stack.items() if stack != self.own for port in ports}

    def set(self, ports: Collection[int]) -> None:
        """Let these be the ports of this stack."""
        self.by_stack[self.own] = sorted(ports)


@contextmanager
def held(folder: Path, own: Path) -> Iterator[Claims]:
    """Hold the claims kept in a folder, alone, for the stack ``own``; what is set is kept."""
    path, waits = folder / "ports.json", "another stack to choose its ports"
    with lock.held(folder / "ports.lock", timeout=WAIT_SECONDS, what=waits, every=0.02):
        claims = Claims(str(own), {stack: ports for stack, ports in read(path).items() if Path(stack).exists()})
        yield claims
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(claims.by_stack))
        fresh.replace(path)


def read(path: Path) -> dict[str, list[int]]:
    """Return what is kept; a missing or unreadable file holds no claims."""
    try:
        return {str(stack): [int(port) for port in ports] for stack, ports in json.loads(path.read_text()).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
