"""What the DynamoDB writer does with every answer, given by a server on this machine that keeps items as DynamoDB does.

``Fake`` speaks the JSON protocol of PutItem and TransactWriteItems, with the guard; an answer on its queue is given
instead of, or after, the real one. So each test ends by looking at what the table holds.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import pytest

from tailrace.endpoints import Endpoints
from tailrace.errors import Fatal, Retryable
from tailrace.sink.dynamodb import DynamoDBWriter
from tailrace.sink.dynamodb_hot import fingerprint
from tailrace.targets import DynamoDBTable
from tailrace.testing import PARCEL, Tape, parcel

Way = Literal["transact", "put"]
WAYS: tuple[Way, ...] = ("transact", "put")
PREFIX = "com.amazonaws.dynamodb.v20120810#"


def refusal(code: str, **more: Any) -> bytes:
    return json.dumps({"__type": PREFIX + code, "message": "no", **more}).encode()


@dataclass(frozen=True)
class Answer:
    """What is sent instead of the true answer; ``after`` has the write happen first, ``cut`` ends it too early."""

    status: int = 200
    body: bytes = b"{}"
    after: bool = False
    cut: bool = False
    pause: float = 0.0


@dataclass
class Fake:
    """Items by key, answers to give first, and what was asked: the keys of each call."""

    url: str = ""
    items: dict[str, int] = field(default_factory=dict)  # version by sk
    answers: deque[Answer | None] = field(default_factory=deque)
    asked: list[list[str]] = field(default_factory=list)
    refuse: Callable[[str, int], str] = lambda _key, _times: "None"  # a reason for one put, by key and turn
    lock: threading.Lock = field(default_factory=threading.Lock)
    times: dict[str, int] = field(default_factory=dict)

    def writer(self, write: Way = "transact", sk: str = "{id}") -> DynamoDBWriter:
        there = Endpoints("", "", "", "", self.url, "", "")
        return DynamoDBWriter(DynamoDBTable("t", "parcel", pk="PARCEL", sk=sk, write=write), PARCEL, there)

    def handle(self, request: dict[str, Any]) -> Answer:
        puts = [entry["Put"] for entry in request["TransactItems"]] if "TransactItems" in request else [request]
        with self.lock:
            keys = [put["Item"]["sk"]["S"] for put in puts]
            self.asked.append(keys)
            scripted = self.answers.popleft() if self.answers else None
            if scripted is not None and not scripted.after:
                return scripted
            answer = self._write(puts, alone="TransactItems" not in request)
            return replace(answer, pause=scripted.pause) if scripted and scripted.pause else scripted or answer

    def _write(self, puts: list[dict[str, Any]], *, alone: bool) -> Answer:
        reasons = [self._reason(put["Item"]) for put in puts]
        if set(reasons) == {"None"}:
            self.items |= {put["Item"]["sk"]["S"]: int(put["Item"]["_v"]["N"]) for put in puts}
            units: Any = {"TableName": "t", "CapacityUnits": 1.0}
            return Answer(body=json.dumps({"ConsumedCapacity": units if alone else [units]}).encode())
        if alone:
            code = reasons[0].removesuffix("Error").removesuffix("Exception") + "Exception"
            return Answer(400, refusal(code))
        listed = [{"Code": reason} for reason in reasons]
        return Answer(400, refusal("TransactionCanceledException", CancellationReasons=listed))

    def _reason(self, item: dict[str, Any]) -> str:
        key = item["sk"]["S"]
        self.times[key] = self.times.get(key, 0) + 1
        stale = self.items.get(key, -1) >= int(item["_v"]["N"])
        return "ConditionalCheckFailed" if stale else self.refuse(key, self.times[key])


@pytest.fixture
def fake() -> Iterator[Fake]:
    made = Fake()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            answer = made.handle(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            threading.Event().wait(answer.pause)
            self.send_response(answer.status)
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.send_header("Content-Length", str(len(answer.body) + 10 * answer.cut))
            self.end_headers()
            self.wfile.write(answer.body)
            self.close_connection = answer.cut

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        made.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield made
        server.shutdown()


def batch(count: int) -> list[Any]:
    tape = Tape()
    return [tape.put(parcel(number)) for number in range(count)]


def write(fake: Fake, count: int, way: Way = "transact", timeout: float = 20.0) -> Any:
    writer = fake.writer(way)
    try:
        return writer.write(batch(count), timeout=timeout)
    finally:
        writer.close()


@pytest.mark.parametrize("way", WAYS)
def test_a_batch_lands_once_each_in_calls_of_its_way(fake: Fake, way: Way) -> None:
    assert list(write(fake, 250, way)) == []

    assert len(fake.items) == 250
    assert sorted(map(len, fake.asked)) == ([50, 100, 100] if way == "transact" else [1] * 250)


@pytest.mark.parametrize("way", WAYS)
def test_both_ways_write_the_same_and_find_the_same_stale(fake: Fake, way: Way) -> None:
    fake.items = {"3": 1 << 60, "7": 1 << 60}

    written = write(fake, 20, way)

    assert (list(written), written.stale) == ([], 2)
    assert fake.items["3"] == 1 << 60
    assert len(fake.items) == 20


THROTTLES = ["ProvisionedThroughputExceeded", "ThrottlingError", "TransactionConflict"]


@pytest.mark.parametrize("reason", THROTTLES)
def test_only_the_throttled_puts_of_a_cancelled_call_wait_and_the_rest_goes_at_once(fake: Fake, reason: str) -> None:
    fake.refuse = lambda key, times: reason if key in ("5", "6") and times < 3 else "None"

    assert list(write(fake, 50)) == []

    assert len(fake.items) == 50
    assert fake.times == {str(number): 3 if number in (5, 6) else 2 for number in range(50)}
    assert [len(fake.asked[0]), *({*keys} for keys in fake.asked[-2:])] == [50, {"5", "6"}, {"5", "6"}]


@pytest.mark.parametrize("code", ["ProvisionedThroughputExceededException", "ThrottlingException"])
def test_a_throttled_single_put_is_tried_again_and_its_neighbours_do_not_wait(fake: Fake, code: str) -> None:
    fake.refuse = lambda key, times: code if key == "5" and times < 3 else "None"

    assert list(write(fake, 40, "put")) == []

    assert len(fake.items) == 40
    assert fake.times == {str(number): 3 if number == 5 else 1 for number in range(40)}


def test_units_throttles_and_hot_keys_are_measured_without_the_keys(fake: Fake) -> None:
    fake.refuse = lambda key, times: "ThrottlingError" if key == "5" and times == 25 else "None"
    tape, writer = Tape(), fake.writer()
    for _ in range(25):
        writer.write([tape.put(parcel(number)) for number in range(50)], timeout=20)

    figures = {measure.name: measure for measure in writer.measures()}
    writer.close()

    assert figures["tailrace_dynamodb_consumed_units"].value == len(fake.asked) - 1  # one for each call that was taken
    assert figures["tailrace_dynamodb_throttled"].value == 1
    assert figures["tailrace_dynamodb_pace"].value >= 1
    assert figures["tailrace_dynamodb_hot_key_share"].value == 1.0
    assert figures["tailrace_dynamodb_hot_key_share"].labels == (("table", "t"), ("key", fingerprint("PARCEL")))


AGAIN = [
    Answer(400, refusal("ProvisionedThroughputExceededException")),
    Answer(400, refusal("ThrottlingException")),
    Answer(400, refusal("RequestLimitExceeded")),
    Answer(400, refusal("TransactionInProgressException")),
    Answer(429, b"slow down"),
    Answer(500, refusal("InternalServerError")),
    Answer(503, b"<html>not now</html>"),
    Answer(400, refusal("TransactionCanceledException")[:20], cut=True),
    Answer(400, b"<html>"),
    Answer(200, b"<html>welcome</html>"),
    Answer(200, b"{}"),
    Answer(200, b"", cut=True),
    Answer(200, b"", cut=True, after=True),
    Answer(200, b'{"ItemColl', cut=True, after=True),
    Answer(200, b'{"Item', after=True),
    Answer(500, refusal("InternalServerError"), after=True),
]


@pytest.mark.parametrize("way", WAYS)
def test_a_call_that_may_succeed_later_is_sent_again_in_the_same_write(fake: Fake, way: Way) -> None:
    writer = fake.writer(way)
    for answer in AGAIN:
        fake.items.clear()
        fake.answers.append(answer)

        written = writer.write(batch(10), timeout=20)

        assert list(written) == [], answer
        assert sorted(fake.items) == sorted(str(number) for number in range(10)), answer
        lost = (10 if way == "transact" else 1) if answer.after else 0
        assert written.stale == lost, answer  # what was written before its answer was lost is found as new as ours
    writer.close()


@pytest.mark.parametrize("way", WAYS)
def test_a_slow_answer_is_waited_for(fake: Fake, way: Way) -> None:
    fake.answers.append(Answer(pause=0.5, after=True))

    assert list(write(fake, 3, way)) == []
    assert len(fake.asked) == (1 if way == "transact" else 3)


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_that_does_not_come_in_time_is_asked_for_again(fake: Fake, way: Way) -> None:
    fake.answers.append(Answer(pause=1.5, after=True))
    there = Endpoints("", "", "", "", fake.url, "", "")
    target = DynamoDBTable("t", "parcel", pk="PARCEL", sk="{id}", write=way)
    writer = DynamoDBWriter(target, PARCEL, there, answer_seconds=0.5)

    written = writer.write(batch(3), timeout=20)
    writer.close()

    assert (list(written), written.stale) == ([], 3 if way == "transact" else 1)
    assert sorted(fake.items) == ["0", "1", "2"]


@pytest.mark.parametrize("way", WAYS)
def test_a_store_that_stays_away_leaves_the_batch_to_the_worker(fake: Fake, way: Way) -> None:
    fake.answers.extend([Answer(503, b"")] * 100)

    with pytest.raises(Retryable):
        write(fake, 3, way)

    assert fake.items == {}


@pytest.mark.parametrize("way", WAYS)
def test_what_is_throttled_until_the_deadline_leaves_the_batch_to_the_worker(fake: Fake, way: Way) -> None:
    fake.refuse = lambda key, _: "ProvisionedThroughputExceededException" if key == "1" else "None"
    begun = time.monotonic()

    with pytest.raises(Retryable):
        write(fake, 3, way, timeout=1.0)

    assert 0.9 < time.monotonic() - begun < 5
    assert sorted(fake.items) == ["0", "2"]


def test_an_item_that_dynamodb_refuses_is_found_by_sending_each_alone(fake: Fake) -> None:
    fake.answers.append(Answer(400, refusal("ValidationException")))
    fake.refuse = lambda key, _: "ValidationException" if key == "4" else "None"

    rejections = write(fake, 9)

    assert [rejection.position for rejection in rejections] == [4]
    assert len(fake.items) == 8


def test_a_reason_that_says_invalid_rejects_that_put_alone(fake: Fake) -> None:
    fake.refuse = lambda key, _: "ValidationError" if key == "4" else "None"

    assert [rejection.position for rejection in write(fake, 9)] == [4]
    assert [len(keys) for keys in fake.asked] == [9, 8]


@pytest.mark.parametrize("way", WAYS)
def test_of_an_item_whose_newest_change_is_refused_the_change_before_it_stands(fake: Fake, way: Way) -> None:
    tape, writer = Tape(), fake.writer(way)
    changes = [
        tape.put(parcel(1)),
        tape.put(parcel(2)),
        tape.put(parcel(1, note="2nd")),
        tape.put(parcel(1, note="3rd")),
    ]
    fake.refuse = lambda key, times: "ValidationError" if key == "1" and times == 1 else "None"

    rejections = writer.write(changes, timeout=20)
    writer.close()

    assert [rejection.position for rejection in rejections] == [3]
    assert fake.items == {"1": changes[2].version, "2": changes[1].version}


@pytest.mark.parametrize("way", WAYS)
def test_a_record_that_moves_is_there_before_it_leaves_and_stays_if_it_cannot_go(fake: Fake, way: Way) -> None:
    tape, writer = Tape(), fake.writer(way, sk="{owner}")
    ada, bob, eve = (parcel(1, owner=owner) for owner in ("ada", "bob", "eve"))
    first, second, third = tape.put(ada), tape.put(bob, before=ada), tape.put(eve, before=bob)
    fake.refuse = lambda key, _: "ValidationError" if key == "eve" else "None"

    writer.write([first], timeout=20)
    writer.write([second], timeout=20)
    assert fake.asked == [["ada"], ["bob"], ["ada"]]

    assert [rejection.position for rejection in writer.write([second, third], timeout=20)] == [1]
    writer.close()
    assert fake.items == {"ada": second.version, "bob": second.version}  # ada's is the tombstone


FATAL = [
    (Answer(400, refusal("AccessDeniedException")), "dynamodb:PutItem"),
    (Answer(400, refusal("UnrecognizedClientException")), "dynamodb:PutItem"),
    (Answer(400, refusal("ExpiredTokenException")), "dynamodb:PutItem"),
    (Answer(400, refusal("ResourceNotFoundException")), "tailrace apply"),
    (Answer(400, refusal("SomethingNewException")), ""),
    (Answer(413, b"<html>too large</html>"), ""),
]


@pytest.mark.parametrize("way", WAYS)
def test_what_a_person_has_to_mend_stops_the_worker(fake: Fake, way: Way) -> None:
    writer = fake.writer(way)
    for answer, hint in FATAL:
        fake.answers = deque([answer] * 3)
        with pytest.raises(Fatal) as caught:
            writer.write(batch(3), timeout=10)
        assert hint in caught.value.hint
    writer.close()

    assert fake.items == {}


def test_reasons_that_nobody_knows_stop_the_worker(fake: Fake) -> None:
    fake.refuse = lambda _key, _times: "SomethingNew"

    with pytest.raises(Fatal) as caught:
        write(fake, 2)

    assert caught.value.detail == "SomethingNew"


def test_reasons_that_are_not_one_for_each_put_stop_the_worker(fake: Fake) -> None:
    fake.answers.append(Answer(400, refusal("TransactionCanceledException", CancellationReasons=[{"Code": "None"}])))

    with pytest.raises(Fatal):
        write(fake, 2)
