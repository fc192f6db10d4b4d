"""The sweeps' decisions: which keys are candidates, which version their delete has, what the source is asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import version
from tailrace.change import BEFORE, provenance
from tailrace.control.records import Answer, Seen, candidates, question, visible, written_headers
from tailrace.control.sweep import last_before
from tailrace.control.vanished import absent, delete_version, unchanged

OLD, NEW = version.pack(1, 500), version.pack(2, 7)
BEGIN = version.pack(2, 0)


def test_only_keys_whose_newest_record_is_a_row_of_an_older_epoch_are_candidates() -> None:
    vanished = Seen(b"vanished", 3, OLD, False)
    seen = [
        Seen(b"vanished", 0, version.pack(1, 3), False),
        Seen(b"alive", 1, OLD, False),
        Seen(b"deleted", 2, OLD, False),
        vanished,
        Seen(b"alive", 4, NEW, False),
        Seen(b"deleted", 5, version.pack(1, 501), True),
        Seen(b"new", 6, NEW, False),
        Seen(b"filtered", 7, NEW, True),
    ]
    assert candidates(seen, BEGIN) == ({b"vanished": vanished}, 5)


def test_a_replayed_older_record_behind_a_newer_one_changes_nothing() -> None:
    row = Seen(b"a", 0, OLD, False)
    assert candidates([Seen(b"a", 0, NEW, False), Seen(b"a", 1, OLD, False)], BEGIN) == ({}, 1)
    assert candidates([row, Seen(b"a", 1, version.pack(1, 3), True)], BEGIN) == ({b"a": row}, 1)
    assert unchanged({b"a": row}, [Seen(b"a", 1, version.pack(1, 3), False)]) == {b"a": row}


def test_a_second_sweep_finds_nothing() -> None:
    assert candidates([Seen(b"a", 0, OLD, False), Seen(b"a", 1, last_before(2), True)], BEGIN) == ({}, 1)


@given(st.integers(2, version.MAX_EPOCH), st.integers(0, version.MAX_OFFSET), st.integers(0, version.MAX_OFFSET))
def test_a_sweeps_delete_is_newer_than_all_before_its_epoch_and_older_than_all_of_it(
    epoch: int, before: int, since: int
) -> None:
    assert version.pack(epoch - 1, before) <= last_before(epoch) < version.pack(epoch, since)


def test_the_delete_carries_the_row_it_takes_away_and_reads_as_any_other() -> None:
    headers = written_headers("d", ("raw", 2), last_before(5), tx="sweep-5", before=b"framed", now_us=77)
    found = provenance(headers)
    assert (found.version, found.op, found.lsn, found.committed_us) == (last_before(5), "d", None, 77)
    assert found.origin == f"raw/2/{version.MAX_OFFSET}"
    assert dict(headers)[BEFORE] == b"framed"


def test_the_source_is_asked_about_each_key_by_all_its_columns_as_of_one_moment() -> None:
    sql = question('public.or"ders%', ("id", 'a"b'), 2)
    one = 'SELECT 0 AS position WHERE EXISTS (SELECT FROM "public"."or""ders%%" t WHERE t."id" = %s AND t."a""b" = %s)'
    asked = f"SELECT -1 AS position UNION ALL {one} UNION ALL {one.replace('SELECT 0', 'SELECT 1')}"
    assert sql == f"SELECT position, pg_current_snapshot()::text AS snapshot FROM ({asked}) q"


@pytest.mark.parametrize(
    ("tx", "snapshot", "seen"),
    [
        ("", "5:5:", True),  # a row that a query read
        ("99", "100:100:", True),
        ("100", "100:100:", False),
        ("103", "100:105:103,104", False),
        ("102", "100:105:103,104", True),
        ("4294967295", "4294967297:4294967298:", True),  # 32 bits in the stream, 64 in the snapshot
        ("3", "4294967297:4294967298:", False),
        ("1", "4294967297:4294967299:4294967297", False),
        ("not a number", "100:100:", False),
    ],
)
def test_a_transaction_that_is_in_the_stream_but_not_seen_yet_is_known(tx: str, snapshot: str, seen: bool) -> None:
    assert visible(tx, snapshot) is seen


def test_a_suspect_is_gone_only_where_the_source_could_see_its_row_and_has_it_not() -> None:
    suspects = {
        key: Seen(key, number, OLD, False, tx)
        for number, (key, tx) in enumerate({b"there": "7", b"gone": "7", b"young": "12"}.items())
    }
    answer = Answer(frozenset({b"there"}), "10:12:")
    assert list(absent(suspects, [(list(suspects), answer)])) == [b"gone"]


def test_a_row_of_an_older_epoch_is_deleted_below_all_of_this_one_because_its_key_may_have_moved() -> None:
    marker = version.pack(2, 900)
    assert delete_version(Seen(b"a", 0, NEW, False), marker) == marker
    assert delete_version(Seen(b"a", 0, OLD, False), marker) == last_before(2)
