"""What the search writer does with every answer of a bulk request, given by a scripted server on this machine."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from tailrace.endpoints import Endpoints
from tailrace.errors import Fatal, Retryable
from tailrace.sink import bulk
from tailrace.sink.search import SearchWriter
from tailrace.targets import SearchIndex
from tailrace.testing import PARCEL, Answer, Door, Hold, Spoil, Tape, parcel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tailrace.change import Change

OK = {"status": 201}


@dataclass
class Script:
    """Answers to give, each a status and a list of items, or a status alone; ``asked`` collects the ids asked for."""

    url: str = ""
    answers: deque[tuple[int, list[dict[str, Any]]]] = field(default_factory=deque)
    asked: list[list[str]] = field(default_factory=list)

    def writer(self, url: str = "") -> SearchWriter:
        """Return a writer that talks to the script, at the door before it where one is given."""
        there = Endpoints("", "", "", "", "", "", url or self.url)
        return SearchWriter(SearchIndex("parcels", record="parcel", load_refresh_seconds=None), PARCEL, there)


@pytest.fixture
def script() -> Iterator[Script]:
    made = Script()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            lines = self.rfile.read(int(self.headers["Content-Length"])).splitlines()
            made.asked.append([json.loads(line)["index"]["_id"] for line in lines[::2]])
            status, items = made.answers.popleft() if len(made.answers) > 1 else made.answers[0]
            shown = [{"index": item} for item in items or [OK] * (len(lines) // 2)]
            failed = any(item["index"]["status"] > 201 for item in shown)
            body = json.dumps({"errors": failed, "items": shown}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


def failed(status: int, kind: str, reason: str = "") -> dict[str, Any]:
    return {"status": status, "error": {"type": kind, "reason": reason}}


def puts(count: int) -> list[Change]:
    tape = Tape()
    return [tape.put(parcel(number)) for number in range(1, count + 1)]


def test_a_mixed_answer_is_settled_item_by_item_and_only_the_busy_ones_are_sent_again(script: Script) -> None:
    script.answers += [
        (
            200,
            [
                OK,
                failed(400, "mapper_parsing_exception", "failed to parse field [note] of type [date] ... 'secret'"),
                failed(409, "version_conflict_engine_exception"),
                failed(429, "rejected_execution_exception"),
                failed(503, "unavailable_shards_exception"),
            ],
        ),
        (200, [OK, failed(429, "rejected_execution_exception")]),
        (200, []),
    ]

    written = script.writer().write(puts(5), timeout=30)

    assert script.asked == [["1", "2", "3", "4", "5"], ["4", "5"], ["5"]]
    assert [rejection.position for rejection in written] == [1]
    assert "note" in written[0].reason
    assert "secret" not in written[0].reason
    assert written.stale == 1


def test_items_that_stay_busy_become_a_pause_of_the_batch_before_the_deadline_passes(script: Script) -> None:
    script.answers.append((200, [failed(429, "rejected_execution_exception")]))

    with pytest.raises(Retryable):
        script.writer().write(puts(1), timeout=1)

    assert len(script.asked) > 1


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_cluster_in_trouble_is_a_pause(script: Script, status: int) -> None:
    script.answers.append((status, []))

    with pytest.raises(Retryable):
        script.writer().write(puts(1), timeout=5)


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_refused_request_stops_the_worker(script: Script, status: int) -> None:
    script.answers.append((status, []))

    with pytest.raises(Fatal):
        script.writer().write(puts(1), timeout=5)


def test_a_request_that_is_too_large_is_halved_until_the_one_document_is_found(script: Script) -> None:
    script.answers += [(413, []), (200, []), (413, []), (200, []), (413, [])]

    written = script.writer().write(puts(4), timeout=30)

    assert script.asked == [["1", "2", "3", "4"], ["1", "2"], ["3", "4"], ["3"], ["4"]]
    assert [rejection.position for rejection in written] == [3]


def test_an_item_with_an_unknown_status_stops_the_worker_and_a_missing_index_says_what_to_run(script: Script) -> None:
    script.answers += [(200, [failed(418, "teapot")]), (200, [failed(404, "index_not_found_exception")])]
    writer = script.writer()

    with pytest.raises(Fatal, match="418"):
        writer.write(puts(1), timeout=5)
    with pytest.raises(Fatal, match="tailrace apply"):
        writer.write(puts(1), timeout=5)


def test_a_closed_writer_does_not_wait_for_room(script: Script) -> None:
    script.answers.append((200, [failed(429, "rejected_execution_exception")]))
    writer = script.writer()
    writer.close()

    with pytest.raises(Retryable):
        writer.write(puts(1), timeout=600)


def test_requests_are_cut_by_bytes_and_hold_one_document_at_least() -> None:
    documents = [bulk.Document(str(size), [], b"x" * size) for size in (4, 4, 4, 20, 1)]

    assert [[len(item.lines) for item in chunk] for chunk in bulk.requests(documents, 10)] == [[4, 4], [4], [20], [1]]


FLOOD = "index [p-1] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark, index has block];"
READ_ONLY = "index [p-1] blocked by: [FORBIDDEN/5/index read-only (api)];"


@pytest.mark.parametrize(
    ("status", "words", "said"),
    [(429, FLOOD, "disk usage exceeded"), (403, READ_ONLY, "index read-only"), (503, "no master", "no reason given")],
)
def test_a_blocked_index_is_a_pause_with_its_reason_and_no_dead_letter(
    script: Script, status: int, words: str, said: str
) -> None:
    script.answers += [(200, [OK, failed(status, "cluster_block_exception", words)]), (200, [])]
    writer = script.writer()

    with pytest.raises(Retryable) as caught:
        writer.write(puts(2), timeout=30)

    assert said in caught.value.problem
    assert "Free disk space" in caught.value.hint
    assert list(writer.write(puts(2), timeout=30)) == []


def test_a_blocked_cluster_is_a_pause_too(script: Script) -> None:
    error = {"type": "cluster_block_exception", "reason": READ_ONLY}
    with Door(script.url) as door:
        door.spoil("_bulk", Answer(403, json.dumps({"error": error, "status": 403}).encode()))
        with pytest.raises(Retryable, match="blocked") as caught:
            script.writer(door.url).write(puts(1), timeout=30)
    assert "index read-only" in caught.value.problem


def test_an_item_that_is_too_large_is_rejected_and_one_that_failed_inside_is_sent_again(script: Script) -> None:
    script.answers += [(200, [failed(413, "too_large"), failed(500, "engine_exception"), OK]), (200, [])]

    written = script.writer().write(puts(3), timeout=30)

    assert [rejection.position for rejection in written] == [0]
    assert script.asked == [["1", "2", "3"], ["2"]]


@pytest.mark.parametrize("how", ["none", "half", "nonsense"])
def test_an_answer_that_is_lost_cut_short_or_nonsense_is_a_pause_and_the_batch_is_sent_again(
    script: Script, how: str
) -> None:
    script.answers.append((200, []))
    with Door(script.url) as door:
        door.spoil("_bulk", Spoil(how))
        writer = script.writer(door.url)
        with pytest.raises(Retryable):
            writer.write(puts(2), timeout=30)
        assert list(writer.write(puts(2), timeout=30)) == []
    assert script.asked == [["1", "2"], ["1", "2"]]


@pytest.mark.parametrize("body", [b"<html>sorry</html>", b"null", b"[]", b'{"errors": false, "items": []}', b""])
def test_an_answer_that_does_not_settle_every_document_is_a_pause(script: Script, body: bytes) -> None:
    with Door(script.url) as door:
        door.spoil("_bulk", Answer(200, body))
        with pytest.raises(Retryable, match="makes no sense"):
            script.writer(door.url).write(puts(1), timeout=30)


def test_an_answer_that_comes_after_the_deadline_is_a_pause(script: Script) -> None:
    script.answers.append((200, []))
    with Door(script.url) as door:
        hold = Hold()
        door.spoil("_bulk", hold)
        with pytest.raises(Retryable):
            script.writer(door.url).write(puts(1), timeout=1)
        assert hold.held.is_set()
        hold.release.set()


def test_a_store_that_hangs_keeps_a_closed_writer_from_nothing(script: Script) -> None:
    script.answers.append((200, []))
    hold = Hold()
    with Door(script.url) as door:
        door.spoil("_bulk", hold)
        writer = script.writer(door.url)
        with ThreadPoolExecutor(1) as crew:
            stuck = crew.submit(lambda: writer.write(puts(1_001), timeout=2))
            assert hold.held.wait(30)
            begun = time.monotonic()
            writer.close()
            assert time.monotonic() - begun < 1
            with pytest.raises(Retryable):
                stuck.result(30)
        hold.release.set()
    assert all(thread.daemon for thread in threading.enumerate() if thread.name.startswith("sink-"))
