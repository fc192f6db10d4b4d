"""Progress keeps a hole from ever reaching a commit, whatever is dropped on the way."""

from __future__ import annotations

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from tailrace.stream.contiguity import Progress

STEPS = st.lists(st.tuples(st.sampled_from(["work", "drop", "rebalance"]), st.integers(1, 7)), max_size=60)


def batch(first: int, size: int) -> list[SimpleNamespace]:
    return [SimpleNamespace(offset=offset) for offset in range(first, first + size)]


def lost(steps: list[tuple[str, int]], *, checked: bool) -> set[int]:
    """Run a consumer over an endless log; return the offsets below the commit that were never processed."""
    progress: Progress[str] = Progress()
    committed, position, processed = 0, 0, set[int]()
    for action, size in steps:
        progress.next.setdefault("p", committed if checked else position)
        fetched = batch(position, size)
        position += size
        if action == "drop" and checked:
            progress.forget("p")
        elif action == "rebalance":
            committed = progress.take_done().get("p", committed)
            progress.clear()
            position = committed
        elif action == "drop":
            progress.forget("p")  # as the bridge does with a batch that it cannot use
        elif action == "work":
            if checked and progress.judge("p", fetched[0].offset) == "again":
                position = progress.next["p"]
                continue
            due = progress.cut("p", fetched)
            processed.update(record.offset for record in due)
            progress.finish("p", due[-1].offset)
            committed = progress.take_done()["p"]
    return set(range(committed)) - processed


@given(STEPS)
def test_no_hole_reaches_a_commit(steps: list[tuple[str, int]]) -> None:
    assert lost(steps, checked=True) == set()


def test_without_the_check_a_dropped_batch_is_lost() -> None:
    assert lost([("work", 3), ("drop", 2), ("work", 1)], checked=False) == {3, 4}


def test_a_batch_that_starts_earlier_is_cut() -> None:
    progress: Progress[str] = Progress(next={"p": 5})
    assert progress.judge("p", 3) == "take"
    assert [record.offset for record in progress.cut("p", batch(3, 4))] == [5, 6]


def test_a_gap_is_asked_for_again_once_and_then_looked_at() -> None:
    progress: Progress[str] = Progress(next={"p": 5})
    assert [progress.judge("p", 8), progress.judge("p", 8)] == ["again", "gap"]


def test_an_offset_whose_commit_failed_is_kept_unless_a_newer_one_is_known() -> None:
    progress: Progress[str] = Progress(next={"p": 9, "q": 9})
    progress.finish("p", 11)
    progress.give_back({"p": 9, "q": 9, "gone": 4})
    assert progress.take_done() == {"p": 12, "q": 9}
