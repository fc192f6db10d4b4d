"""An older record that is put back is never the last word of its key, whatever the processor writes meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from tailrace.change import VERSION
from tailrace.control.dlq.compacted import put, seen
from tailrace.stream.conform import Output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tailrace.control.dlq.compacted import Record
    from tailrace.kafka import Place

PLACE = ("conformed", 0)
KEYS = st.sampled_from([b"a", b"b"])
RECORDS = st.lists(st.tuples(KEYS, st.integers(0, 20)), max_size=6)


def record(key: bytes, version: int) -> Record:
    return key, b"%d" % version, [(VERSION, b"%d" % version)]


class Busy:
    """A partition into which a processor writes at each step of somebody else; its versions only grow."""

    def __init__(self, there: list[tuple[bytes, int]], meanwhile: list[list[bytes]]) -> None:
        self.records = [record(key, version) for key, version in there]
        self._meanwhile, self._version = iter(meanwhile), 100
        self._queue: list[Record] = []

    def end(self, _: Place) -> int:
        return len(self.records)

    def read(self, _: Place, begin: int) -> Iterator[Record]:
        yield from list(self.records[begin:])
        self._written()

    def send(self, _: Place, sent: Record) -> None:
        self._queue.append(sent)

    def flush(self) -> None:
        self._written()
        self.records += self._queue
        self._queue.clear()

    def _written(self) -> None:
        for key in next(self._meanwhile, []):
            self._version += 1
            self.records.append(record(key, self._version))


def output(key: bytes, version: int) -> Output:
    _, value, headers = record(key, version)
    return Output(*PLACE, key, value, headers)


@given(RECORDS, st.lists(st.lists(KEYS, max_size=2), max_size=6), RECORDS)
def test_the_newest_record_of_a_key_is_its_last(
    there: list[tuple[bytes, int]], meanwhile: list[list[bytes]], given: list[tuple[bytes, int]]
) -> None:
    log = Busy(there, meanwhile)
    put(log, [output(*each) for each in sorted(given, key=lambda each: each[1])])
    touched: set[bytes | None] = {key for key, _ in given}
    found = seen(log.records, touched)
    assert all(each.last == each.version for each in found.values())
    assert touched <= found.keys()


@given(RECORDS, RECORDS)
def test_only_what_is_newer_than_all_that_is_there_is_sent(
    there: list[tuple[bytes, int]], given: list[tuple[bytes, int]]
) -> None:
    newest = {key: max(version for other, version in there if other == key) for key, _ in there}
    sent = put(Busy(there, []), [output(*each) for each in given])
    assert sent == [version > newest.get(key, -1) for key, version in given]


def test_what_a_dead_command_left_behind_is_mended_by_the_next() -> None:
    log = Busy([(b"a", 9), (b"a", 5)], [])
    assert put(log, [output(b"a", 5)]) == [False]
    assert [value for _, value, _ in log.records] == [b"9", b"5", b"9"]
