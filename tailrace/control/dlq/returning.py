"""Letters put back where they failed, and what became of each.

A sink's letter goes to that sink alone, a processor's through the processor's own rules to its topic; both with the
version they always had, so that newer data stays. What fails again is parked again, with its first failure and one
failure more; what may not be put back stays as it is, with the reason. A letter is settled after its effect is
durable, so doing it twice, or dying between, changes nothing.
"""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from tailrace import topics
from tailrace.control.dlq.ledger import FAILED, Ledger
from tailrace.control.dlq.letters import letters
from tailrace.control.dlq.picking import pick, released
from tailrace.crashpoint import Command, reach

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tailrace.control.dlq.letters import Parked
    from tailrace.control.dlq.selection import Selection
    from tailrace.deadletter import DeadLetter
    from tailrace.kafka import KafkaAdmin
    from tailrace.project import Project

ROUNDS = 10  # of letters that were parked meanwhile, because their key was still held
GUARDED_SECONDS = 7 * 24 * 3600  # for so long DynamoDB and the conformed topic remember that a row was deleted
LEFT = ""


class Outcome(NamedTuple):
    """What became of one letter: ``how`` as the ledger says it, empty where it was left as it is.

    ``failed`` is the letter that takes its place after one more failure.
    """

    parked: Parked
    how: str
    reason: str = ""
    failed: DeadLetter | None = None

    @property
    def over(self) -> bool:
        """Whether nothing is left of it."""
        return self.how not in (LEFT, FAILED)

    def as_dict(self) -> dict[str, Any]:
        """Return it for ``--json``."""
        place = f"{self.parked.partition}/{self.parked.offset}"
        return {"place": place, "source": self.parked.letter.source, "how": self.how or "left", "reason": self.reason}


class Way(Protocol):
    """What puts letters of one worker back."""

    def put(self, given: Sequence[Parked]) -> list[Outcome]:
        """Put letters back, in this order, and return when what became of them is durable."""

    def close(self) -> None:
        """Release what was opened."""


def replay(project: Project, admin: KafkaAdmin, worker: str, selection: Selection, way: Way) -> list[Outcome]:
    """Put the selected letters of a worker back, and with them what waits for them."""
    topic, hold = topics.dead_letters(project.name, worker), project.settings.worker(worker).on_reject == "hold"
    picked = pick(list(letters(admin, topic)), selection, hold=hold)
    outcomes = [Outcome(parked, LEFT, waits_for(before)) for parked, before in picked.waiting]
    tried = {parked.spot for parked, _ in picked.waiting}
    ready = picked.ready
    with closing(Ledger(project, worker)) as ledger:
        for _ in range(ROUNDS):
            found = way.put(ready)
            reach(Command.LETTERS_PUT_BACK)
            write_down(ledger, found)
            outcomes += found
            tried |= {parked.spot for parked in ready}
            over = [outcome.parked for outcome in found if outcome.over]
            later = released(letters(admin, topic), over) if over and hold else []
            ready = [parked for parked in later if parked.spot not in tried]
            if not ready:
                break
    return outcomes


def write_down(ledger: Ledger, outcomes: Sequence[Outcome]) -> None:
    """Settle what is over, and what failed again in favour of the letter that takes its place."""
    failed = [(each.parked, each.failed, each.how) for each in outcomes if each.failed is not None]
    over = [(each.parked, each.how) for each in outcomes if each.over]
    if failed:
        ledger.replace(failed)
    if over:
        ledger.settle(over)


def waits_for(before: Parked) -> str:
    """Say why a letter has to wait."""
    return f"An older change of its key is parked at {before.partition}/{before.offset}: replay or drop that first."


def outlived(letter: DeadLetter) -> bool:
    """Say whether a delete that came after a letter may be forgotten where the letter is to go."""
    return time.time() - letter.first_failed_us / 1e6 > GUARDED_SECONDS


FORGOTTEN = (
    "It is older than 7 days: a delete of its row may be forgotten where it would go."
    " `tailrace snapshot TABLE` brings the row as it is now; --despite-age puts the letter back all the same."
)
