"""The sinks of one worker, open under the contracts in force, and opened again when one of those grows.

The contract in force is the registry's newest where it is an evolution of the file's (tailrace.evolution). A sink of
the user's own is never opened again: it takes whatever record it is given. Only one thread at a time may change what
is open, and nothing may be written meanwhile: ``tailrace.sink.reopening`` sees to both.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import structlog

from tailrace import evolution, topics
from tailrace.project import records
from tailrace.sink import writer
from tailrace.sink.decode import Decoder
from tailrace.sink.open import open_sink
from tailrace.sink.rawtopic import Lives, RawReader
from tailrace.targets import RawLakeTable, Sink

if TYPE_CHECKING:
    from collections.abc import Callable

    from tailrace.contract import Contract
    from tailrace.project import Project
    from tailrace.sink.decode import Evolved

log = structlog.get_logger()


class Stores:
    """What one module of sinks/ declares, as writers."""

    def __init__(self, project: Project, name: str) -> None:
        self.project, self.name = project, name
        self.sinks: tuple[Sink, ...] = ()
        self._settled: frozenset[tuple[str, int]] = frozenset()
        self._lives: Lives | None = None

    def open(self, registry: evolution.Registry) -> None:
        """Make the writers, under the contracts in force and the epoch; they open no connection yet."""
        self.project = evolution.evolved(self.project, registry, records=self.project.records_of(self.name))
        raw = self.project.raw_tables_of(self.name)
        self._lives = Lives(self.project.endpoints.kafka, self.project.name) if raw else None
        self.sinks = tuple(open_sink(target, self.project, self._lives) for target in self.project.sink(self.name))

    @property
    def contracts(self) -> dict[str, Contract]:
        """The contract of each conformed topic."""
        names = self.project.records_of(self.name)
        return {topics.conformed(self.project.name, record): self.project.contract(record) for record in names}

    @property
    def by_topic(self) -> dict[str, tuple[Sink, ...]]:
        """The sinks that take each topic."""
        conformed = {
            topics.conformed(self.project.name, record): tuple(sink for sink in self.sinks if record in records(sink))
            for record in self.project.records_of(self.name)
        }
        pairs = list(zip(self.project.sink(self.name), self.sinks, strict=True))
        return conformed | {
            topics.raw(self.project.name, table): tuple(
                sink for target, sink in pairs if isinstance(target, RawLakeTable) and target.table == table
            )
            for table in self.project.raw_tables_of(self.name)
        }

    def decoder(self, schema_of: Callable[[int], Any]) -> Decoder:
        """Return what reads messages under the contracts in force."""
        lean = {topic for topic, sinks in self.by_topic.items() if not any(map(writer.wants_before, sinks))}
        return Decoder(self.contracts, schema_of, self._settled, lean, self._raw())

    def _raw(self) -> dict[str, RawReader]:
        """Return what reads each raw topic."""
        if self._lives is None:
            return {}
        found = {table: topics.raw(self.project.name, table) for table in self.project.raw_tables_of(self.name)}
        return {topic: RawReader(table, self._lives.ages(topic)) for table, topic in found.items()}

    def follow(self, cause: Evolved, registry: evolution.Registry) -> tuple[str, ...]:
        """Open the sinks of a topic again, if the registry has a newer contract; return what the newer one adds.

        Refused when it has a schema that is no evolution; nothing is closed before all that is new is open.
        """
        contract, registered = self.contracts[cause.topic], registry.latest(cause.topic)
        later = evolution.newer(contract, registered[1]) if registered else None
        if later is not None:
            self._reopen(replace(self.project, contracts={**self.project.contracts, contract.name: later}), later.name)
        # Where nothing is newer, the schema is an older one with a field that the record no longer has.
        self._settled |= {(cause.topic, cause.schema_id)}
        return evolution.ahead(contract, later) if later else ()

    def close(self) -> None:
        """Close every sink."""
        for sink in self.sinks:
            sink.close()

    def _reopen(self, project: Project, record: str) -> None:
        made: list[Sink] = []
        old: list[Sink] = []
        fresh: list[Sink] = []
        try:
            for target, sink in zip(project.sink(self.name), self.sinks, strict=True):
                again = target is not sink and record in records(sink)
                made.append(open_sink(target, project, self._lives) if again else sink)
                if again:
                    old.append(sink)
                    fresh.append(made[-1])
                    writer.connect(made[-1])
        except BaseException:
            _close(fresh)
            raise
        self.project, self.sinks = project, tuple(made)
        _close(old)


def _close(sinks: list[Sink]) -> None:
    for sink in sinks:
        sink.close()
