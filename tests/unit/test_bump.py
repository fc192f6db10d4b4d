"""What `tailrace epoch bump` decides before it changes anything."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tailrace import epoch
from tailrace.connector import HEARTBEAT
from tailrace.control.bump import first_offsets, grown, intent
from tailrace.control.epochs import Facts
from tailrace.control.resources.topics import Declared, declared
from tailrace.epoch import Epoch
from tailrace.errors import Refused
from tailrace.source.lineage import Lineage, SlotPosition
from tailrace.source.signals import INITIAL, STARTED, Notice
from tailrace.targets import RawLakeTable
from tests.shop import shop

RAW, OUT, BEATS = "shop.raw.public.orders", "shop.conformed.orders", f"shop.raw.{HEARTBEAT}"
NAMES = (RAW, BEATS, OUT)
RECORDED = Epoch(3, "tailrace_shop", "7", dict.fromkeys(NAMES, "id"), dict.fromkeys(NAMES, 3), timeline=1)
SERVER = Lineage("7", 1, 2000, SlotPosition(active=True, wal_status="reserved", confirmed=900, failover=False))
GOOD = Facts(RECORDED, RECORDED, SERVER, {"lsn_proc": 1000}, known=True, streamed=True, needed=NAMES)
LOST = replace(GOOD, server=replace(SERVER, slot=None))


def test_a_lost_slot_stops_processors_only_and_leads_to_the_next_number() -> None:
    wanted = intent(shop(), LOST)
    assert (wanted.number, wanted.goes_on, wanted.stopping) == (4, False, ("conform",))
    assert "is gone" in wanted.reasons[0].said


def test_a_recreated_conformed_topic_stops_the_sinks_that_read_it_too() -> None:
    changed = replace(GOOD, now=replace(RECORDED, topics={**RECORDED.topics, OUT: "another"}))
    wanted = intent(shop(), changed)
    assert wanted.fresh == {OUT}
    assert wanted.stopping == ("conform", "stores")


def test_a_sink_that_reads_a_raw_topic_stops_for_every_new_epoch_and_follows_a_recreated_topic() -> None:
    raw = shop(sinks={"stores": shop().sinks["stores"], "lake": (RawLakeTable("orders", table="public.orders"),)})
    assert intent(raw, LOST).stopping == ("conform", "lake")
    starts = {(RAW, 0): 5, (OUT, 0): 0, (BEATS, 0): 9}
    assert first_offsets(raw, "lake", frozenset({RAW, OUT}), starts) == {(RAW, 0): 5}


def test_a_topic_that_is_gone_counts_as_recreated() -> None:
    left = {name: "id" for name in NAMES if name != RAW}
    wanted = intent(shop(), replace(GOOD, now=replace(RECORDED, topics=left)))
    assert wanted.fresh == {RAW}
    assert wanted.stopping == ("conform",)


def test_an_epoch_without_its_sweep_is_brought_to_its_end_under_its_own_number() -> None:
    begun = replace(GOOD, recorded=replace(RECORDED, phase=epoch.SNAPSHOT))
    assert (intent(shop(), begun).number, intent(shop(), begun).goes_on) == (3, True)


@pytest.mark.parametrize(
    "facts",
    [
        replace(LOST, recorded=replace(RECORDED, phase=epoch.SNAPSHOT)),  # the slot went again
        replace(GOOD, recorded=replace(RECORDED, phase=epoch.RESETTING)),  # nobody knows how far it came
        replace(
            GOOD, recorded=replace(RECORDED, phase=epoch.SNAPSHOT), notices=[Notice(n, INITIAL, STARTED) for n in "ab"]
        ),
    ],
)
def test_an_epoch_whose_beginning_went_wrong_begins_again_under_another_number(facts: Facts) -> None:
    assert intent(shop(), facts).number == 4


def test_topics_grow_together_and_never_shrink() -> None:
    six = [replace(topic, partitions=6) if topic.partitions == 3 else topic for topic in declared(shop())]
    assert grown(six, {RAW: 3, OUT: 6, "foreign": 1}) == {RAW: 6}
    with pytest.raises(Refused, match="has 6 partitions where") as caught:
        grown([Declared(RAW, 3), Declared(OUT, 3)], {RAW: 6, OUT: 3})
    assert "partitions = 6" in caught.value.hint


def test_groups_read_what_was_recreated_from_its_beginning_and_nothing_else_again() -> None:
    starts = {(RAW, 0): 5, (RAW, 1): 0, (OUT, 0): 0, (BEATS, 0): 9}
    assert first_offsets(shop(), "conform", frozenset({RAW}), starts) == {(RAW, 0): 5, (RAW, 1): 0}
    assert first_offsets(shop(), "conform", frozenset({OUT}), starts) == {(RAW, 0): 5, (RAW, 1): 0}
    assert first_offsets(shop(), "stores", frozenset({OUT}), starts) == {(OUT, 0): 0}
    assert first_offsets(shop(), "stores", frozenset({RAW}), starts) == {}
    assert first_offsets(shop(), "conform", frozenset(), starts) == {}
