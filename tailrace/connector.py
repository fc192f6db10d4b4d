"""connectors/NAME.json as a value: the body that ``PUT /connectors/NAME/config`` takes, and what we read in it.

The file is the one obvious place for what is captured: database, slot, publication, tables. ``${env:NAME}`` in it is
expanded by Kafka Connect itself (its environment config provider), never by us, so that no secret passes through here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tailrace import topics
from tailrace.errors import ProjectError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

HEARTBEAT = f"{topics.HEARTBEAT_SCHEMA}.{topics.HEARTBEAT_TABLE}"
SIGNAL = f"{topics.HEARTBEAT_SCHEMA}.{topics.SIGNAL_TABLE}"
OWN = (HEARTBEAT, SIGNAL)  # tables that are Tailrace's, not the user's


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
