"""``tailrace init``: a new project folder from the templates in the wheel (tailrace/templates/project).

Templates are plain files whose ``{{name}}`` parts are filled in. Nothing that exists is overwritten.
No service is asked: keys are assumed to be ``id``, and ``tailrace check`` says where they are not.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from tailrace.errors import Refused, UsageError
from tailrace.source import unchanged

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from importlib.resources.abc import Traversable
    from pathlib import Path

SUFFIX = ".tmpl"
OPTIONAL = {"README.md", ".gitignore"}  # kept as they are where a folder has them
EMPTY = "schemas"  # `tailrace schema derive` fills it
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,40}")
_TABLE = re.compile(r"[A-Za-z0-9_]+\.[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line says: the pipeline's name, the database, and the tables as ``schema.table``."""

    name: str
    database: str
    tables: tuple[str, ...]

    def words(self) -> dict[str, str]:
        """Return what the templates are filled with."""
        first = self.tables[0].split(".", 1)[1]
        return {
            "name": self.name,
            "database": self.database,
            "slot": self.name.replace("-", "_"),
            "bucket": f"{self.name.replace('_', '-')}-lake",
            "tables": ",".join(self.tables),
            "table": self.tables[0],
            "placeholder": unchanged.fresh(secrets.token_hex(unchanged.LEAST_RANDOM)),
            "record": first,
            "variable": variable(first),
            "dynamodb": _lines(
                self.tables, 'DynamoDBTable("{name}", record="{record}", pk="{upper}#{{id}}", sk="{upper}")', self.name
            ),
            "lake": _lines(self.tables, 'LakeTable("{record}", record="{record}")', self.name),
            "search": _lines(self.tables[:1], 'SearchIndex("{name}-{lower}", record="{record}")', self.name),
        }


def wanted(folder: Path, name: str | None, database: str | None, tables: Sequence[str]) -> Wanted:
    """Return what to lay out, or raise UsageError saying which name cannot be one."""
    chosen = name or re.sub(r"[^a-z0-9_-]+", "-", folder.resolve().name.lower()).strip("-")
    if not _NAME.fullmatch(chosen):
        raise UsageError(
            f"{chosen!r} cannot be the name of a pipeline.",
            detail="It begins with a lower-case letter and has lower-case letters, digits, - and _.",
            hint="Say --name NAME.",
        )
    wrong = [table for table in tables if not _TABLE.fullmatch(table)]
    if wrong:
        raise UsageError(
            f"{wrong[0]!r} is no table name.", hint=f"Name the schema too: public.{wrong[0].split('.')[-1]}."
        )
    return Wanted(chosen, database or chosen, tuple(tables) or ("public.orders",))


def lay_out(folder: Path, what: Wanted) -> list[str]:
    """Write the project's files below ``folder`` and return their paths; Refused when one is there already."""
    renamed = {"gitignore": ".gitignore", "connectors/pipeline.json": f"connectors/{what.name}.json"}
    planned = {renamed.get(path, path): text for path, text in templates()}
    there = {path for path in planned if (folder / path).exists()}
    taken = there - OPTIONAL
    if taken:
        raise Refused(
            f"There is a project in {folder} already.",
            detail=f"These files exist: {', '.join(sorted(taken))}.",
            hint="Choose another folder; nothing was written.",
        )
    (folder / EMPTY).mkdir(parents=True, exist_ok=True)
    missing = sorted(set(planned) - there)
    for path in missing:
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(_fill(planned[path], what.words()))
    return missing


def templates() -> Iterator[tuple[str, str]]:
    """Yield every template: its path below the project folder, and its text."""
    yield from _walk(files("tailrace") / "templates" / "project", "")


def _walk(folder: Traversable, below: str) -> Iterator[tuple[str, str]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _walk(entry, f"{below}{entry.name}/")
        else:
            yield f"{below}{entry.name.removesuffix(SUFFIX)}", entry.read_text()


def _fill(text: str, words: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda match: words[match[1]], text)


def variable(record: str) -> str:
    """Return a Python name for a record."""
    name = re.sub(r"\W", "_", record)
    return name if name.isidentifier() else f"_{name}"


def _lines(tables: Sequence[str], shape: str, name: str) -> str:
    records = [table.split(".", 1)[1] for table in tables]
    return "\n".join(
        f"{variable(record)} = {shape.format(name=name, record=record, upper=record.upper(), lower=record.lower())}"
        for record in records
    )
