"""What an envelope tells of its change without its row being decoded: op, LSN and commit time.

It never fails: bytes that are no envelope tell nothing. The schema part is the same bytes in every message of a table
version, so it is parsed once. ``source.envelope`` reads rows; the commit time here is the one that it gives.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from tailrace.source.envelope import split

KNOWN = 16  # schema versions kept
LONG = 1 << 63


class Origin(NamedTuple):
    """What is told; None where it is not."""

    op: str | None = None
    lsn: int | None = None
    committed_us: int | None = None


NOTHING = Origin()


class Origins:
    """Reads the messages of one raw topic; safe to share between threads."""

    def __init__(self) -> None:
        self._known: tuple[bytes, ...] = ()

    def read(self, value: bytes | None) -> Origin:
        """Return what a message's value tells."""
        payload = self._payload(value) if value else None
        if not isinstance(payload, dict):
            return NOTHING
        op, source = payload.get("op"), payload.get("source")
        source = source if isinstance(source, dict) else {}
        micros, millis = _whole(source.get("ts_us")), _whole(source.get("ts_ms"))
        if micros is None and millis is not None:
            micros = _whole(millis * 1000)
        return Origin(op if isinstance(op, str) else None, _whole(source.get("lsn")), micros)

    def _payload(self, value: bytes) -> Any:
        for prefix in self._known:
            if value.startswith(prefix) and value.endswith(b"}"):
                try:
                    return orjson.loads(memoryview(value)[len(prefix) : -1])
                except orjson.JSONDecodeError:
                    break  # what follows the known schema is not one payload: the whole message says
        try:
            parsed = orjson.loads(value)
        except orjson.JSONDecodeError:
            return None
        if not isinstance(parsed, dict) or "payload" not in parsed or "schema" not in parsed:
            return parsed
        prefix = split(value, parsed["schema"])
        if prefix and prefix not in self._known:
            self._known = (prefix, *self._known[: KNOWN - 1])
        return parsed["payload"]


def _whole(value: Any) -> int | None:
    """Return a whole number of 64 bits; None for anything else."""
    return value if type(value) is int and -LONG <= value < LONG else None
