"""When a search worker is far behind."""

from __future__ import annotations

import pytest

from tailrace.sink.refreshing import CALM_SECONDS, FAR_SECONDS, MANY, Backlog


def test_nothing_is_a_load_before_a_batch_was_seen() -> None:
    assert not Backlog().loading(0.0)


@pytest.mark.parametrize(("rows", "lag"), [(MANY - 1, 3600.0), (MANY, FAR_SECONDS - 1), (1, 10**9), (MANY, -5.0)])
def test_a_few_old_changes_and_many_new_ones_are_no_load(rows: int, lag: float) -> None:
    backlog = Backlog()

    backlog.see(rows, lag, 100.0)

    assert not backlog.loading(100.0)


def test_a_load_ends_a_while_after_its_last_full_old_batch_whatever_follows() -> None:
    backlog = Backlog()

    backlog.see(MANY, FAR_SECONDS, 100.0)
    backlog.see(MANY, FAR_SECONDS, 103.0)
    backlog.see(3, 0.1, 104.0)

    assert backlog.loading(103.0 + CALM_SECONDS - 0.1)
    assert not backlog.loading(103.0 + CALM_SECONDS)
