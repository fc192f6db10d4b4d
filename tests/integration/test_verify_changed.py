"""verify --changed and --resume on real stores: proofs hold until somebody writes, and what was read is kept."""

from __future__ import annotations

import json
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest

from tailrace.control.verify.ranges import Ranges, sample
from tailrace.control.verify.run import Manner
from tailrace.control.verify.source import Source
from tailrace.errors import Refused, Unreachable
from tests import things
from tests.standby import standby
from tests.things import DOCUMENTS, ITEMS, Stores, found, row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tailrace.control.verify import Report
    from tests.providers import RunningStack

MORE = """INSERT INTO things SELECT n, 'filtered', 0, NULL, '2026-01-02 03:04:05', NULL, false, 0, NULL, 's'
          FROM generate_series(100, 9000) n"""
EXTRA_OBJECT = "conformed/things/dt=2026-01-02/p0-000000000008.parquet"


@pytest.fixture(scope="module")
def stores(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with things.filled(stack, tmp_path_factory) as made:
        yield made


def test_ranges_that_were_proved_are_left_alone_until_something_is_written_on_either_side(
    stores: Stores, tmp_path: Path
) -> None:
    said: list[str] = []

    def changed(seed: int = 2) -> Report:  # draws none of these ranges
        said.clear()
        return stores.verify(manner=Manner(tmp_path, changed=True, seed=seed), say=said.append)

    stores.run(MORE)
    try:
        first = stores.verify(manner=Manner(tmp_path))
        again = changed()
        assert (first.ok, again.ok) == (True, True)
        assert [check.unchanged for check in again.checks] == [check.equal for check in again.checks] == [2, 2, 2]
        assert "no range of public.things has changed" in said
        for damage, mend, expected in damages(stores):
            damage()
            assert found(changed()) == expected
            mend()
            assert changed().ok
        stores.run("UPDATE things SET ratio = 0.5 WHERE id = 2")
        assert {(store, kind, fields) for store, kind, _, fields in found(changed())} == {
            (store, "different", ("ratio",)) for store in ("DynamoDB", "Search", "Lake")
        }
        assert said.count("public.things in DynamoDB " + stores.name + ": 1 of 19 ranges changed") == 1
    finally:
        stores.run("UPDATE things SET ratio = -1e100 WHERE id = 2; DELETE FROM things WHERE id >= 100")


def damages(stores: Stores) -> list[tuple[Callable[[], object], Callable[[], object], set[Any]]]:
    """Return, for each store, what a stranger does, what takes it back, and what verify has to say in between."""
    key = {name: ITEMS[0][name] for name in ("pk", "sk")}
    return [
        (lambda: stores.damage_item(ratio={"N": "0.2"}), stores.damage_item,
         {("DynamoDB", "different", "THING#a%23b / ID#1", ("ratio",))}),
        (lambda: stores.dynamodb.delete_item(TableName=stores.name, Key=key), stores.damage_item,
         {("DynamoDB", "missing", "THING#a%23b / ID#1", ())}),
        (lambda: stores.put_document("1", {**DOCUMENTS["1"], "shout": "?"}),
         lambda: stores.put_document("1", DOCUMENTS["1"]), {("Search", "different", "1", ("shout",))}),
        (lambda: stores.put_document("7", {**DOCUMENTS["1"], "id": None}),
         lambda: stores.search.delete(index=stores.index, id="7", params={"refresh": "true"}),
         {("Search", "extra", "7", ())}),
        (lambda: stores.search.delete(index=stores.index, id="2", params={"refresh": "true"}),
         lambda: stores.put_document("2", DOCUMENTS["2"]), {("Search", "missing", "2", ())}),
        (lambda: stores.put_object(8, [row(1, "a#c", 8)]),
         lambda: stores.s3.delete_object(Bucket=stores.name, Key=EXTRA_OBJECT),
         {("Lake", "different", "(1,)", ("name", "shout"))}),
    ]  # fmt: skip


def test_a_digest_that_lies_is_found_by_the_sample_reported_and_forgotten(stores: Stores, tmp_path: Path) -> None:
    assert stores.verify(manner=Manner(tmp_path)).ok
    path = tmp_path / "proofs.json"
    stores.run("UPDATE things SET flag = true WHERE id = 2")
    try:
        with source_digests(stores) as now:
            kept = json.loads(path.read_text())
            for proofs in kept["public.things"]["stores"].values():
                proofs["0"][0] = now["0"]  # as if the digest had not noticed the change
            path.write_text(json.dumps(kept))
        blind, drawn = (
            next(seed for seed in range(9999) if (0 in sample({-1, 0}, seed)) is wanted) for wanted in (False, True)
        )
        assert stores.verify(manner=Manner(tmp_path, changed=True, seed=blind)).ok
        report = stores.verify(manner=Manner(tmp_path, changed=True, seed=drawn))
    finally:
        stores.run("UPDATE things SET flag = false WHERE id = 2")

    assert {store for store, _, _, _ in found(report)} == {"DynamoDB", "Search", "Lake"}
    assert len([fault for fault in report.faults if "digests said" in fault]) == 3
    assert json.loads(path.read_text())["public.things"]["stores"] == {}


@contextmanager
def source_digests(stores: Stores) -> Iterator[dict[str, str]]:
    """Give the digests of the source as they are now."""
    source = Source(stores.project.endpoints.database(stores.name))
    with source.snapshot("public.things") as snapshot:
        yield {str(number): digest for number, digest in snapshot.digests(Ranges()).items()}


def test_an_interrupted_verify_goes_on_with_the_stores_it_had_not_read(stores: Stores, tmp_path: Path) -> None:
    said: list[str] = []

    def interrupt(line: str) -> None:
        if line.startswith("read") and "Search" in line:
            raise KeyboardInterrupt

    stores.damage_item(ratio={"N": "0.2"})
    try:
        with pytest.raises(KeyboardInterrupt):
            stores.verify(manner=Manner(tmp_path), say=interrupt)
        report = stores.verify(manner=Manner(tmp_path, resume=True), say=said.append)
    finally:
        stores.damage_item()

    assert "1 of 3 stores were read before" in said
    assert [line for line in said if "things in DynamoDB" in line] == []
    assert found(report) == {("DynamoDB", "different", "THING#a%23b / ID#1", ("ratio",))}
    assert [check.compared for check in report.checks] == [2, 2, 2]
    with pytest.raises(Refused, match="no interrupted verify"):
        stores.verify(manner=Manner(tmp_path, resume=True))


def test_rows_are_read_from_a_replica_once_it_has_replayed_what_the_stores_may_have(
    stores: Stores, stack: RunningStack
) -> None:
    with pytest.raises(Refused, match="not a replica"):
        stores.verify(manner=Manner(replica=stores.project.endpoints.database(stores.name)))
    with standby(stack) as url:
        replica = f"{url}/{stores.name}"
        stores.run("UPDATE things SET ratio = 0.5 WHERE id = 2; UPDATE things SET ratio = -1e100 WHERE id = 2")
        assert stores.verify(manner=Manner(replica=replica)).ok
        with closing(psycopg2.connect(replica)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT pg_wal_replay_pause()")
            stores.run("UPDATE things SET secret = 'else' WHERE id = 2")
            with pytest.raises(Unreachable, match="the replica to replay"):
                stores.verify(manner=Manner(replica=replica, timeout=0.5))
            cursor.execute("SELECT pg_wal_replay_resume()")
