"""Contracts in the schema registry, under the subject ``<conformed topic>-value``, BACKWARD_TRANSITIVE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx

from tailrace import topics
from tailrace.errors import Unreachable
from tailrace.registry import canonical
from tailrace.resource import Step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tailrace.contract import Contract
    from tailrace.control.services import Services

KIND = "schema"


class SchemaResource:
    """One contract's registration."""

    def __init__(self, services: Services, contract: Contract) -> None:
        self._services, self._contract = services, contract
        self._topic = topics.conformed(services.project.name, contract.name)

    def inspect(self) -> Step:
        """Compare the newest registered schema with the file, and ask the registry whether the file may follow it."""
        name = f"{self._topic}-value"
        newest = self._services.registry.latest(self._topic)
        if newest is None:
            return Step(KIND, name, "create", (f"from schemas/{self._contract.name}.avsc",))
        if canonical(newest[1]) == canonical(self._contract.schema):
            return Step(KIND, name, "none")
        lines = differences(newest[1], self._contract.schema)
        refused = self._incompatible(name)
        if refused is not None:
            hint = "new fields need a default, fields keep their types"
            return Step(KIND, name, "conflict", (*lines, f"not backward compatible: {hint}", *refused))
        return Step(KIND, name, "change", lines)

    def apply(self) -> None:
        """Register the file as the newest version."""
        self._services.registry.register(self._topic, self._contract.schema)

    def _incompatible(self, subject: str) -> tuple[str, ...] | None:
        """Return the registry's reasons when it would refuse the schema, else None."""
        url = f"{self._services.project.endpoints.registry.rstrip('/')}/compatibility/subjects/{subject}/versions"
        body = {"schema": canonical(self._contract.schema)}
        try:
            answer = httpx.post(url, params={"verbose": "true"}, json=body, timeout=15)
        except httpx.TransportError as error:
            raise Unreachable("The schema registry does not answer.", detail=type(error).__name__) from error
        if answer.is_error:
            raise Unreachable("The schema registry is in trouble.", detail=f"{subject}: {answer.status_code}")
        found = answer.json()
        return None if found.get("is_compatible") else tuple(str(line) for line in found.get("messages") or ())


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    """Say, one line per field, what changed between two record schemas."""
    before = {field["name"]: field for field in old.get("fields", ())}
    after = {field["name"]: field for field in new.get("fields", ())}
    lines = [f"+ field {name}" for name in after if name not in before]
    lines += [f"- field {name}" for name in before if name not in after]
    for name, field in after.items():
        if name in before and canonical(before[name]) != canonical(field):
            lines.append(f"~ field {name}: {canonical(before[name])} -> {canonical(field)}")
    return tuple(lines) or ("its documentation or other attributes differ",)
