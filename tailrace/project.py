"""A project folder, read once: settings, connector, contracts, conform functions, sinks.

Everything is found by where it lies: schemas/*.avsc, connectors/<name>.json, module-level names of processors/*.py and
sinks/*.py; nothing is registered. A table without a function of its own is conformed by the processor ``conform``, by
name and type, to the contract of the same name. Loading runs the user's Python and opens no connection.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tailrace import connector, contract, endpoints, settings, topics
from tailrace.conforming import ConformFunction
from tailrace.errors import ProjectError, UsageError
from tailrace.targets import DynamoDBTable, LakeTable, RawLakeTable, SearchIndex, Sink

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import ModuleType

    from tailrace.settings import OutboxSettings
    from tailrace.targets import Target

DEFAULT_PROCESSOR = "conform"


@dataclass(frozen=True)
class Project:
    """What the files of one project folder say."""

    folder: Path
    settings: settings.Settings
    connector: connector.Connector
    contracts: Mapping[str, contract.Contract]
    processors: Mapping[str, tuple[ConformFunction, ...]]
    sinks: Mapping[str, tuple[Target | Sink, ...]]

    @property
    def name(self) -> str:
        """The pipeline's name."""
        return self.settings.pipeline.name

    @cached_property
    def endpoints(self) -> endpoints.Endpoints:
        """The addresses of the services; ProjectError when one is not known."""
        return endpoints.resolve(self.folder, self.settings.endpoints.model_dump())

    @cached_property
    def functions(self) -> dict[str, ConformFunction]:
        """The user's conform function by ``schema.table``, where there is one."""
        return {function.table: function for functions in self.processors.values() for function in functions}

    @cached_property
    def outboxes(self) -> dict[str, OutboxSettings]:
        """What tailrace.toml says of each outbox, by ``schema.table``: its rows are events, not records."""
        return {name: table.outbox for name, table in self.settings.tables.items() if table.outbox}

    @property
    def tables(self) -> tuple[str, ...]:
        """The captured tables whose rows become records: all but the outboxes."""
        return tuple(table for table in self.connector.tables if table not in self.outboxes)

    @property
    def routes(self) -> tuple[str, ...]:
        """The routes of all outboxes; each is a topic of events."""
        return tuple(route for outbox in self.outboxes.values() for route in outbox.routes)

    def record_of(self, table: str) -> str:
        """Return the name of the record that rows of ``schema.table`` become."""
        function = self.functions.get(table)
        return function.record if function else table.split(".", 1)[1]

    def table_of(self, record: str) -> str:
        """Return the table whose rows become ``record``."""
        for table in self.tables:
            if self.record_of(table) == record:
                return table
        raise ProjectError(
            f"No captured table becomes the record {record}.",
            detail=f"Captured: {', '.join(self.tables)}.",
            hint="Name it in table.include.list of the connector and in @conform(..., to=...).",
        )

    def contract(self, record: str) -> contract.Contract:
        """Return the contract of a record, or raise ProjectError."""
        found = self.contracts.get(record)
        if found is None:
            raise ProjectError(
                f"There is no contract for the record {record}.",
                detail=f"schemas/{record}.avsc does not exist.",
                hint=f"`tailrace schema derive {record}` writes one from the table.",
            )
        return found

    def tables_of(self, processor: str) -> tuple[str, ...]:
        """Return the captured tables that one processor conforms."""
        if processor not in self.processors:
            raise UsageError(f"There is no processor {processor}.", hint=f"Known: {', '.join(self.processors)}.")
        own = {function.table for function in self.processors[processor]}
        rest = processor == DEFAULT_PROCESSOR
        return tuple(table for table in self.connector.tables if table in own or (rest and table not in self.functions))

    @property
    def workers(self) -> dict[str, str]:
        """Every worker with its kind, ``processor`` or ``sink``, as ``tailrace run`` names them."""
        processors = {name: "processor" for name in self.processors if self.tables_of(name)}
        return {**processors, **dict.fromkeys(self.sinks, "sink")}

    def sink(self, name: str) -> tuple[Target | Sink, ...]:
        """Return what the sink module ``name`` declares, or raise UsageError."""
        if name not in self.sinks:
            raise UsageError(f"There is no sink {name}.", hint=f"Known: {', '.join(self.sinks)}.")
        return self.sinks[name]

    def records_of(self, sink: str) -> tuple[str, ...]:
        """Return the records that one sink module takes, each once, in order of declaration."""
        names = [record for declared in self.sink(sink) for record in records(declared)]
        return tuple(dict.fromkeys(names))

    def raw_tables_of(self, sink: str) -> tuple[str, ...]:
        """Return the tables whose raw topics one sink module takes as they are, each once."""
        return tuple(dict.fromkeys(each.table for each in self.sink(sink) if isinstance(each, RawLakeTable)))

    def topics_of(self, sink: str) -> dict[str, str]:
        """Return the topics that one sink module reads, each with its table."""
        conformed = {topics.conformed(self.name, record): self.table_of(record) for record in self.records_of(sink)}
        return conformed | {topics.raw(self.name, table): table for table in self.raw_tables_of(sink)}


def records(declared: Target | Sink) -> tuple[str, ...]:
    """Return the records that one declaration takes; what takes a raw topic takes none."""
    if isinstance(declared, DynamoDBTable | LakeTable | SearchIndex):
        return (declared.record,)
    if isinstance(declared, RawLakeTable):
        return ()
    return tuple(declared.records)


def load(folder: Path) -> Project:
    """Read a project folder, or raise ProjectError naming the file and what is wrong in it."""
    source = load_source(folder)
    project = replace(
        source,
        contracts={path.stem: contract.load(path) for path in sorted((source.folder / "schemas").glob("*.avsc"))},
        sinks={
            path.stem: _declared(module, (DynamoDBTable, LakeTable, RawLakeTable, SearchIndex, Sink))
            for path, module in _modules(source.folder / "sinks")
        },
    )
    _validate(project)
    return project


def load_source(folder: Path) -> Project:
    """Read a project without contracts and sinks: enough for the commands that write the contracts."""
    folder = folder.resolve()
    read = settings.load(folder)
    return Project(
        folder=folder,
        settings=read,
        connector=connector.load(folder / "connectors" / f"{read.pipeline.connector}.json"),
        contracts={},
        processors=_processors(folder),
        sinks={},
    )


def _processors(folder: Path) -> dict[str, tuple[ConformFunction, ...]]:
    found = {path.stem: _declared(module, (ConformFunction,)) for path, module in _modules(folder / "processors")}
    return {DEFAULT_PROCESSOR: (), **found}


def _modules(folder: Path) -> list[tuple[Path, ModuleType]]:
    paths = [path for path in sorted(folder.glob("*.py")) if not path.name.startswith("_")]
    return [(path, _import(path)) for path in paths]


def _import(path: Path) -> ModuleType:
    """Run one of the user's modules under a name of its own."""
    place = f"{path.parent.name}/{path.name}"
    spec = importlib.util.spec_from_file_location(f"tailrace_project_{path.parent.name}_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ProjectError(f"{place} cannot be imported.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's module raises is the project's fault, and is attached
        raise ProjectError(f"{place} cannot be imported.", detail=f"{type(error).__name__}: {error}") from error
    return module


def _declared(module: ModuleType, kinds: tuple[type, ...]) -> tuple[Any, ...]:
    """Return the module-level values of the given kinds, in the order they are written, classes aside."""
    values = [value for name, value in vars(module).items() if not name.startswith("_")]
    return tuple(value for value in values if not isinstance(value, type) and isinstance(value, kinds))


def _validate(project: Project) -> None:
    """Raise ProjectError where the files contradict each other."""
    expected = f"{project.name}.raw"
    if project.connector.prefix != expected:
        raise ProjectError(
            f"connectors/{project.connector.name}.json has another topic.prefix than the pipeline.",
            detail=f"It says {project.connector.prefix!r}; the pipeline {project.name} needs {expected!r}.",
        )
    for table in project.functions:
        if table not in project.connector.tables:
            raise ProjectError(
                f"A conform function names the table {table}, which is not captured.",
                detail=f"Captured: {', '.join(project.connector.tables)}.",
                hint=f"Add it to table.include.list in connectors/{project.connector.name}.json.",
            )
    for table in project.settings.tables:
        if table not in project.connector.tables:
            raise ProjectError(
                f"tailrace.toml has settings for the table {table}, which is not captured.",
                detail=f"Captured: {', '.join(project.connector.tables)}.",
                hint=f"Add it to table.include.list in connectors/{project.connector.name}.json, or remove them.",
            )
    for sink in project.sinks:
        for record in project.records_of(sink):
            project.contract(record)
            project.table_of(record)
        _validate_raw(project, sink)
    _validate_outboxes(project)


def _validate_raw(project: Project, sink: str) -> None:
    for table in project.raw_tables_of(sink):
        if table not in project.connector.tables:
            raise ProjectError(
                f"sinks/{sink}.py takes the raw topic of {table}, which is not captured.",
                detail=f"Captured: {', '.join(project.connector.tables)}.",
                hint=f"Add it to table.include.list in connectors/{project.connector.name}.json.",
            )


def _validate_outboxes(project: Project) -> None:
    twice = sorted({route for route in project.routes if project.routes.count(route) > 1})
    if twice:
        raise ProjectError(
            f"tailrace.toml declares the route {twice[0]} twice.",
            detail="Each route is one topic, and the events of one topic come from one outbox.",
        )
    shaped = sorted(set(project.outboxes) & set(project.functions))
    if shaped:
        raise ProjectError(
            f"The outbox {shaped[0]} has a conform function.",
            detail="The rows of an outbox are events; they become no record.",
            hint=f'Remove the function, or [tables."{shaped[0]}".outbox] in tailrace.toml.',
        )
