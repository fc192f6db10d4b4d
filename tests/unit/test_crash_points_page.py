"""Every crash point is called in one place of the engine, exercised by a test, and on its page."""

from __future__ import annotations

import ast
import os
import runpy
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tailrace import crashpoint
from tailrace.crashpoint import POINTS, VARIABLE, Plan, Processor, SinkWorker

ROOT = Path(__file__).resolve().parents[2]
CLASSES = {type(point).__name__ for point in POINTS}
DYING = "from tailrace.crashpoint import SinkWorker, reach; reach(SinkWorker.BATCH_TAKEN); reach(SinkWorker.DRAINED)"


def named(path: Path) -> list[str]:
    """Return the points that a file names, as often as it does."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)]
    return [node.attr for node in nodes if isinstance(node.value, ast.Name) and node.value.id in CLASSES]


def dying(at: str) -> int:
    """Return how a process ends that passes two points."""
    return subprocess.run([sys.executable, "-c", DYING], check=False, env={**os.environ, VARIABLE: at}).returncode


def test_every_point_is_called_at_exactly_one_place_of_the_engine() -> None:
    files = [path for path in (ROOT / "tailrace").rglob("*.py") if path.name != "crashpoint.py"]
    assert Counter(name for path in files for name in named(path)) == Counter(point.name for point in POINTS)


def test_every_point_is_exercised_by_a_test() -> None:
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)]
    assert {point.name for point in POINTS} - {name for path in files for name in named(path)} == set()


def test_the_page_of_crash_points_is_what_the_tool_prints() -> None:
    tool = runpy.run_path(str(ROOT / "tools" / "crash_points.py"))
    expected = tool["page"]()
    assert (ROOT / "docs" / "crash-points.md").read_text() == expected, "tools/crash_points.py > docs/crash-points.md"
    assert [point.spelled for point in POINTS if f"| `{point.spelled}` |" not in expected] == []
    assert len({point.spelled for point in POINTS}) == len(POINTS)


def test_a_process_dies_by_sigkill_at_the_point_that_the_environment_names_and_at_no_other() -> None:
    assert [dying("batch-taken"), dying("drained"), dying("drained:2"), dying("")] == [-signal.SIGKILL] * 2 + [0, 0]


def test_a_point_may_be_passed_before_it_is_the_last_one() -> None:
    deaths: list[int] = []
    passes = 0
    plan = Plan("offset-stored:3", lambda _: deaths.append(passes))
    for passes in range(1, 6):  # noqa: B007 - the lambda reads it
        plan.reach(SinkWorker.BATCH_DURABLE)
        plan.reach(SinkWorker.OFFSET_STORED)
    assert deaths == [3]


def test_a_process_may_be_stopped_in_place_of_killed() -> None:
    sent: list[signal.Signals] = []
    for text in ("drained", "drained:stop", "drained:2:stop"):
        plan = Plan(text, sent.append)
        plan.reach(SinkWorker.DRAINED)
        plan.reach(SinkWorker.DRAINED)
    assert sent == [signal.SIGKILL, signal.SIGSTOP, signal.SIGSTOP]


def test_a_file_may_name_the_point_while_the_process_runs(tmp_path: Path) -> None:
    deaths: list[str] = []
    orders = tmp_path / "orders"
    plan = Plan(f"@{orders}", lambda _: deaths.append(orders.read_text()))
    for order in ("", "outputs-sent", "batch-done:2", "outputs-sent"):
        if order:
            orders.write_text(order)
        plan.reach(Processor.OUTPUTS_SENT)
        plan.reach(Processor.BATCH_DONE)
        plan.reach(Processor.BATCH_DONE)
    assert deaths == ["outputs-sent", "batch-done:2", "outputs-sent"]


def test_a_name_that_no_point_has_is_refused() -> None:
    with pytest.raises(ValueError, match="batch-lost"), crashpoint.armed("batch-lost", print):
        pass
