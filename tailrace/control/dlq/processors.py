"""Letters of a processor, put back through the processor's own rules into the topic that its record belongs to.

The raw record keeps its place and so its version; a letter whose key has something newer in the conformed topic is over
(``compacted``). It has to be sure of the version: the raw record must still be where the letter says, in the present
epoch. Values that Debezium did not send are not restored here: only the running processor has the images they were in.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from tailrace import topics, version
from tailrace.control.dlq.compacted import Topics, put
from tailrace.control.dlq.editing import EnvelopeForm
from tailrace.control.dlq.ledger import FAILED, REPLAYED, STALE
from tailrace.control.dlq.letters import messages
from tailrace.control.dlq.returning import FORGOTTEN, LEFT, Outcome, outlived
from tailrace.errors import UsageError
from tailrace.kafka import Outbox
from tailrace.stream import processor
from tailrace.stream.drift import Held

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tailrace.control.dlq.letters import Parked
    from tailrace.deadletter import DeadLetter
    from tailrace.kafka import KafkaAdmin
    from tailrace.project import Project
    from tailrace.stream.conform import Conformed, Output

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


class ToConformed:
    """Puts letters of one processor back."""

    def __init__(self, project: Project, admin: KafkaAdmin, worker: str, *, despite_age: bool = False) -> None:
        self._admin, self._despite_age = admin, despite_age
        self._conformer = processor.prepare(project, worker)
        self._raws = {topics.raw(project.name, table) for table in project.tables_of(worker)}
        self._compacted = {topics.conformed(project.name, project.record_of(table)) for table in project.tables}
        self._outbox = Outbox(project.endpoints.kafka, f"{project.name}.dlq")
        self._log = Topics(admin, self._outbox)

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
        return outcomes + self._sent(sending)

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

    def _sent(self, sending: Sequence[tuple[Parked, Output]]) -> list[Outcome]:
        """Send what letters became; what has something newer in its topic is stale."""
        outputs = [output for _, output in sending if output.topic in self._compacted]
        fresh = iter(put(self._log, outputs))
        outcomes = []
        for parked, output in sending:
            if output.topic in self._compacted:
                outcomes.append(Outcome(parked, REPLAYED if next(fresh) else STALE))
            else:  # an event: whoever reads it knows it by its id
                self._log.send((output.topic, output.partition), (output.key, output.value, output.headers))
                outcomes.append(Outcome(parked, REPLAYED))
        self._log.flush()
        return outcomes
