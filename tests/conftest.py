"""The one stack that all tests share, started once and only when a test asks for it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # `tests.providers`, however pytest was started

from tests.providers import PROVIDERS, VARIABLE, RunningStack

if TYPE_CHECKING:
    from collections.abc import Iterator


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that starts a run in the background has it ignore Ctrl-C; so would every process that a test interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that uses the stack, so that `-m "not stack"` selects those that need no server."""
    for item in items:
        if "stack" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.stack)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Give the running servers; a stack that does not start fails the tests that asked for it."""
    provider = PROVIDERS[os.environ.get(VARIABLE, "embedded")]
    with provider(tmp_path_factory.mktemp("stack")) as running:
        yield running
