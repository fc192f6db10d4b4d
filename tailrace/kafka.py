"""Kafka clients, made in one place: the idempotent producer, and what the admin side is asked for.

``Outbox`` is the only producer of Tailrace: idempotent, acks=all, and ``flush`` returns only when every message is
acknowledged, else it raises. Offsets are plain dicts ``{(topic, partition): offset}``. It consumes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential_jitter

from tailrace.deadline import Deadline
from tailrace.errors import Fatal, Retryable, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

T = TypeVar("T")
Place = tuple[str, int]
Offsets = dict[Place, int]
TIMEOUT = 15.0
QUIET = 2  # librdkafka's own lines go to the terminal as they are; what matters comes as errors of calls too


class Outbox:
    """One idempotent producer; not shared between threads. ``partitioner`` is murmur2 where none is named."""

    def __init__(self, bootstrap: str, client: str, **extra: Any) -> None:
        config = {
            "bootstrap.servers": bootstrap,
            "client.id": client,
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 5,
            "compression.type": "zstd",
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": 1_000_000,
            "delivery.timeout.ms": 60_000,
            "message.max.bytes": 20_000_000,  # the topic has the last word
            "log_level": QUIET,
            "delivery.report.only.error": True,  # flush counts what is on its way; only a failure is worth a call
            **extra,
        }
        self._producer = Producer(config)
        self._failed: list[KafkaError] = []

    def send(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes | None]] = (),
        partition: int = -1,
    ) -> None:
        """Queue one message; when the queue is full, wait for room."""
        given = headers if type(headers) is list else list(headers)
        deadline = None
        while True:
            try:
                self._producer.produce(topic, value, key, partition, self._delivered, headers=given)
            except BufferError:
                deadline = deadline or Deadline.after(60)
                if deadline.passed():
                    raise Retryable("The Kafka producer's queue stays full.", hint="Is the broker up?") from None
                self._producer.poll(0.05)
            else:
                return

    def flush(self, timeout: float = 60) -> None:
        """Return when everything sent is acknowledged; Retryable or Fatal otherwise."""
        left = self._producer.flush(timeout)
        failed, self._failed = self._failed, []
        if failed:
            raise _failure(failed[0], len(failed))
        if left:
            raise Retryable(f"Kafka did not acknowledge {left} messages in {timeout:g} s.")

    def close(self) -> None:
        """Leave the broker; what was not flushed is given up."""
        self._producer.purge()
        self._producer.close()

    def _delivered(self, error: KafkaError | None, _message: Any) -> None:
        if error is not None:  # never None while only errors are reported
            self._failed.append(error)


def _failure(error: KafkaError, count: int) -> Retryable | Fatal:
    """Tell a broker that may come back from a message it will never take."""
    detail = f"{count} messages: {error.name()}"
    if error.retriable() or error.code() in (KafkaError._MSG_TIMED_OUT, KafkaError._ALL_BROKERS_DOWN):  # noqa: SLF001 - librdkafka's own codes are spelled so
        return Retryable("Kafka did not take the messages.", detail=detail)
    return Fatal("Kafka refuses the messages.", detail=detail, hint="max.message.bytes and ACLs are the usual causes.")


# What a broker that has just come back, or has just lost its lead, says of a request that it will take a moment later.
NOT_YET = frozenset(
    {
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001 - spelled so; a topic that has just grown
    }
)
LATEST, EARLIEST = -1, -2  # in the place of a timestamp: KIP-79


def settled(call: Callable[[], T], timeout: float = TIMEOUT) -> T:
    """Return what ``call`` returns; while the cluster says "not yet", it is made again for ``timeout`` seconds."""
    return Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, KafkaException) and error.args[0].code() in NOT_YET),
        wait=wait_exponential_jitter(multiplier=0.05, max=1.0, jitter=0.1),
        stop=stop_after_delay(timeout),
        reraise=True,
    )(call)


class KafkaAdmin:
    """What the control side asks of a cluster. Every call has a deadline; a silent broker is Unreachable.

    Offsets and groups are asked for by consumers that never subscribe, and by the older calls of the library: the admin
    client's own requests about groups abort the process when the broker dies while one is on its way, never find a
    coordinator again after its restart, and its requests for offsets stay fenced (librdkafka 2.16.1; decision 0022).
    """

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.client = AdminClient({"bootstrap.servers": bootstrap, "log_level": QUIET})
        self._asking: dict[str, Consumer] = {}

    def partitions(self) -> dict[str, int]:
        """Return partition counts by topic."""
        try:
            return _counted(self.client)
        except KafkaException as error:
            raise self._silent(error) from error

    def topic_ids(self, names: Sequence[str]) -> dict[str, str]:
        """Return topic ids (UUIDs as text) by topic; unknown topics are left out."""
        from confluent_kafka import TopicCollection  # noqa: PLC0415 - one use

        found = {}
        for name, future in self.client.describe_topics(TopicCollection(list(names)), request_timeout=TIMEOUT).items():
            try:
                found[name] = str(future.result().topic_id)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise self._silent(error) from error
        return found

    def ends(self, names: Iterable[str]) -> Offsets:
        """Return end offsets (the next offset to be written) of all partitions of the topics."""
        return self.at_time(names, LATEST)

    def starts(self, names: Iterable[str]) -> Offsets:
        """Return the oldest offsets still there."""
        return self.at_time(names, EARLIEST)

    def at_time(self, names: Iterable[str], milliseconds: int) -> Offsets:
        """Return the first offsets at or after a Kafka timestamp; -1 where there is none."""
        return self._offsets(names, "", lambda asked: asked.offsets_for_times, milliseconds)

    def committed(self, group: str, names: Iterable[str]) -> Offsets:
        """Return a group's committed offsets; -1001 where it has committed nothing."""
        return self._offsets(names, group, lambda asked: asked.committed)

    def members(self, group: str) -> int:
        """Return how many members a consumer group has; 0 when the group does not exist."""
        try:
            found = settled(lambda: [_checked(each) for each in self.client.list_groups(group, timeout=TIMEOUT)])
        except KafkaException as error:
            raise self._silent(error) from error
        return sum(len(each.members) for each in found)

    def rewind(self, group: str, offsets: Mapping[Place, int]) -> None:
        """Set a group's committed offsets; the group must have no member."""
        places = [TopicPartition(topic, partition, offset) for (topic, partition), offset in offsets.items()]
        commit = self._asked(group).commit
        try:
            settled(lambda: [_checked(each) for each in commit(offsets=places, asynchronous=False) or ()])
        except KafkaException as error:
            raise self._silent(error) from error

    def _offsets(self, names: Iterable[str], group: str, call: Callable[[Consumer], Any], offset: int = 0) -> Offsets:
        asked, wanted = self._asked(group), list(names)

        def ask() -> Offsets:
            counts = _counted(asked)  # by the same client, which knows only partitions that it was told of
            places = [TopicPartition(name, index, offset) for name in wanted for index in range(counts.get(name, 0))]
            found = call(asked)(places, timeout=TIMEOUT) if places else ()
            return {(place.topic, place.partition): place.offset for place in map(_checked, found)}

        try:
            return settled(ask)
        except KafkaException as error:
            raise self._silent(error) from error

    def _asked(self, group: str) -> Consumer:
        """Return the consumer that asks for a group, or for none."""
        if group not in self._asking:
            ours = {"group.id": group or "tailrace-offsets", "enable.auto.commit": False, "log_level": QUIET}
            whole = {"isolation.level": "read_uncommitted"}  # the end is where the next record goes
            self._asking[group] = Consumer({"bootstrap.servers": self.bootstrap, **ours, **whole})
        return self._asking[group]

    def _silent(self, error: KafkaException) -> Unreachable:
        return Unreachable(
            "Kafka does not answer as it should.", detail=f"{self.bootstrap}: {error.args[0]}", hint="Is the broker up?"
        )


def _counted(client: AdminClient | Consumer) -> dict[str, int]:
    return {name: len(topic.partitions) for name, topic in client.list_topics(timeout=TIMEOUT).topics.items()}


def _checked(answer: Any) -> Any:
    """Return an answer for one partition or group unless it is an error."""
    if answer.error is not None:
        raise KafkaException(answer.error)
    return answer


def reader(bootstrap: str, client: str, **extra: Any) -> Consumer:
    """Return a consumer for reading topics by hand (assign, never subscribe): it commits nothing."""
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"tailrace-reader-{client}",
            "client.id": client,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            "log_level": QUIET,
            **extra,
        }
    )
