"""How a contract grows without anybody stopping: what may follow what, and which contract is in force.

The contract in force of a record is its file, schemas/X.avsc, or the newest schema registered under its subject where
that is an evolution of the file's: the same fields under the same key, a type equal or wider (int to long, float to
double), and besides them only nullable fields whose default is null. So every record of an older contract reads under
every later one, and whoever has not heard of a later one can still write. What is neither the same nor an evolution is
Refused: nobody guesses which of the two is meant.

Everything here is pure except ``evolved``, which asks the registry. It registers nothing and writes no file.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from tailrace import topics
from tailrace.contract import build
from tailrace.errors import ProjectError, Refused

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from tailrace.contract import Contract, Field
    from tailrace.project import Project

WIDER = {("int", "long"), ("float", "double")}
READS = {*WIDER, ("int", "double"), *((kind, "string") for kind in ("json", "uuid", "numeric")), ("string", "json")}
NOTHING: Mapping[str, str] = MappingProxyType({})


class Registry(Protocol):
    """What is asked of the registry (tailrace.registry)."""

    def latest(self, topic: str) -> tuple[int, dict[str, Any]] | None:
        """Return (id, schema) of the newest value schema of a topic, or None."""


def added(contract: Contract, fields: Sequence[Mapping[str, Any]], widened: Mapping[str, str] = NOTHING) -> Contract:
    """Return the contract with fields after its own and types widened; Refused when that is no evolution of it.

    ``fields`` are Avro's, each a union with null first and the default null; ``widened`` maps names to kinds.
    """
    there = [_widened(entry, widened.get(entry["name"])) for entry in contract.schema["fields"]]
    schema = {**contract.schema, "fields": [*there, *(dict(field) for field in fields)]}
    names = [entry["name"] for entry in schema["fields"]]
    twice = {name for name in names if names.count(name) > 1} | (widened.keys() - contract.by_name.keys())
    if twice:
        raise Refused(f"The contract {contract.name} cannot grow so.", detail=f"field {', '.join(sorted(twice))}")
    made = build(contract.name, schema, where=f"{contract.name}.avsc")
    wrong = tuple(obstacles(contract, made))
    if wrong:
        raise Refused(f"The contract {contract.name} cannot grow so.", detail="; ".join(wrong))
    return made


def newer(contract: Contract, registered: Mapping[str, Any]) -> Contract | None:
    """Return the registry's schema as a contract where it is an evolution of ``contract``, None where it is the same.

    Raise Refused, with what to do, where it is neither. Order of fields and documentation do not count, and what is
    said beside the fields is what the file says.
    """
    try:
        found = build(contract.name, registered, where=f"{contract.name} in the registry")
    except ProjectError as error:
        raise _refused(contract, (error.detail or error.problem,)) from error
    wrong = tuple(obstacles(contract, found))
    if wrong:
        raise _refused(contract, wrong)
    if not ahead(contract, found):
        return None
    return build(contract.name, {**contract.schema, "fields": registered["fields"]}, where=f"{contract.name}.avsc")


def ahead(contract: Contract, later: Contract) -> tuple[str, ...]:
    """Name what an evolution has beyond a contract: the fields it adds, then those it widens."""
    plus = [f"field {name}" for name in later.by_name if name not in contract.by_name]
    wider = [
        f"field {field.name} as {later.by_name[field.name].kind}"
        for field in contract.fields
        if field.name in later.by_name and later.by_name[field.name].kind != field.kind
    ]
    return (*plus, *wider)


def obstacles(contract: Contract, later: Contract) -> Iterator[str]:
    """Say why ``later`` is no evolution of ``contract``; nothing when it is one, or the same."""
    if _full_name(contract) != _full_name(later):
        yield f"the record is called {_full_name(later)} instead of {_full_name(contract)}"
    if contract.key != later.key:
        yield f"its key is {', '.join(later.key)} instead of {', '.join(contract.key)}"
    entries = {entry["name"]: entry for entry in later.schema["fields"]}
    for entry in contract.schema["fields"]:
        name = entry["name"]
        if name not in entries:
            yield f"field {name} is not in it"
        elif not _follows(contract.by_name[name], later.by_name[name]):
            yield f"field {name} has another type"
        elif _default(entry) != _default(entries[name]):
            yield f"field {name} has another default"
    for name, entry in entries.items():
        if name not in contract.by_name and not optional(entry):
            yield f"field {name} is new and does not default to null"


def unreadable(contract: Contract, older: Contract) -> tuple[str, ...]:
    """Name the fields whose values, written under ``older``, would be read as something else, or not at all.

    Avro itself resolves by the bare type: a long becomes a timestamp, a text a decimal. That would be a guess.
    """
    return tuple(
        name
        for name, field in contract.by_name.items()
        if (name not in older.by_name and name not in contract.defaults)
        or (name in older.by_name and not _reads(older.by_name[name], field))
    )


def optional(entry: Mapping[str, Any]) -> bool:
    """Say whether an Avro field is nullable and null where a record does not have it."""
    shape = entry["type"]
    return isinstance(shape, list) and shape[:1] == ["null"] and _default(entry) == (None,)


def evolved(project: Project, registry: Registry, *, records: Collection[str] | None = None) -> Project:
    """Return the project with the contracts in force, of the captured records or only of ``records``."""
    captured = [project.record_of(table) for table in project.tables]
    found = {}
    for record in dict.fromkeys(captured if records is None else records):
        contract = project.contracts.get(record)
        registered = contract and registry.latest(topics.conformed(project.name, record))
        later = newer(contract, registered[1]) if contract and registered else None
        if later is not None:
            found[record] = later
    return replace(project, contracts={**project.contracts, **found}) if found else project


def _widened(entry: Mapping[str, Any], kind: str | None) -> dict[str, Any]:
    if kind is None:
        return dict(entry)
    shape = entry["type"]
    wider = ["null" if branch == "null" else kind for branch in shape] if isinstance(shape, list) else kind
    return {**entry, "type": wider}


def _follows(field: Field, later: Field) -> bool:
    return field == later or ((field.kind, later.kind) in WIDER and field.nullable == later.nullable)


def _reads(old: Field, field: Field) -> bool:
    if old.item is not None and field.item is not None:
        return _reads(old.item, field.item)
    return (old.kind == field.kind and old.scale == field.scale) or (old.kind, field.kind) in READS


def _default(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    return (entry["default"],) if "default" in entry else ()


def _full_name(contract: Contract) -> str:
    parts = (contract.schema.get("namespace"), contract.schema.get("name"))
    return ".".join(str(part) for part in parts if part)


def _refused(contract: Contract, wrong: Sequence[str]) -> Refused:
    name = contract.name
    return Refused(
        f"The newest registered schema of {name} is neither schemas/{name}.avsc nor an evolution of it.",
        detail=f"The registered one: {'; '.join(wrong)}.",
        hint=f"`tailrace schema check {name}` compares them, `tailrace apply` registers the file; a worker that has "
        "run since before the file changed has to be started again.",
    )
