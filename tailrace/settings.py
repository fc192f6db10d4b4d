"""tailrace.toml: what may stand in it, with defaults, and clear words for what may not.

Values of ``[endpoints]`` may say ``${env:NAME}``. It reads one file and opens no connection.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tailrace.errors import ProjectError

if TYPE_CHECKING:
    from pathlib import Path

FILE_NAME = "tailrace.toml"
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,40}$")]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PipelineSettings(_Table):
    """``[pipeline]``: its name, the prefix of every topic and group, and the file in connectors/ without ``.json``."""

    name: Name
    connector: str


class EndpointSettings(_Table):
    """``[endpoints]``: addresses, where they are not those of the embedded stack."""

    postgres: str = ""
    kafka: str = ""
    connect: str = ""
    registry: str = ""
    dynamodb: str = ""
    s3: str = ""
    opensearch: str = ""


class TopicSettings(_Table):
    """``[topics]``: how ``apply`` makes them. Partition counts never change inside an epoch."""

    partitions: int = Field(default=3, ge=1, le=10_000)
    replication: int = Field(default=1, ge=1, le=10)
    raw_retention_hours: int = Field(default=168, ge=1)


class LakeSettings(_Table):
    """``[lake]``: the bucket, and when an object is closed."""

    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")] = "lake"
    flush_seconds: float = Field(default=5.0, gt=0)
    flush_rows: int = Field(default=50_000, ge=1)


class WorkerSettings(_Table):
    """``[workers.NAME]``: limits of one worker; a sink's own defaults hold where nothing is said."""

    batch_rows: int | None = Field(default=None, ge=1)
    linger_seconds: float | None = Field(default=None, ge=0)
    buffer_rows: int = Field(default=200_000, ge=1)  # of all partitions together
    buffer_mb: int = Field(default=128, ge=1)  # of messages, of all partitions together
    write_timeout_seconds: float = Field(default=60.0, gt=0)
    on_reject: Literal["continue", "hold"] = "continue"  # later changes of a key that was parked (docs/dead-letters.md)
    breaker: bool = True  # stop where most of a batch is refused for one reason, instead of parking it


class OutboxSettings(_Table):
    """``[tables."schema.table".outbox]``: its rows are domain events; which columns say what (docs/outbox.md).

    ``routes`` are the values that the column ``route`` may have: each is a topic. The other names are columns.
    """

    routes: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")]] = Field(min_length=1)
    id: str = "id"
    key: str = "aggregateid"
    type: str = "type"
    route: str = "aggregatetype"
    payload: str = "payload"


class TableSettings(_Table):
    """``[tables."schema.table"]``: what holds for one captured table only."""

    outbox: OutboxSettings | None = None
    unknown_columns: Literal["ignore", "evolve", "stop"] = "ignore"  # columns of no contract (docs/evolution.md)
    truncate: Literal["park", "propagate", "refuse"] = "park"  # what a TRUNCATE does (docs/structure.md)


class Settings(_Table):
    """The whole file."""

    pipeline: PipelineSettings
    endpoints: EndpointSettings = EndpointSettings()
    topics: TopicSettings = TopicSettings()
    lake: LakeSettings = LakeSettings()
    workers: dict[str, WorkerSettings] = {}
    tables: dict[str, TableSettings] = {}

    def worker(self, name: str) -> WorkerSettings:
        """Return the settings of one worker, defaults where the file says nothing."""
        return self.workers.get(name, WorkerSettings())

    def table(self, name: str) -> TableSettings:
        """Return the settings of one table, given as ``schema.table``, defaults where the file says nothing."""
        return self.tables.get(name, TableSettings())


def load(folder: Path) -> Settings:
    """Read tailrace.toml of a project folder, or raise ProjectError."""
    path = folder / FILE_NAME
    try:
        content = tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        raise ProjectError(
            f"There is no {FILE_NAME} in {folder}.",
            hint="Run it inside a project folder, name one with --project, or make one with `tailrace init`.",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProjectError(f"{FILE_NAME} is not valid TOML.", detail=str(error)) from error
    try:
        return Settings.model_validate(_expand(content))
    except ValidationError as error:
        raise _explain(error) from error


def _expand(value: Any) -> Any:
    """Replace ``${env:NAME}`` in every text of a parsed file."""
    if isinstance(value, dict):
        return {key: _expand(item) for key, item in value.items()}
    if isinstance(value, str):
        return re.sub(r"\$\{env:(\w+)\}", lambda match: os.environ.get(match[1], ""), value)
    return value


def _explain(error: ValidationError) -> ProjectError:
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    where = ".".join(place)
    if first["type"] == "extra_forbidden":
        known = _names(place[:-1])
        near = difflib.get_close_matches(place[-1], known, n=1, cutoff=0.5)
        hint = f"Did you mean `{near[0]}`?" if near else f"Known here: {', '.join(sorted(known))}."
        return ProjectError(f"{FILE_NAME} has an unknown key: {where}.", hint=hint)
    if first["type"] == "missing":
        return ProjectError(
            f"{FILE_NAME} lacks {where}.", hint=f"Add `{place[-1]} = ...` under [{'.'.join(place[:-1])}]."
        )
    return ProjectError(f"{FILE_NAME} has a wrong value at {where}.", detail=first["msg"])


def _names(place: list[str]) -> list[str]:
    tables: dict[str, type[BaseModel]] = {
        "pipeline": PipelineSettings,
        "endpoints": EndpointSettings,
        "topics": TopicSettings,
        "lake": LakeSettings,
        "workers": WorkerSettings,
        "tables": TableSettings,
    }
    model = tables.get(place[0], Settings) if place else Settings
    model = OutboxSettings if place[2:] == ["outbox"] else model
    return list(model.model_fields)
