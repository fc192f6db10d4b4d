"""The admin side while the broker is killed and comes back: it neither takes the process down nor stays deaf."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from confluent_kafka.admin import AdminClient, NewTopic

from tailrace.deadline import wait_for
from tailrace.errors import Unreachable
from tailrace.kafka import KafkaAdmin

if TYPE_CHECKING:
    from tests.providers import RunningStack

TOPIC, GROUP, PARTITIONS = "admin-under-kill", "admin-under-kill", 3


class Asking:
    """Asks for everything again and again in a thread; ``answered`` counts whole rounds."""

    def __init__(self, bootstrap: str) -> None:
        self.admin = KafkaAdmin(bootstrap)
        self.answered = 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.ask)

    def ask(self) -> None:
        while not self.over.wait(0.05):
            try:
                self.admin.rewind(GROUP, {(TOPIC, 0): 7})
                assert self.admin.committed(GROUP, [TOPIC])[TOPIC, 0] == 7
                assert set(self.admin.ends([TOPIC]).values()) == set(self.admin.starts([TOPIC]).values()) == {0}
                assert set(self.admin.at_time([TOPIC], 5).values()) == {-1}
                assert self.admin.members(GROUP) == 0
            except Unreachable:  # while the broker is away
                continue
            self.answered += 1


def test_one_admin_outlives_a_kill_of_the_broker_and_is_answered_after_it(stack: RunningStack) -> None:
    assert stack.embedded is not None, "only servers of our own can be killed"
    client = AdminClient({"bootstrap.servers": stack.endpoints.kafka, "log_level": 2})
    client.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(20)
    asking = Asking(stack.endpoints.kafka)
    asking.thread.start()
    try:
        wait_for(lambda: asking.answered, timeout=60, what="answers")
        stack.embedded.kill("kafka")
        stack.embedded.up()
        back = asking.answered
        wait_for(lambda: asking.answered > back + 1, timeout=60, what="answers after the kill")
    finally:
        asking.over.set()
        asking.thread.join(60)
    assert not asking.thread.is_alive()
