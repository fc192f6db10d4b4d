"""The sweep's decisions: which keys are candidates, which version their delete has, what the source is asked."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tailrace import version
from tailrace.change import BEFORE, provenance
from tailrace.control.sweep import candidates, delete_headers, last_before, question

OLD, NEW = version.pack(1, 500), version.pack(2, 7)


def test_only_keys_whose_newest_record_is_a_row_of_an_older_epoch_are_candidates() -> None:
    seen = [
        (b"vanished", 0, version.pack(1, 3), False),
        (b"alive", 1, OLD, False),
        (b"deleted", 2, OLD, False),
        (b"vanished", 3, OLD, False),
        (b"alive", 4, NEW, False),
        (b"deleted", 5, version.pack(1, 501), True),
        (b"new", 6, NEW, False),
        (b"filtered", 7, NEW, True),
    ]
    assert candidates(seen, 2) == ({b"vanished": 3}, 5)


def test_a_replayed_older_record_behind_a_newer_one_changes_nothing() -> None:
    assert candidates([(b"a", 0, NEW, False), (b"a", 1, OLD, False)], 2) == ({}, 1)
    assert candidates([(b"a", 0, OLD, False), (b"a", 1, version.pack(1, 3), True)], 2) == ({b"a": 0}, 1)


def test_a_second_sweep_finds_nothing() -> None:
    assert candidates([(b"a", 0, OLD, False), (b"a", 1, last_before(2), True)], 2) == ({}, 1)


@given(st.integers(2, version.MAX_EPOCH), st.integers(0, version.MAX_OFFSET), st.integers(0, version.MAX_OFFSET))
def test_a_sweeps_delete_is_newer_than_all_before_its_epoch_and_older_than_all_of_it(
    epoch: int, before: int, since: int
) -> None:
    assert version.pack(epoch - 1, before) <= last_before(epoch) < version.pack(epoch, since)


def test_the_delete_carries_the_row_it_takes_away_and_reads_as_any_other() -> None:
    headers = delete_headers("raw", 2, 5, b"framed", 77)
    found = provenance(headers)
    assert (found.version, found.op, found.lsn, found.committed_us) == (last_before(5), "d", None, 77)
    assert dict(headers)[BEFORE] == b"framed"


def test_the_source_is_asked_about_each_key_by_all_its_columns() -> None:
    sql = question('public.or"ders', ("id", 'a"b'), 2)
    one = 'SELECT 0 AS position WHERE EXISTS (SELECT FROM "public"."or""ders" t WHERE t."id" = %s AND t."a""b" = %s)'
    assert sql == f"{one} UNION ALL {one.replace('SELECT 0', 'SELECT 1')}"
