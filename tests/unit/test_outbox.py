"""The outbox tells what Kafka did not take, though librdkafka reports only failures to it."""

from __future__ import annotations

from contextlib import closing

import pytest

from tailrace.errors import Retryable
from tailrace.kafka import Outbox

NOBODY = "127.0.0.1:9"  # the discard port, where nothing listens


def outbox(milliseconds: int) -> Outbox:
    return Outbox(NOBODY, "test", **{"delivery.timeout.ms": milliseconds, "log_level": 0})


def test_messages_that_no_broker_took_in_time_make_flush_raise() -> None:
    with closing(outbox(300)) as out:
        for number in range(3):
            out.send("topic", key=b"%d" % number, value=b"x", headers=(("a", b"1"),), partition=0)
        with pytest.raises(Retryable, match="did not take") as caught:
            out.flush(20)
        assert caught.value.detail == "3 messages: _MSG_TIMED_OUT"
        out.flush(1)  # told once


def test_messages_still_on_their_way_make_flush_raise() -> None:
    with closing(outbox(60_000)) as out:
        out.send("topic", key=b"1", value=b"x", partition=0)
        with pytest.raises(Retryable, match="did not acknowledge 1 messages"):
            out.flush(0.1)
