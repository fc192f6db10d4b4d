"""Contracts in the schema registry, under the subject ``<conformed topic>-value``, BACKWARD_TRANSITIVE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tailrace import evolution, topics
from tailrace.contract import build
from tailrace.errors import ProjectError
from tailrace.registry import canonical
from tailrace.resource import Step

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tailrace.contract import Contract
    from tailrace.control.services import Services

KIND = "schema"


class SchemaResource:
    """One contract's registration."""

    def __init__(self, services: Services, contract: Contract) -> None:
        self._services, self._contract = services, contract
        self._topic = topics.conformed(services.project.name, contract.name)

    def inspect(self) -> Step:
        """Compare the newest registered schema with the file, and ask the registry whether the file may follow it.

        A schema that the pipeline registered because the table grew is never followed by the older file.
        """
        name = f"{self._topic}-value"
        newest = self._services.registry.latest(self._topic)
        if newest is None:
            return Step(KIND, name, "create", (f"from schemas/{self._contract.name}.avsc",))
        if canonical(newest[1]) == canonical(self._contract.schema):
            return Step(KIND, name, "none")
        lines = differences(newest[1], self._contract.schema)
        beyond, grown = registered_beyond(self._contract, newest[1])
        if beyond:
            said = ahead(self._contract, beyond)
            return Step(KIND, name, "none", (said,)) if grown else Step(KIND, name, "conflict", (*lines, said))
        refused = self._services.registry.refusal(self._topic, self._contract.schema)
        if refused is not None:
            hint = "new fields need a default, fields keep their types"
            return Step(KIND, name, "conflict", (*lines, f"not backward compatible: {hint}", *refused))
        return Step(KIND, name, "change", lines)

    def apply(self) -> None:
        """Register the file as the newest version, unless the pipeline has registered more since it was inspected."""
        if self.inspect().action in ("create", "change"):
            self._services.registry.register(self._topic, self._contract.schema)


def registered_beyond(contract: Contract, registered: Mapping[str, Any]) -> tuple[tuple[str, ...], bool]:
    """Name what the registry has beyond a file since the pipeline let the contract grow; say whether that is all.

    It is fields with null as default and wider types. Where the two differ in more, the file has changed as well.
    """
    try:
        found = build(contract.name, registered, where=f"{contract.name} in the registry")
    except ProjectError:
        return (), False
    optional = {entry["name"] for entry in registered["fields"] if evolution.optional(entry)}
    beyond = [f"field {name}" for name in found.by_name if name not in contract.by_name and name in optional]
    both = [(field, found.by_name[field.name]) for field in contract.fields if field.name in found.by_name]
    beyond += [f"field {old.name} as {new.kind}" for old, new in both if (old.kind, new.kind) in evolution.WIDER]
    return tuple(beyond), not any(evolution.obstacles(contract, found))


def ahead(contract: Contract, beyond: Sequence[str]) -> str:
    """Say that the registry is ahead of a file, and what mends it."""
    return f"the registry is ahead by: {', '.join(beyond)}; `tailrace schema derive {contract.name}` writes it"


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
