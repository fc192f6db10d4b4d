"""`tailrace schema check`: where each contract stands, against its table and against the registry.

Incompatible is what stops or parks records now or with the next row; a warning is what somebody should do; a note is
what the pipeline does by itself. ``judge`` is pure; ``check`` asks the catalogue and the registry.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from tailrace import topics
from tailrace.control import growth
from tailrace.control.checks import contracts
from tailrace.control.checks.finding import warning
from tailrace.control.checks.tables import captured
from tailrace.control.resources import schemas
from tailrace.control.services import Services
from tailrace.errors import UsageError
from tailrace.registry import COMPATIBILITY, canonical
from tailrace.source.columns import fieldable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tailrace.contract import Contract
    from tailrace.control.checks.finding import Finding
    from tailrace.project import Project
    from tailrace.source.catalogue import Catalogue, Column

Verdict = Literal["incompatible", "warning", "note"]
ORDER: tuple[Verdict, ...] = ("incompatible", "warning", "note")
CONSEQUENCES: Mapping[str, Verdict] = {"error": "incompatible", "warning": "warning", "note": "note"}


@dataclass(frozen=True, slots=True)
class Standing:
    """One thing in which a contract differs from its table or from the registry, and what to do."""

    record: str
    against: Literal["table", "registry"]
    verdict: Verdict
    problem: str
    detail: str = ""
    todo: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return it as ``--json`` prints it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Registered:
    """What the registry says of one record: ``refusal`` is why the file could not follow, None where it could."""

    schema: Mapping[str, Any] | None = None
    compatibility: str = COMPATIBILITY
    refusal: tuple[str, ...] | None = None


def judge(project: Project, record: str, seen: Catalogue, registered: Registered) -> list[Standing]:
    """Return how the contract of a record stands, what is incompatible first."""
    contract = project.contract(record)
    found = [*_table(project, contract, seen), *_registry(contract, registered)]
    return sorted(found, key=lambda standing: ORDER.index(standing.verdict))


def check(project: Project, records: Sequence[str] = ()) -> list[Standing]:
    """Ask the catalogue and the registry about the contracts of some records, of all by default."""
    known = [project.record_of(table) for table in project.tables]
    strange = [record for record in records if record not in known]
    if strange:
        raise UsageError(f"There is no record {', '.join(strange)}.", hint=f"Known: {', '.join(known)}.")
    with Services(project) as services:
        seen = services.catalogue()
        found: list[Standing] = []
        for record in dict.fromkeys(records or known):
            contract = project.contracts.get(record)
            found += judge(project, record, seen, _asked(services, contract)) if contract else [_none(record)]
    return found


def _none(record: str) -> Standing:
    todo = f"`tailrace schema derive {record}` writes one from the table."
    return Standing(record, "table", "incompatible", "There is no contract.", f"schemas/{record}.avsc", todo)


def _asked(services: Services, contract: Contract) -> Registered:
    registry, topic = services.registry, topics.conformed(services.project.name, contract.name)
    newest = registry.latest(topic)
    if newest is None:
        return Registered()
    return Registered(newest[1], registry.compatibility(topic), registry.refusal(topic, contract.schema))


def _table(project: Project, contract: Contract, seen: Catalogue) -> Iterator[Standing]:
    name = project.table_of(contract.name)
    table = seen.tables.get(name)
    if table is None:
        todo = "`tailrace check` names what is like it; the contract of a table that is gone goes with it."
        yield Standing(contract.name, "table", "incompatible", f"The table {name} does not exist.", "", todo)
        return
    for finding in contracts.fit(project, contract, table):
        yield _of(contract, finding)
    strangers = growth.unknown(contract, captured(project.connector, table))
    say = POLICIES[project.settings.table(name).unknown_columns]
    for column in strangers:
        found = say(contract, column) if fieldable(column) else _unable(contract, column)
        yield _passed_on(found) if name in project.functions else found


def _of(contract: Contract, found: Finding) -> Standing:
    verdict, todo = CONSEQUENCES[found.severity], found.hint or found.sql
    return Standing(contract.name, "table", verdict, found.what, found.detail, todo)


def _ignored(contract: Contract, column: Column) -> Standing:
    problem = f"The column {column.name} is not in the contract: it is left out."
    todo = f'`tailrace schema derive {contract.name}` adds it; "ignore": ["{column.name}"] says that it stays out.'
    return Standing(contract.name, "table", "note", problem, 'unknown_columns = "ignore"', todo)


def _evolving(contract: Contract, column: Column) -> Standing:
    problem = f"The column {column.name} is not in the contract: it joins it with the next row that is written."
    todo = f"`tailrace schema derive {contract.name}` writes it into the file."
    return Standing(contract.name, "table", "note", problem, 'unknown_columns = "evolve"', todo)


def _stopping(contract: Contract, column: Column) -> Standing:
    problem = f"The column {column.name} is not in the contract: the table waits at the next row that is written."
    todo = f'`tailrace schema derive {contract.name}` and `tailrace apply`, or "ignore": ["{column.name}"] in the file.'
    return Standing(contract.name, "table", "incompatible", problem, 'unknown_columns = "stop"', todo)


def _passed_on(found: Standing) -> Standing:
    """Return what a standing is where a conform function makes the record: only it knows whether it comes to that."""
    detail = f"This holds where the conform function passes it on as it is. {found.detail}".strip()
    return replace(found, verdict="note", detail=detail)


def _unable(contract: Contract, column: Column) -> Standing:
    problem = f"The column {column.name} is not in the contract, and no contract can hold it."
    return Standing(contract.name, "table", "note", problem, f"It is {column.shown}.")


POLICIES: Mapping[str, Callable[[Contract, Column], Standing]] = {
    "ignore": _ignored, "evolve": _evolving, "stop": _stopping,
}  # fmt: skip


def _registry(contract: Contract, registered: Registered) -> Iterator[Standing]:
    name = contract.name
    if registered.schema is None:
        yield Standing(name, "registry", "warning", "It is not registered yet.", "", "`tailrace apply` registers it.")
        return
    if registered.compatibility != COMPATIBILITY:
        yield Standing(
            name,
            "registry",
            "warning",
            "The registry would take a schema that old records cannot be read under.",
            f"Its compatibility level is {registered.compatibility or 'not set'} instead of {COMPATIBILITY}.",
            "Set it for the subject: `tailrace apply` does with the next version that it registers.",
        )
    if canonical(registered.schema) != canonical(contract.schema):
        yield _differing(contract, registered.schema, registered.refusal)


def _differing(contract: Contract, schema: Mapping[str, Any], refusal: tuple[str, ...] | None) -> Standing:
    name = contract.name
    beyond, alone = schemas.registered_beyond(contract, schema)
    if beyond:
        what = f"The registry is ahead by: {', '.join(beyond)}."
        detail = (
            "" if alone else "The file has changed as well: " + "; ".join(schemas.differences(schema, contract.schema))
        )
        todo = f"`tailrace schema derive {name}` writes it" + ("." if alone else ", then `tailrace apply`.")
        return Standing(name, "registry", "warning" if alone else "incompatible", what, detail, todo)
    lines = "; ".join(schemas.differences(schema, contract.schema))
    if refusal is None:
        return Standing(name, "registry", "warning", "The file is not what is registered.", lines, "`tailrace apply`")
    problem = "The file cannot follow what is registered: old records could not be read."
    todo = "Give new fields a default and let fields keep their types; a new meaning needs a new field."
    return Standing(name, "registry", "incompatible", problem, "; ".join((lines, *refusal)), todo)


def ahead(project: Project, newest: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """Warn of the contracts whose newest registered schema, given by record, has grown beyond the file."""
    for record, schema in newest.items():
        beyond, _ = schemas.registered_beyond(project.contract(record), schema)
        if beyond:
            yield warning(
                f"The registry is ahead of schemas/{record}.avsc by: {', '.join(beyond)}.",
                "The pipeline let the contract grow with its table; the file is older.",
                hint=f"`tailrace schema derive {record}` writes it.",
            )
