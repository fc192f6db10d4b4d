"""A proxy in trouble, before a small HTTP server: what its clients meet, and that the rest passes as it is."""

from __future__ import annotations

import gc
import socket
import threading
import time
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

import pytest

from tailrace.drill import network, schedule
from tailrace.drill.schedule import Fault
from tailrace.testing.proxy import Proxy, Trouble, http_answer

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 10.0
FULL = http_answer(429, b'{"full": true}')


class Service(BaseHTTPRequestHandler):
    """Answers with the body it was sent, and notes it."""

    protocol_version = "HTTP/1.1"
    done: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.done.append(body)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Host", self.headers["Host"])
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def proxy(service: str) -> Iterator[Proxy]:
    Service.done.clear()
    with Proxy(service) as made:
        yield made


def connected(proxy: Proxy, timeout: float = SECONDS) -> HTTPConnection:
    return HTTPConnection("127.0.0.1", urlsplit(proxy.url).port or 0, timeout=timeout)


def post(connection: HTTPConnection, body: bytes, **headers: str) -> tuple[int, bytes]:
    connection.request("POST", "/", body, headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_without_trouble_everything_passes_as_it_is_on_one_connection(proxy: Proxy) -> None:
    large = bytes(range(256)) * 4000
    with closing(connected(proxy)) as connection:
        assert post(connection, b"small") == (200, b"small")
        connection.request("POST", "/", large, {"Host": "signed.example"})
        answer = connection.getresponse()
        assert (answer.read(), answer.headers["X-Host"]) == (large, "signed.example")
    assert proxy.met == 0


def test_a_refused_request_is_answered_in_full_and_never_reaches_the_service(proxy: Proxy) -> None:
    proxy.trouble(Trouble(refusal=FULL))
    for body in (b"short", bytes(300_000)):
        with closing(connected(proxy)) as connection:
            assert post(connection, body) == (429, b'{"full": true}')
    assert Service.done == []
    assert proxy.met == 2


def test_who_asks_whether_it_may_send_is_told_no_at_once(proxy: Proxy) -> None:
    proxy.trouble(Trouble(refusal=FULL))
    with closing(connected(proxy)) as connection:
        connection.putrequest("POST", "/")
        connection.putheader("Expect", "100-continue")
        connection.putheader("Content-Length", "1000")
        connection.endheaders()
        assert connection.getresponse().status == 429


def test_of_a_share_that_is_refused_the_rest_is_done(proxy: Proxy) -> None:
    proxy.trouble(Trouble(refusal=FULL, share=0.5))
    statuses = []
    for number in range(40):
        with closing(connected(proxy)) as connection:
            statuses.append(post(connection, b"%d" % number)[0])
    assert {200, 429} == set(statuses)
    assert len(Service.done) == statuses.count(200)
    assert proxy.met == statuses.count(429)


def test_a_lost_answer_is_that_of_a_request_which_was_done(proxy: Proxy) -> None:
    proxy.trouble(Trouble(lost=True))
    with closing(connected(proxy)) as connection, pytest.raises((OSError, HTTPException)):
        post(connection, b"once")
    assert Service.done == [b"once"]
    proxy.mend()
    with closing(connected(proxy)) as connection:
        assert post(connection, b"again") == (200, b"again")


def test_a_silent_proxy_takes_requests_and_passes_them_when_it_is_over(proxy: Proxy) -> None:
    with closing(connected(proxy)) as connection:
        post(connection, b"before")
        proxy.trouble(Trouble(silent=True))
        connection.request("POST", "/", b"late")
        with closing(connected(proxy, timeout=0.2)) as hasty, pytest.raises(TimeoutError):
            post(hasty, b"nobody waits for this")
        assert Service.done == [b"before"]
        proxy.mend()
        assert connection.getresponse().read() == b"late"


def test_a_slow_proxy_delays_what_it_passes(proxy: Proxy) -> None:
    proxy.trouble(Trouble(latency=0.05, rate=1_000_000))
    began = time.monotonic()
    with closing(connected(proxy)) as connection:
        assert post(connection, b"slow") == (200, b"slow")
    assert time.monotonic() - began >= 0.1


def test_a_cut_breaks_what_is_open_and_lets_nothing_new_last(proxy: Proxy) -> None:
    with closing(connected(proxy)) as connection:
        post(connection, b"before")
        proxy.cut()
        with pytest.raises((OSError, HTTPException)):
            post(connection, b"on the broken one")
    with closing(connected(proxy)) as connection, pytest.raises((OSError, HTTPException)):
        post(connection, b"on a new one")
    assert Service.done == [b"before"]
    assert proxy.refused == 1


def test_a_proxy_that_left_refuses_connections_and_comes_back_to_its_port(proxy: Proxy) -> None:
    url = proxy.url
    proxy.leave()
    with closing(connected(proxy)) as connection, pytest.raises(ConnectionRefusedError):
        post(connection, b"nobody there")
    proxy.listen()
    assert proxy.url == url
    with closing(connected(proxy)) as connection:
        assert post(connection, b"back") == (200, b"back")


def test_whoever_comes_in_the_moment_a_proxy_ends_is_sent_away_and_nothing_stays_open(service: str) -> None:
    came: list[socket.socket] = []
    enough = threading.Event()

    def come(port: int) -> None:
        with suppress(ConnectionRefusedError, ConnectionResetError):
            while True:
                came.append(socket.create_connection(("127.0.0.1", port), timeout=SECONDS))
                if len(came) == 200:
                    enough.set()

    with Proxy(service) as proxy:
        coming = threading.Thread(target=come, args=(proxy.port,))
        coming.start()
        assert enough.wait(SECONDS)
    coming.join(SECONDS)
    for client in came:
        with closing(client), suppress(ConnectionResetError):
            assert client.recv(1) == b""
    gc.collect()  # an unclosed socket of the proxy would say so now, and every warning is an error


def test_where_the_service_is_gone_the_connection_breaks() -> None:
    broken = pytest.raises((OSError, HTTPException))
    with Proxy("http://127.0.0.1:1") as proxy, closing(connected(proxy)) as connection, broken:
        post(connection, b"nobody there")


@pytest.mark.parametrize("target", schedule.SPOKEN)
def test_every_service_that_speaks_http_refuses_in_its_own_words(target: str) -> None:
    said = {network.trouble_of(Fault(schedule.REFUSE, target, force=force)).refusal for force in (0.3, 0.31, 0.32)}
    assert said == set(network.REFUSALS[target])
    for answer in said:
        status, _, rest = answer.partition(b"\r\n")
        head, _, body = rest.partition(b"\r\n\r\n")
        assert int(status.split()[1]) in (400, 429, 500, 503)
        assert f"Content-Length: {len(body)}\r\n".encode() in head + b"\r\n"


def test_more_force_is_more_trouble() -> None:
    mild, hard = (network.trouble_of(Fault(schedule.SLOW, "s3", force=force)) for force in (0.3, 1.0))
    assert mild.latency < hard.latency
    assert mild.rate > hard.rate
    assert network.trouble_of(Fault(schedule.LOSE, "s3", force=0.4)).share == 0.4
