"""Debezium's notifications and the offset of a running incremental snapshot, read as values."""

from __future__ import annotations

import json

from tailrace.control.snapshots import latest, progress
from tailrace.source.signals import (
    COMPLETED,
    INCREMENTAL,
    INITIAL,
    SCANNED,
    STARTED,
    Notice,
    notice,
    running,
    snapshots,
)

BODY = {
    "id": "one",
    "aggregate_type": INITIAL,
    "type": STARTED,
    "additional_data": {"connector_name": "bank"},
    "timestamp": 5,
}
TABLES = ("public.a", "public.b")


def of(kind: str, name: str = "mine", aggregate: str = INCREMENTAL, **data: str) -> Notice:
    return Notice(name, aggregate, kind, data)


def scanned(table: str, status: str = "SUCCEEDED", rows: str = "7") -> Notice:
    return of(SCANNED, scanned_collection=table, status=status, total_rows_scanned=rows)


def test_a_notification_reads_with_and_without_its_schema() -> None:
    wanted = Notice("one", INITIAL, STARTED, {"connector_name": "bank"}, 5)
    assert notice(json.dumps({"schema": {}, "payload": BODY}).encode()) == wanted
    assert notice(json.dumps(BODY).encode()) == wanted


def test_what_is_no_notification_is_none() -> None:
    assert [notice(value) for value in (None, b"", b"x", b"[]", b"{}", b'{"payload": null}')] == [None] * 6


def test_only_initial_snapshots_that_began_are_counted() -> None:
    assert snapshots([of(STARTED, aggregate=INITIAL), of(COMPLETED, aggregate=INITIAL), of(STARTED)]) == 1


def test_the_offset_names_the_tables_that_an_incremental_snapshot_still_reads() -> None:
    listed = json.dumps([{"incremental_snapshot_collections_id": "public.a"}])
    assert running({"incremental_snapshot_collections": listed}) == ("public.a",)
    assert running({"lsn": 5}) == running(None) == running({"incremental_snapshot_collections": "x"}) == ()


def test_a_snapshot_is_complete_when_every_table_was_read_or_its_end_was_told() -> None:
    half = progress(TABLES, [of(STARTED), of("IN_PROGRESS"), scanned("public.a")], "mine")
    assert (half.done, half.chunks, half.complete) == ({"public.a": 7}, 1, False)
    assert progress(TABLES, [scanned("public.a"), scanned("public.b", "EMPTY", "0")], "mine").complete
    assert progress(TABLES, [of(COMPLETED)], "mine").complete


def test_another_snapshots_end_is_not_ours() -> None:
    assert not progress(TABLES, [of(COMPLETED, "other"), of(COMPLETED, aggregate=INITIAL)], "mine").complete


def test_a_table_that_could_not_be_read_is_named_with_the_reason() -> None:
    found = progress(TABLES, [scanned("public.a", "SQL_EXCEPTION"), scanned("public.b")], "mine")
    assert (found.wrong, found.done, found.complete) == ({"public.a": "SQL_EXCEPTION"}, {"public.b": 7}, True)


def test_a_snapshot_found_running_is_the_one_that_began_last() -> None:
    assert latest([of(STARTED, "old"), of(COMPLETED, "old"), of(STARTED, "new"), of("IN_PROGRESS", "new")]) == "new"
    assert latest([]) == ""
