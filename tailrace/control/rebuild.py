"""A new index behind an alias, filled from the conformed topic while the old one serves: `tailrace search rebuild`.

The new index is written through an alias of its own (``<alias>-rebuild``) with the sink's own writer, under the same
version guard, so that nothing it does depends on how often it is done. Delete markers are copied from the old index,
which remembers more of them than the compacted topic. When it has caught up and `verify` finds it equal, one request
moves the alias; what the topic has got meanwhile, which the worker may have written to the old index, is written then.
The old index stays until it is dropped. Interrupted, it begins anew.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, TopicPartition

from tailrace import evolution, topics
from tailrace.control.barrier import Barrier, Crossed
from tailrace.control.resources.search import asking, declared
from tailrace.control.verify import verify
from tailrace.crashpoint import Command, reach
from tailrace.errors import Refused, Rejected, UsageError
from tailrace.kafka import reader
from tailrace.sink import mapping
from tailrace.sink.decode import Decoder, Evolved
from tailrace.sink.search import SearchWriter
from tailrace.targets import DELETED_FIELD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from confluent_kafka import Consumer

    from tailrace.control.services import Services
    from tailrace.deadline import Deadline
    from tailrace.kafka import Place
    from tailrace.project import Project
    from tailrace.targets import SearchIndex

    Say = Callable[[str], None]

BATCH = 5_000
WRITE_SECONDS = 60.0
PROGRESS = 100_000


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What was done: index names, records read, and how many of them no index can hold."""

    alias: str
    old: str
    new: str
    records: int
    rejected: int
    dropped: bool


def find(project: Project, alias: str) -> tuple[str, SearchIndex]:
    """Return the sink and the declaration of an alias, or raise UsageError."""
    known = {target.alias: target for target in declared(project)}
    if alias not in known:
        raise UsageError(f"No sink declares the search alias {alias}.", hint=f"Known: {', '.join(known) or 'none'}.")
    return next((sink, known[alias]) for sink, targets in project.sinks.items() if known[alias] in targets)


def old_indexes(services: Services, target: SearchIndex) -> tuple[str, list[str]]:
    """Return the index behind an alias, and those of its numbered names that stand behind no alias."""
    with asking(target.alias):
        there = services.search.indices.get_alias(index=f"{target.alias}-*", params={"allow_no_indices": "true"})
    mine = {name: found["aliases"] for name, found in there.items() if number_of(target, name)}
    serving = [name for name, aliases in mine.items() if target.alias in aliases]
    if len(serving) != 1:
        raise Refused(
            f"The alias {target.alias} has {len(serving)} indexes.",
            hint="Run `tailrace apply`." if not serving else "It must have exactly one.",
        )
    return serving[0], sorted(name for name, aliases in mine.items() if not aliases)


def number_of(target: SearchIndex, index: str) -> int:
    """Return the number in the name of one of a target's indexes; 0 for a name that is none of them."""
    number = index.removeprefix(f"{target.alias}-")
    return int(number) if len(number) == 6 and number.isdigit() else 0


def other_form(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Return the fields by which documents of one mapping cannot be those of another: names, and places on the map."""
    places = {"geo_point"}
    moved = [name for name in there.keys() & wanted.keys()
             if places & {there[name].get("type"), wanted[name].get("type")}
             and there[name].get("type") != wanted[name].get("type")]  # fmt: skip
    return sorted({*(there.keys() ^ wanted.keys()), *moved})


def drop_old(services: Services, target: SearchIndex) -> list[str]:
    """Delete the indexes that stood behind the alias before; return their names."""
    serving, rest = old_indexes(services, target)
    gone = [name for name in rest if number_of(target, name) < number_of(target, serving)]
    with asking(target.alias):
        for name in gone:
            services.search.indices.delete(index=name)
    return gone


class Rebuild:
    """One rebuild; ``run`` does it."""

    def __init__(self, services: Services, alias: str, deadline: Deadline, say: Say) -> None:
        records = [find(services.project, alias)[1].record]
        self._services, self._deadline, self._say = services, deadline, say
        self._project = evolution.evolved(services.project, services.registry, records=records)
        self._sink, self._target = find(self._project, alias)
        self._contract = self._project.contract(self._target.record)
        self._building = replace(self._target, alias=f"{alias}-rebuild")
        self._search = services.search.indices
        self._topic = topics.conformed(self._project.name, self._target.record)
        self._records, self._rejected = 0, 0

    def run(self, *, proved: bool = True, drop: bool = False) -> Rebuilt:
        """Build, fill, prove, switch; nothing that serves is touched before the switch."""
        old, _ = old_indexes(self._services, self._target)
        self._forms(old)
        new = self._create(old)
        self._copy_markers(old, new)
        source = Source(self._services, self._topic)
        try:
            self._fill(source, self._building)
            if proved:
                self._prove(source)
            reach(Command.INDEX_FILLED)
            self._switch(old, new)
            reach(Command.ALIAS_MOVED)
            self._fill(source, self._target)
        finally:
            source.close()
        dropped = bool(drop and drop_old(self._services, self._target))
        return Rebuilt(self._target.alias, old, new, self._records, self._rejected, dropped)

    def _forms(self, old: str) -> None:
        """Refuse while a worker runs that would go on writing documents of another form than the new index has."""
        with asking(self._target.alias):
            there = self._search.get_mapping(index=old)[old]["mappings"].get("properties", {})
        wanted = mapping.index_body(self._target, self._contract)["mappings"]["properties"]
        differing = other_form(there, wanted)
        group = topics.group(self._project.name, self._sink)
        if differing and self._services.admin.members(group):
            raise Refused(
                f"The worker {self._sink} runs, and may write documents of another form: {', '.join(differing)}.",
                detail="What it writes between the switch and its restart would lack fields, or be rejected.",
                hint=f"Stop it, rebuild, and start it again: the old index of {self._target.alias} serves meanwhile.",
            )

    def _create(self, old: str) -> str:
        """Create the next index behind an alias of its own; one that an interrupted rebuild left is removed."""
        new = mapping.index_name(self._target, number_of(self._target, old) + 1)
        body = mapping.index_body(self._building, self._contract)
        body["settings"]["index"]["refresh_interval"] = "-1"  # nobody searches it yet
        with asking(self._target.alias):
            if self._search.exists(index=new):
                if set(self._search.get_alias(index=new)[new]["aliases"]) - {self._building.alias}:
                    raise Refused(f"There is an index {new}, behind another alias.")
                self._search.delete(index=new)
            self._search.create(index=new, body=body)
        self._say(f"{new} is there; {old} goes on serving {self._target.alias}")
        return new

    def _copy_markers(self, old: str, new: str) -> None:
        """Copy delete markers with their versions."""
        from_old = {"index": old, "query": {"term": {DELETED_FIELD: True}}}
        to_new = {"index": new, "version_type": "external"}
        with asking(self._target.alias):
            self._search.refresh(index=old)
            answer = self._services.search.reindex(
                body={"conflicts": "proceed", "source": from_old, "dest": to_new},
                params={"request_timeout": max(1.0, self._deadline.remaining())},
            )
        if answer["failures"] or answer["timed_out"]:
            raise Refused(
                f"The delete markers of {old} could not be copied.", detail=f"{len(answer['failures'])} failed"
            )
        self._say(f"{answer['created']:,} delete markers copied")

    def _fill(self, source: Source, target: SearchIndex) -> None:
        """Write what the topic has up to its present ends."""
        writer = SearchWriter(replace(target, load_refresh_seconds=None), self._contract, self._project.endpoints)
        decoder = Decoder({self._topic: self._contract}, self._services.registry.writer)
        try:
            for messages in source.upto_ends(self._deadline):
                changes = [change for each in messages if (change := self._change(decoder, each)) is not None]
                self._rejected += len(writer.write(changes, timeout=min(WRITE_SECONDS, self._deadline.remaining())))
                before, self._records = self._records, self._records + len(messages)
                if self._records // PROGRESS > before // PROGRESS:
                    self._say(f"{self._records:,} records written, {source.left():,} to go")
        finally:
            writer.close()
        self._say(f"{self._records:,} records written, {self._rejected:,} rejected")

    def _change(self, decoder: Decoder, message: Any) -> Any:
        try:
            return decoder.change(message)
        except Rejected:
            self._rejected += 1  # the worker has parked it
            return None
        except Evolved as error:
            raise Refused("The contract has grown meanwhile.", detail=str(error), hint="Run it again.") from error

    def _prove(self, source: Source) -> None:
        """Compare every row of the source with the new index; what still arrives is let in."""
        with asking(self._target.alias):
            self._search.put_settings(index=self._building.alias, body={"index": {"refresh_interval": "1s"}})
        project = replace(self._project, sinks={self._sink: (self._building,)})

        def wait() -> Crossed:
            barrier = Barrier(self._services, self._deadline, self._say)
            lsn, raw = barrier.source(), barrier.processors()
            self._fill(source, self._building)
            return Crossed(lsn, raw, {})

        report = verify(project, wait=wait, say=self._say)
        if not report.ok:
            wrong = sum(len(check.differences) for check in report.checks)
            raise Refused(
                f"The new index of {self._target.alias} is not equal to the source: {wrong:,} keys.",
                detail="The alias was not moved.",
                hint=f"Look at it under the alias {self._building.alias}; `tailrace verify` tells if the old one is.",
            )
        self._say("the new index is equal to the source")

    def _switch(self, old: str, new: str) -> None:
        """Move the alias in one request, so that readers see one index or the other."""
        alias, shape = self._target.alias, mapping.hidden(self._target)[self._target.alias]
        interval = mapping.settings(self._target)["index"]["refresh_interval"]
        actions = [
            {"remove": {"index": old, "alias": alias}},
            {"add": {"index": new, "alias": alias, **shape}},
            {"remove": {"index": new, "alias": self._building.alias}},
        ]
        with asking(alias):
            self._search.put_settings(index=new, body={"index": {"refresh_interval": interval}})
            self._search.refresh(index=new)
            self._search.update_aliases(body={"actions": actions})
        self._say(f"{alias} is {new} now; {old} is kept")


class Source:
    """A conformed topic from its beginning; it remembers how far it is."""

    def __init__(self, services: Services, topic: str) -> None:
        self._admin, self._topic = services.admin, topic
        self._at: dict[Place, int] = dict(self._admin.starts([topic]))
        self._ends: Mapping[Place, int] = {}
        self._consumer: Consumer = reader(self._admin.bootstrap, f"{services.project.name}-rebuild")
        self._consumer.assign([TopicPartition(topic, number, offset) for (topic, number), offset in self._at.items()])

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()

    def left(self) -> int:
        """Return how many offsets are left up to the ends that were last looked at."""
        return sum(max(0, end - self._at[place]) for place, end in self._ends.items())

    def upto_ends(self, deadline: Deadline) -> Iterator[list[Any]]:
        """Yield batches of messages until the ends of now are passed; compacted offsets count as passed at an end."""
        self._ends = self._admin.ends([self._topic])
        while self.left():
            if deadline.passed():
                raise Refused("The time is over.", detail=f"{self.left():,} records of {self._topic} are left.")
            found = self._consumer.consume(BATCH, 0.2)
            good = [message for message in found if self._passed(message)]
            if good:
                yield good

    def _passed(self, message: Any) -> bool:
        """Note how far a message, or the end of a partition, brings us; say whether it is a record."""
        error, place = message.error(), (message.topic(), message.partition())
        if error is None:
            self._at[place] = message.offset() + 1
            return True
        if error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own codes are spelled so
            raise Refused(f"{self._topic} cannot be read.", detail=error.name())
        self._at[place] = max(self._at[place], message.offset())
        return False
