"""Letters of a processor, put back through the processor's own rules into the topic that its record belongs to.

The raw record keeps its place and so its version. The conformed topic is compacted: the last record of a key is the
one that survives there, so an older one must never come last. What is newer is looked for first, and a letter whose key
has any is over; what came between looking and sending is sent once more behind it. Versions make both harmless.

It has to be sure of the version: the raw record must still be where the letter says, in the present epoch. Values that
Debezium did not send are not restored here: only the running processor has the images of that moment.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from tailrace import topics, version
from tailrace.control.dlq.editing import EnvelopeForm
from tailrace.control.dlq.ledger import FAILED, REPLAYED, STALE
from tailrace.control.dlq.letters import messages
from tailrace.control.dlq.returning import FORGOTTEN, LEFT, Outcome, outlived
from tailrace.deadletter import version_in
from tailrace.errors import Retryable, Unreachable, UsageError
from tailrace.kafka import Outbox
from tailrace.stream import processor
from tailrace.stream.drift import Held

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tailrace.control.dlq.letters import Parked
    from tailrace.deadletter import DeadLetter
    from tailrace.kafka import KafkaAdmin, Place
    from tailrace.project import Project
    from tailrace.stream.conform import Conformed, Output

READ_SECONDS = 600.0  # for one partition of a conformed topic
SECOND = 10  # times that newer records are sent behind older ones
UNSENT = (
    " `tailrace snapshot TABLE` brings the whole row; then drop the letter. A value that Debezium did not send is"
    " restored by the running processor only."
)
GONE = (
    "The raw record is no longer where the letter says (retention, or a topic made anew), so its version is not known."
    " `tailrace snapshot TABLE` brings the row as it is now; then drop the letter."
)
EARLIER = (
    "It belongs to an earlier epoch; the snapshot that began this one has brought the row as it was then:"
    " drop the letter."
)


@dataclass(slots=True)
class Raw:
    """A raw record with a letter's bytes; ``timestamp`` is Kafka's, in milliseconds."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, Any]]


@dataclass(frozen=True, slots=True)
class Sent:
    """A record of a conformed topic, as it can be sent again."""

    version: int
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a partition has of one key: its newest record, and the version of its last one."""

    newest: Sent
    last: int

    @property
    def passed(self) -> bool:
        """Whether an older record came behind the newest."""
        return self.last < self.newest.version


class ToConformed:
    """Puts letters of one processor back."""

    def __init__(self, project: Project, admin: KafkaAdmin, worker: str, *, despite_age: bool = False) -> None:
        self._admin, self._despite_age = admin, despite_age
        self._conformer = processor.prepare(project, worker)
        self._raws = {topics.raw(project.name, table) for table in project.tables_of(worker)}
        self._compacted = {topics.conformed(project.name, project.record_of(table)) for table in project.tables}
        self._outbox = Outbox(project.endpoints.kafka, f"{project.name}.dlq")

    def close(self) -> None:
        """Leave the broker."""
        self._outbox.close()

    def put(self, given: Sequence[Parked]) -> list[Outcome]:
        """Conform letters, and send what they become unless something newer is there."""
        outcomes: list[Outcome] = []
        sending: list[tuple[Parked, Output]] = []
        for parked in given:
            found = self._conformed(parked)
            if isinstance(found, Outcome):
                outcomes.append(found)
            else:
                sending += [(parked, output) for output in found]
                if not found:
                    outcomes.append(Outcome(parked, REPLAYED, "It becomes nothing."))
        return outcomes + self._settled(sending)

    def form(self, letter: DeadLetter) -> EnvelopeForm:
        """Return what a person edits."""
        if letter.value is None:
            raise UsageError("The letter is a tombstone: it has no value to edit.")
        return EnvelopeForm(letter.value)

    def try_out(self, letter: DeadLetter, value: bytes) -> None:
        """Raise UsageError where an edited value would be refused again."""
        topic, _, offset = letter.place
        if topic not in self._raws:
            raise UsageError(f"The processor does not read {topic}.")
        result = self._batch(letter, Raw(offset, letter.failed_us // 1000, letter.key, value, letter.headers))
        if isinstance(result, str) or result.letters:
            why = result if isinstance(result, str) else result.letters[0].reason
            raise UsageError("The edited value would be refused as well.", detail=why)

    def _conformed(self, parked: Parked) -> Outcome | list[Output]:
        """Return what a letter becomes, or why it stays."""
        letter = parked.letter
        record = self._record(letter)
        result = record if isinstance(record, str) else self._batch(letter, record)
        if isinstance(result, str):
            return Outcome(parked, LEFT, result)
        if result.letters:
            stage, reason = result.letters[0].stage, result.letters[0].reason
            hint = UNSENT if "was not sent" in reason else ""
            return Outcome(parked, FAILED, reason + hint, letter.again(stage=stage, reason=reason))
        return result.outputs

    def _record(self, letter: DeadLetter) -> Raw | str:
        """Return the raw record of a letter, or why it may not be put back."""
        topic, partition, offset = letter.place
        if topic not in self._raws:
            return f"The processor does not read {topic} any more."
        if outlived(letter) and not self._despite_age:
            return FORGOTTEN
        timestamp = self._still_there(letter)
        if timestamp is None:
            return GONE
        if version.unpack(self._conformer.version(topic, partition, offset))[0] < self._conformer.epoch:
            return EARLIER
        return Raw(offset, timestamp, letter.key, letter.value, letter.headers)

    def _batch(self, letter: DeadLetter, record: Raw) -> Conformed | str:
        """Return what one record becomes, or why its table is held."""
        topic, partition, _ = letter.place
        try:
            return self._conformer.batch(topic, partition, [record], set())
        except Held as held:
            return f"The table is held: {held.problem}"

    def _still_there(self, letter: DeadLetter) -> int | None:
        """Return Kafka's time of the raw record that a letter was made of; None where it is not there."""
        topic, partition, offset = letter.place
        starts, ends = self._admin.starts([topic]), self._admin.ends([topic])
        if not starts.get((topic, partition), offset + 1) <= offset < ends[topic, partition]:
            return None
        found = next(messages(self._admin, {(topic, partition): offset}), None)
        digest = letter.original or sha256(letter.value or b"").hexdigest()
        if found is None or found.offset() != offset or found.key() != letter.key:
            return None
        same = sha256(found.value() or b"").hexdigest() == digest
        return int(found.timestamp()[1]) if same else None

    def _settled(self, sending: Sequence[tuple[Parked, Output]]) -> list[Outcome]:
        """Send what is newer than all that is there of its key; say of the rest that it is stale."""
        keys = _keys(output for _, output in sending if output.topic in self._compacted)
        ends = {place: self._admin.ends([place[0]])[place] for place in keys}
        there = {place: self._seen(place, 0, wanted) for place, wanted in keys.items()}
        outcomes = []
        for parked, output in sending:
            seen = there.get((output.topic, output.partition), {}).get(output.key)
            number = version_in(output.headers)
            stale = seen is not None and seen.newest.version >= number
            outcomes.append(Outcome(parked, STALE if stale else REPLAYED))
            if not stale:
                sent = Sent(number, output.value, list(output.headers))
                self._send((output.topic, output.partition), output.key, sent)
        self._flush()
        for place, end in ends.items():
            self._newest_last(place, end, keys[place])
        return outcomes

    def _newest_last(self, place: Place, begin: int, keys: set[bytes | None]) -> None:
        """Send newer records again that came right before an older one, until none is left."""
        for _ in range(SECOND):
            behind = {key: seen.newest for key, seen in self._seen(place, begin, keys).items() if seen.passed}
            for key, sent in behind.items():
                self._send(place, key, sent)
            self._flush()
            if not behind:
                return
        raise Unreachable("The keys change too fast to put an older record among them.", hint="Do it again.")

    def _seen(self, place: Place, begin: int, keys: set[bytes | None]) -> dict[bytes | None, Seen]:
        """Return what a partition has of some keys from an offset on."""
        found: dict[bytes | None, Seen] = {}
        start = max(begin, self._admin.starts([place[0]])[place])
        for message in messages(self._admin, {place: start}, READ_SECONDS):
            key, headers = message.key(), message.headers() or []
            if key in keys:
                sent = Sent(version_in(headers), message.value(), headers)
                before = found[key].newest if key in found else sent
                found[key] = Seen(max(before, sent, key=lambda each: each.version), sent.version)
        return found

    def _send(self, place: Place, key: bytes | None, sent: Sent) -> None:
        topic, partition = place
        self._outbox.send(topic, key=key, value=sent.value, headers=sent.headers, partition=partition)

    def _flush(self) -> None:
        try:
            self._outbox.flush()
        except Retryable as error:
            hint = "Do it again: what was sent twice changes nothing."
            raise Unreachable(error.problem, detail=error.detail, hint=hint) from error


def _keys(outputs: Iterable[Output]) -> defaultdict[Place, set[bytes | None]]:
    found: defaultdict[Place, set[bytes | None]] = defaultdict(set)
    for output in outputs:
        found[output.topic, output.partition].add(output.key)
    return found
