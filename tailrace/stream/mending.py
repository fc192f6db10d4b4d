"""What may let a held table go on: a newer contract in the registry, or the one that the table's own policy wants.

It is asked while a table is held, every few seconds, in a thread of its own, and registers only what
``unknown_columns = "evolve"`` declares. Trouble of any sort means that the table stays held; it is never fatal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from tailrace import evolution
from tailrace.crashpoint import Processor, reach
from tailrace.errors import ProjectError, Refused, Unreachable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tailrace.stream.conform import Conformer, TablePlan
    from tailrace.stream.drift import Held, Wish

PATIENCE = 2.0  # seconds for which the registry is asked again


class Registry(Protocol):
    """What is asked of the registry (tailrace.registry)."""

    def latest(self, topic: str) -> tuple[int, dict[str, Any]] | None:
        """Return (id, schema) of the newest value schema of a topic, or None."""

    def register(self, topic: str, schema: Mapping[str, Any]) -> int:
        """Register a value schema of a topic and return its id."""


class Mender:
    """Gives tables of one conformer the contract under which they can go on."""

    def __init__(self, conformer: Conformer, registry: Registry) -> None:
        self._conformer, self._registry = conformer, registry

    def mend(self, topic: str, held: Held) -> str:
        """Return nothing where the table has another contract than it was held under, else what stands in the way."""
        table = self._conformer.tables()[topic]
        if held.under is not table:
            return ""
        try:
            if self._follow(topic, table.plan):
                return ""
            if held.wish:
                self._grow(topic, table.plan, held.wish)
                return ""
        except (Unreachable, Refused, ProjectError) as trouble:
            return f"{trouble.problem} {trouble.detail}".strip()
        return "no newer contract is registered"

    def _follow(self, topic: str, plan: TablePlan) -> bool:
        """Adopt the registry's contract where it is an evolution of the present one."""
        registered = self._registry.latest(plan.topic)
        if registered is None or registered[0] == plan.schema_id:
            return False
        later = evolution.newer(plan.contract, registered[1])
        if later is not None:
            self._conformer.adopt(topic, later, registered[0])
        return later is not None

    def _grow(self, topic: str, plan: TablePlan, wish: Wish) -> None:
        """Register what the policy wants, and adopt it."""
        grown = evolution.added(plan.contract, wish.fields, wish.widened)
        number = self._registry.register(plan.topic, grown.schema)
        reach(Processor.CONTRACT_REGISTERED)
        self._conformer.adopt(topic, grown, number, wish.notes)
