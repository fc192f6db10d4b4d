"""What `apply` says when it has added a table: who has to start again, and which command reads its rows."""

from __future__ import annotations

from tailrace.connector import HEARTBEAT
from tailrace.control.remaining import added
from tailrace.resource import Step
from tailrace.targets import RawLakeTable
from tests.shop import shop


def test_a_table_that_was_added_names_the_workers_to_start_again_and_the_snapshot_to_take() -> None:
    lines = ("+ table public.orders", f"+ table {HEARTBEAT}", "- table public.old", "publish: insert -> delete")
    (found,) = added(shop(), [Step("publication", "p", "change", lines), Step("topic", "+ table x", "create")])
    assert (found.table, found.workers, found.command) == (
        "public.orders",
        ("conform", "stores"),
        "tailrace snapshot public.orders",
    )
    assert "conform, stores" in "".join(found.lines())


def test_a_sink_that_takes_the_raw_topic_of_a_new_table_has_to_start_again_too() -> None:
    raw = shop(sinks={"lake": (RawLakeTable("orders", table="public.orders"),)})
    (found,) = added(raw, [Step("publication", "p", "change", ("+ table public.orders",))])
    assert found.workers == ("conform", "lake")


def test_the_tables_of_a_new_pipeline_come_with_its_first_snapshot() -> None:
    assert added(shop(), [Step("publication", "p", "create", ("table public.orders",))]) == ()
