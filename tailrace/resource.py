"""Resources: what ``plan`` compares and ``apply`` makes, one class per kind, each beside what it belongs to.

``inspect`` only reads. ``apply`` makes the thing what the project says, and may be called twice: the second changes
nothing. A difference that cannot be mended in place (a partition count, say) is a ``conflict``: apply refuses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Action = Literal["none", "create", "change", "conflict"]


@dataclass(frozen=True, slots=True)
class Step:
    """What ``apply`` would do to one resource: the lines say it for people, secrets left out."""

    kind: str
    name: str
    action: Action
    lines: tuple[str, ...] = ()


class Resource(Protocol):
    """One thing outside that the project needs."""

    def inspect(self) -> Step:
        """Compare what is there with what the project says; Unreachable when the service does not answer."""

    def apply(self) -> None:
        """Make it so."""
