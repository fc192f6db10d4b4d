"""The shipped fake keeps the promises that every sink keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tailrace.testing import MemorySink, SinkContract, Store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tailrace.change import Change


class MemoryStore:
    """One MemorySink is sink and store at once."""

    unwritable: Mapping[str, Any] = {"note": "unwritable"}

    def __init__(self) -> None:
        self._sink = MemorySink("parcel", key="{owner}/{id}", reject=self._reason)

    def open(self) -> MemorySink:
        return self._sink

    def current(self) -> Sequence[Mapping[str, Any]]:
        return list(self._sink.items.values())

    @staticmethod
    def _reason(change: Change) -> str:
        return "unwritable" if change.value and change.value["note"] == "unwritable" else ""


class TestMemorySink(SinkContract):
    @pytest.fixture
    def store(self) -> Store:
        return MemoryStore()
