"""A held table: what came before it has its effect, nothing of it is parked, and it goes on where it stopped."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tailrace import contract
from tailrace.conforming import ConformFunction
from tailrace.errors import ProjectError, Unreachable
from tailrace.health import Health
from tailrace.stream.conform import Conformer, TablePlan
from tailrace.stream.effect import SLICE_ROWS, Effect
from tailrace.stream.handler import ConformHandler
from tailrace.stream.mending import Mender
from tailrace.stream.state import States
from tests.cluster import CHANGELOG, OUT, PARKED, RAW, STAND_IN, Cluster, ListLibrary, ListOutbox, Record
from tests.raw import READING_COLUMNS, READING_SCHEMA, column, message, payload, reading

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tailrace.conforming import Row
    from tailrace.stream.drift import Policy

PLACE = column("place", "string", postgres="TEXT")
WIDE = [*READING_COLUMNS, PLACE]
FIELD = {"name": "place", "type": ["null", "string"], "default": None}
CONTRACT = contract.build("reading", READING_SCHEMA, where="reading")
GROWN = {**READING_SCHEMA, "fields": [*READING_SCHEMA["fields"], FIELD]}


class ListRegistry:
    """The subject of one topic as a list of schemas; ``trouble`` is what it answers a registration with."""

    def __init__(self, *schemas: dict[str, Any]) -> None:
        self.schemas = list(schemas)
        self.trouble: Exception | None = None

    def latest(self, _topic: str) -> tuple[int, dict[str, Any]]:
        return 6 + len(self.schemas), self.schemas[-1]

    def register(self, _topic: str, schema: Mapping[str, Any]) -> int:
        if self.trouble:
            raise self.trouble
        self.schemas.append(dict(schema))
        return 6 + len(self.schemas)


class World:
    """One table under one policy, conformed into lists."""

    def __init__(
        self, policy: Policy = "stop", function: Callable[[Row], Row] | None = None, *, keeps: bool = False
    ) -> None:
        made = ConformFunction("public.reading", "reading", function) if function else None
        changelog = CHANGELOG if keeps else ""
        plan = TablePlan(RAW, OUT, CONTRACT, 7, made, changelog=changelog, table="public.reading", policy=policy)
        self.cluster, self.registry, self.health = Cluster(), ListRegistry(READING_SCHEMA), Health("conform")
        self.conformer, self.outbox = Conformer([plan], epoch=1, worker="conform"), ListOutbox(self.cluster)
        self.states = States(self.conformer.changelogs, ListLibrary(self.cluster), self.outbox) if keeps else None
        if self.states:
            self.states.own([(RAW, 0)])
        self.mender = Mender(self.conformer, self.registry)
        self.effect = Effect(self.conformer, self.outbox, letters_to=PARKED, states=self.states)

    def handler(self) -> ConformHandler:
        return ConformHandler(
            self.conformer, self.outbox, health=self.health, letters_to=PARKED, stop=asyncio.Event(),
            mend=self.mender.mend,
        )  # fmt: skip

    @property
    def sent(self) -> list[bytes | None]:
        return [found.key for found in self.cluster.topics[OUT]]

    @property
    def parked(self) -> int:
        return len(self.cluster.topics[PARKED])


def old(offset: int, **more: Any) -> Record:
    return Record(offset, b'{"id":%d}' % offset, message(payload("c", after=reading(offset, **more))))


def new(offset: int, **more: Any) -> Record:
    row = reading(offset, place="Bern", **more)
    return Record(offset, b'{"id":%d}' % offset, message(payload("c", after=row), WIDE))


def keys(*offsets: int) -> list[bytes]:
    return [b'{"id":%d}' % offset for offset in offsets]


def test_a_batch_has_its_effect_up_to_the_record_that_its_table_is_held_at_and_nothing_behind_is_parked() -> None:
    world, last = World(), SLICE_ROWS + 7
    records = [*(old(offset) for offset in range(last)), new(last), Record(last + 1, b"k", b"poison"), old(last + 2)]
    given = world.effect.give(RAW, 0, records)
    assert given.held
    assert given.held.offset == last
    assert sum(len(result.committed_us) for result in given.results) == last
    assert world.sent == keys(*range(last))  # each once, though the batch was begun again
    assert world.parked == 0


def test_poison_before_the_record_that_holds_is_parked_once() -> None:
    world = World()
    given = world.effect.give(RAW, 0, [old(0), Record(1, b"k", b"poison"), old(2), new(3)])
    assert given.held
    assert (given.held.offset, world.sent, world.parked) == (3, keys(0, 2), 1)


def test_a_table_held_at_its_first_record_does_nothing_at_all() -> None:
    world = World()
    given = world.effect.give(RAW, 0, [new(4), old(5)])
    assert given.held
    assert (given.held.offset, given.results, world.sent, world.parked) == (4, [], [], 0)


def test_a_contract_that_grew_takes_records_from_before_and_after_the_column() -> None:
    world = World("evolve")
    held = world.effect.give(RAW, 0, [old(0), new(1)]).held
    assert held
    assert world.mender.mend(RAW, held) == ""
    assert world.registry.schemas[-1] == GROWN
    assert world.effect.give(RAW, 0, [new(1), old(2)]).held is None
    grown = contract.build("reading", GROWN, where="reading")
    values = [found.value for found in world.cluster.topics[OUT][1:]]
    assert [grown.decode(value or b"")["place"] for value in values] == ["Bern", None]
    assert world.parked == 0


def test_what_images_learned_behind_the_record_is_learned_again_when_it_goes_on() -> None:
    long, world = "x" * 3000, World("evolve", keeps=True)

    def note(offset: int, text: str, *, wide: bool) -> Record:
        row = reading(1, note=text) | ({"place": None} if wide else {})
        return Record(offset, b'{"id":1}', message(payload("u", after=row), WIDE if wide else READING_COLUMNS))

    stand_in = "__debezium_unavailable_value"
    records = [note(0, long, wide=False), note(1, stand_in, wide=True), note(2, long[1:], wide=True),
               note(3, stand_in, wide=True)]  # fmt: skip
    held = world.effect.give(RAW, 0, records).held
    assert held
    assert held.offset == 1
    assert world.mender.mend(RAW, held) == ""
    assert world.effect.give(RAW, 0, records[1:]).held is None
    grown = contract.build("reading", GROWN, where="reading")
    found = [grown.decode(sent.value or b"", CONTRACT.parsed if number == 0 else None)["note"]
             for number, sent in enumerate(world.cluster.topics[OUT])]  # fmt: skip
    assert found == [long, long, long[1:], long[1:]]
    assert (world.parked, STAND_IN in found) == (0, False)


def test_a_value_that_a_widened_column_no_longer_fits_holds_the_table_and_the_others_pass() -> None:
    wide = [column("id", "int64", postgres="INT8", optional=False), column("size", "int64", postgres="INT8")]
    schema = {"type": "record", "name": "Thing", "key": ["id"],
              "fields": [{"name": "id", "type": "long"}, {"name": "size", "type": ["null", "int"]}]}  # fmt: skip
    plan = TablePlan(RAW, OUT, contract.build("thing", schema, where="thing"), 7)
    cluster = Cluster()
    effect = Effect(Conformer([plan], epoch=1, worker="conform"), ListOutbox(cluster), letters_to=PARKED)
    rows = [{"id": 0, "size": 5}, {"id": 1, "size": 2**31}, {"id": 2, "size": 6}]
    records = [Record(row["id"], b"", message(payload("c", after=row), wide)) for row in rows]
    held = effect.give(RAW, 0, records).held
    assert held
    assert (held.offset, held.problem) == (1, "The column size: int8 does not fit int; it fits long or numeric.")
    assert (len(cluster.topics[OUT]), len(cluster.topics[PARKED])) == (1, 0)


def test_a_function_that_passes_a_widened_column_on_lets_its_contract_grow_to_it() -> None:
    wide = [column("id", "int64", postgres="INT8", optional=False), column("size", "int64", postgres="INT8")]
    schema = {"type": "record", "name": "Thing", "key": ["id"],
              "fields": [{"name": "id", "type": "long"}, {"name": "size", "type": ["null", "int"]}]}  # fmt: skip
    records = [Record(0, b"", message(payload("c", after={"id": 0, "size": 2**31}), wide))]
    for function, kept in ((dict, "long"), (lambda row: {**row, "size": str(row["size"])}, "int")):
        made = ConformFunction("public.thing", "thing", function)
        plan = TablePlan(RAW, OUT, contract.build("thing", schema, where="thing"), 7, made, policy="evolve")
        conformer, cluster = Conformer([plan], epoch=1, worker="conform"), Cluster()
        effect = Effect(conformer, ListOutbox(cluster), letters_to=PARKED)
        held = effect.give(RAW, 0, records).held
        assert (held is not None) == (kept == "long")
        if held:
            assert Mender(conformer, ListRegistry(schema)).mend(RAW, held) == ""
            assert effect.give(RAW, 0, records).held is None
        assert conformer.tables()[RAW].plan.contract.by_name["size"].kind == kept
        assert (len(cluster.topics[OUT]), len(cluster.topics[PARKED])) == ((1, 0) if held else (0, 1))


def test_a_single_bad_value_under_a_schema_that_fits_is_parked_as_ever() -> None:
    world = World("stop")
    given = world.effect.give(RAW, 0, [old(0), old(1, value="1.23456"), old(2, sensor=5), old(3)])
    assert (given.held, world.sent, world.parked) == (None, keys(0, 3), 2)


@pytest.mark.parametrize(("policy", "stopped"), [("ignore", False), ("stop", True), ("evolve", True)])
def test_a_function_that_passes_a_new_column_on_makes_its_table_follow_the_policy(
    policy: Policy, *, stopped: bool
) -> None:
    passing = World(policy, dict).effect.give(RAW, 0, [old(0), new(1)])
    assert (passing.held is not None) == stopped
    choosing = World(policy, lambda row: {field.name: row[field.name] for field in CONTRACT.fields})
    assert choosing.effect.give(RAW, 0, [old(0), new(1)]).held is None


def test_a_function_that_reads_a_column_that_is_gone_holds_its_table_and_one_that_fails_on_a_value_does_not() -> None:
    narrow = [found for found in READING_COLUMNS if found["field"] != "note"]

    def bare(offset: int, **more: Any) -> Record:
        row = {name: value for name, value in reading(offset, **more).items() if name != "note"}
        return Record(offset, b'{"id":%d}' % offset, message(payload("c", after=row), narrow))

    for function in (lambda row: {**row, "note": row["note"]}, dict):
        world = World("ignore", function)
        held = world.effect.give(RAW, 0, [old(0), bare(1)]).held
        assert held
        assert held.offset == 1
        assert "There is no column note" in held.problem
    looking = World("ignore", lambda row: {**row, "note": {"s1": "a"}[row["sensor"]]})
    given = looking.effect.give(RAW, 0, [bare(1), bare(2)])
    assert (given.held, looking.sent, looking.parked) == (None, keys(1), 1)


def follow(world: World, records: list[Record]) -> list[int]:
    """Give a batch, let the handler look after what is held, and give the rest where it is not; return its answers."""

    async def run() -> list[int]:
        handler = world.handler()
        answers = [await handler.batch(RAW, 0, records)]
        looking = handler._holding._looking
        if looking is not None:
            await asyncio.wait_for(looking, 10)
        handler.turn(1)
        if not handler.held:
            answers.append(await handler.batch(RAW, 0, [record for record in records if record.offset >= answers[0]]))
        return answers

    return asyncio.run(run())


def test_a_held_table_is_told_to_whoever_asks_and_leaves_the_worker_ready() -> None:
    world = World("stop")
    assert follow(world, [old(0), new(1)]) == [1]
    said = world.health.held[RAW]
    assert (said["table"], said["partitions"], said["why"]) == (
        "public.reading",
        [0],
        "no newer contract is registered",
    )
    labels = {"worker": "conform", "topic": RAW}
    assert world.health.registry.get_sample_value("tailrace_table_held", labels) == 1
    assert world.health.ready


def test_a_table_goes_on_by_itself_where_its_policy_lets_the_contract_grow() -> None:
    world = World("evolve")
    assert follow(world, [old(0), new(1), new(2)]) == [1, 3]
    assert (world.sent, world.parked, world.health.held) == (keys(0, 1, 2), 0, {})


def test_a_table_goes_on_once_the_registry_has_a_contract_that_fits() -> None:
    world = World("stop")
    held = world.effect.give(RAW, 0, [new(0)]).held
    assert held
    assert world.mender.mend(RAW, held) == "no newer contract is registered"
    world.registry.schemas.append(GROWN)
    assert world.mender.mend(RAW, held) == ""
    assert world.mender.mend(RAW, held) == ""  # another partition, held under the same old contract
    assert world.effect.give(RAW, 0, [new(0)]).held is None


@pytest.mark.parametrize("trouble", [ProjectError("The schema registry refuses a contract."), Unreachable("away")])
def test_a_registry_that_refuses_or_is_away_leaves_the_table_held_and_says_so(trouble: ProjectError) -> None:
    world = World("evolve")
    world.registry.trouble = trouble
    held = world.effect.give(RAW, 0, [new(0)]).held
    assert held
    assert world.mender.mend(RAW, held) == trouble.problem
    world.registry.trouble = None
    assert world.mender.mend(RAW, held) == ""


def test_a_registered_contract_that_is_no_evolution_leaves_the_table_held() -> None:
    world = World("stop")
    held = world.effect.give(RAW, 0, [new(0)]).held
    assert held
    world.registry.schemas.append({**READING_SCHEMA, "fields": READING_SCHEMA["fields"][:-1]})
    assert "neither schemas/reading.avsc nor an evolution" in world.mender.mend(RAW, held)


def test_what_is_left_out_is_said_once_and_shown() -> None:
    world = World("ignore")
    assert asyncio.run(world.handler().batch(RAW, 0, [old(0), new(1)])) == 2
    assert world.health.notes == {RAW: ("the column place is not in the contract: it is left out",)}
