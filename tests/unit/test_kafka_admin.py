"""What the admin side makes of a broker that says "not yet"."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, KafkaException

from tailrace.kafka import NOT_YET, settled


class Broker:
    """Answers a request with one error code after the other, then with 7."""

    def __init__(self, *codes: int) -> None:
        self.codes = list(codes)
        self.asked = 0

    def ask(self) -> int:
        self.asked += 1
        if self.codes:
            raise KafkaException(KafkaError(self.codes.pop(0)))
        return 7


@pytest.mark.parametrize("code", sorted(NOT_YET))
def test_an_answer_of_not_yet_is_asked_again_until_the_cluster_answers(code: int) -> None:
    broker = Broker(code, code)
    assert settled(broker.ask) == 7
    assert broker.asked == 3


def test_a_cluster_that_says_not_yet_for_longer_than_the_deadline_is_an_error() -> None:
    broker = Broker(*[KafkaError.COORDINATOR_LOAD_IN_PROGRESS] * 1000)
    with pytest.raises(KafkaException):
        settled(broker.ask, timeout=0.2)
    assert broker.asked > 1


def test_any_other_error_is_not_asked_again() -> None:
    broker = Broker(KafkaError.GROUP_AUTHORIZATION_FAILED)
    with pytest.raises(KafkaException):
        settled(broker.ask)
    assert broker.asked == 1
