"""The publication: exactly the captured tables, every operation, partitions under their root.

A publication FOR ALL TABLES (or for a whole schema) is a conflict: it makes Postgres refuse UPDATE and DELETE on every
table without a key, the application's included, and it cannot be narrowed in place.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from tailrace.connector import OWN
from tailrace.control.resources.heartbeat import run
from tailrace.resource import Step
from tailrace.source.catalogue import quote

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tailrace.connector import Connector
    from tailrace.control.services import Services
    from tailrace.source.catalogue import Catalogue, Publication

KIND = "publication"
OPERATIONS = ("insert", "update", "delete", "truncate")


class PublicationResource:
    """The connector's publication."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._connector = services.project.connector

    def inspect(self) -> Step:
        """Compare it with table.include.list."""
        return compare(self._connector, self._services.catalogue())

    def apply(self) -> None:
        """Create it, or set its tables and options."""
        exists = self._connector.publication in self._services.catalogue().publications
        for statement in statements(self._connector.publication, self._connector.published, exists=exists):
            run(self._services, statement)


def statements(name: str, tables: Iterable[str], *, exists: bool) -> tuple[str, ...]:
    """Return the SQL that makes the publication what it should be."""
    listed = ", ".join(quote(table) for table in tables)
    options = f"publish = '{', '.join(OPERATIONS)}', publish_via_partition_root = true"
    if not exists:
        return (f"CREATE PUBLICATION {quote(name)} FOR TABLE {listed} WITH ({options})",)
    return (f"ALTER PUBLICATION {quote(name)} SET TABLE {listed}", f"ALTER PUBLICATION {quote(name)} SET ({options})")


def compare(connector: Connector, seen: Catalogue) -> Step:
    """Return the step that the catalogue calls for."""
    name = connector.publication
    missing = [table for table in connector.tables if table not in seen.tables]
    if missing:
        return Step(KIND, name, "conflict", tuple(absent(table, seen.names) for table in missing))
    found = seen.publications.get(name)
    if found is None:
        return Step(KIND, name, "create", tuple(f"table {table}" for table in connector.published))
    if found.all_tables or found.schemas:
        scope = "FOR ALL TABLES" if found.all_tables else f"for the schemas {', '.join(found.schemas)}"
        return Step(KIND, name, "conflict", (f"it is {scope}: DROP PUBLICATION {quote(name)}, apply makes it anew",))
    lines = differences(found, connector.published)
    return Step(KIND, name, "change" if lines else "none", lines)


def absent(table: str, names: Iterable[str]) -> str:
    """Say that a table does not exist, with the nearest name that does."""
    near = difflib.get_close_matches(table, [name for name in names if name not in OWN], n=1)
    return f"the table {table} does not exist" + (f"; did you mean {near[0]}?" if near else "")


def differences(found: Publication, published: Iterable[str]) -> tuple[str, ...]:
    """Say, one line each, where a publication is not what it should be."""
    wanted = set(published)
    lines = [f"+ table {table}" for table in sorted(wanted - set(found.tables))]
    lines += [f"- table {table}" for table in sorted(set(found.tables) - wanted)]
    lines += [f"~ {table}: row filter or column list -> every row and column" for table in found.filtered]
    if found.operations != set(OPERATIONS):
        lines.append(f"publish: {', '.join(sorted(found.operations))} -> {', '.join(OPERATIONS)}")
    if not found.via_root:
        lines.append("publish_via_partition_root: false -> true")
    return tuple(lines)
