"""connectors/NAME.json as a value: the body that ``PUT /connectors/NAME/config`` takes, and what we read in it.

The file is the one obvious place for what is captured: database, slot, publication, tables. ``${env:NAME}`` in it is
expanded by Kafka Connect itself (its environment config provider), never by us, so that no secret passes through here.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from tailrace import topics
from tailrace.errors import ProjectError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

HEARTBEAT = f"{topics.HEARTBEAT_SCHEMA}.{topics.HEARTBEAT_TABLE}"
SIGNAL = f"{topics.HEARTBEAT_SCHEMA}.{topics.SIGNAL_TABLE}"
OWN = (HEARTBEAT, SIGNAL)  # tables that are Tailrace's, not the user's
KEYS = "message.key.columns"
_KEY = re.compile(r"(\w+(?:\\)?\.[\w-]+):(\w+(?:,\w+)*)")


@dataclass(frozen=True)
class Connector:
    """One Debezium connector: its name in Connect and its config, all values text."""

    name: str
    config: Mapping[str, str]

    def _need(self, key: str) -> str:
        value = self.config.get(key, "")
        if not value:
            raise ProjectError(
                f"connectors/{self.name}.json lacks {key}.",
                hint="connectors/bank.json of the reference project shows every key.",
            )
        return value

    @property
    def database(self) -> str:
        """The database that is captured."""
        return self._need("database.dbname")

    @property
    def slot(self) -> str:
        """The replication slot; Debezium creates it, so that the snapshot is one consistent cut."""
        return self._need("slot.name")

    @property
    def publication(self) -> str:
        """The publication, which ``apply`` creates."""
        return self._need("publication.name")

    @property
    def prefix(self) -> str:
        """The prefix of the raw topics."""
        return self._need("topic.prefix")

    @property
    def published(self) -> tuple[str, ...]:
        """Every captured table as ``schema.table``, those of Tailrace included, in the file's order."""
        listed = self._need("table.include.list").split(",")
        return tuple(entry.strip().replace("\\.", ".") for entry in listed if entry.strip())

    @property
    def tables(self) -> tuple[str, ...]:
        """The captured tables of the user."""
        return tuple(table for table in self.published if table not in OWN)

    @property
    def notifications(self) -> str:
        """The topic in which Debezium tells how its snapshots go; empty where the file names none."""
        return self.config.get("notification.sink.topic.name", "")

    @property
    def role(self) -> str:
        """The role that captures; empty where only Connect knows it."""
        found = self.config.get("database.user", "")
        return "" if "${" in found else found

    @cached_property
    def keys(self) -> dict[str, tuple[str, ...]]:
        """The columns that message.key.columns names, by table; ProjectError where it says anything but plain names.

        To Debezium each entry is a pattern, which may name tables that nobody had in mind.
        """
        found: dict[str, tuple[str, ...]] = {}
        for entry in filter(None, (part.strip() for part in self.config.get(KEYS, "").split(";"))):
            match = _KEY.fullmatch(entry)
            table = match[1].replace("\\.", ".") if match else ""
            if match is None or table in found:
                raise ProjectError(
                    f"connectors/{self.name}.json: {KEYS} is not a list of tables with their columns.",
                    detail=f"{entry!r} " + ("names a table again." if match else "is not SCHEMA.TABLE:COLUMN,COLUMN."),
                    hint=f'"{KEYS}": "public.visits:visitor,day;public.logins:token" - plain names, no patterns.',
                )
            found[table] = tuple(match[2].split(","))
        return found


def load(path: Path) -> Connector:
    """Read one connector file, or raise ProjectError."""
    try:
        config = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ProjectError(
            f"There is no connectors/{path.name}.", hint="tailrace.toml names it in [pipeline]."
        ) from error
    except ValueError as error:
        raise ProjectError(f"connectors/{path.name} is not valid JSON.", detail=str(error)) from error
    if not isinstance(config, dict) or not all(isinstance(value, str) for value in config.values()):
        raise ProjectError(
            f"connectors/{path.name} is not a flat object of texts.",
            hint='It is the body of PUT /connectors/NAME/config: every value is a text, also "true" and "3".',
        )
    return Connector(name=path.stem, config=config)
