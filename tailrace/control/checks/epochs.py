"""The epoch: what ended it since it was recorded, and what casts doubt on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailrace.control.checks.finding import Finding, error, note, warning
from tailrace.epoch import MEND

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tailrace.control.epochs import Verdict


def check(verdict: Verdict | None) -> Iterator[Finding]:
    """Say what speaks against the recorded epoch; None when a server did not answer."""
    if verdict is None:
        yield note("Whether the epoch still holds was not checked.", "Kafka or Kafka Connect does not answer.")
        return
    hard = [reason.said for reason in verdict.reasons if reason.hard]
    soft = [reason.said for reason in verdict.reasons if not reason.hard]
    if hard:
        yield error(f"Epoch {verdict.epoch} of the pipeline has ended.", f"{'; '.join(hard)}.", hint=MEND)
    if soft:
        yield warning(f"Epoch {verdict.epoch} of the pipeline is in doubt.", f"{'; '.join(soft)}.", hint=MEND)
