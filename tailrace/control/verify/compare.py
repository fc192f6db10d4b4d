"""The comparison itself, pure: what is expected of one target, what was seen, and which keys remain in doubt.

Per expected thing only its fingerprint and its key are kept, so that hundreds of thousands fit in memory; doubtful keys
are looked at again in full, one by one, by ``run``. ``verdict`` says what is wrong with one key.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tailrace.control.verify.store import DIGEST, digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tailrace.control.verify.report import Kind

_JOIN = "\x00"  # Postgres text cannot hold it


@dataclass(frozen=True, slots=True)
class Doubt:
    """One key to look at again.

    ``identity`` is the store's own key, None for a row that could not be rendered; ``key`` holds the row's key columns
    as text, None for a thing in the store that does not say which row it was.
    """

    identity: str | None
    key: tuple[str, ...] | None


@dataclass
class Ledger:
    """What one target has to hold, and how far that is confirmed."""

    equal: int = 0
    doubts: list[Doubt] = field(default_factory=list)
    _wanted: dict[str, bytes] = field(default_factory=dict)

    def expect(self, identity: str, fields: Mapping[str, Any], key: tuple[str, ...]) -> None:
        """Note a thing that has to be there; two rows under one identity are a doubt about the first."""
        before = self._wanted.get(identity)
        if before is not None:
            self.doubts.append(Doubt(identity, _key(before)))
        self._wanted[identity] = digest(fields) + _JOIN.join(key).encode()

    @property
    def left(self) -> int:
        """How many things are expected and were not seen yet."""
        return len(self._wanted)

    def wants(self, identity: str) -> bool:
        """Say whether a thing under this identity is expected and was not seen yet."""
        return identity in self._wanted

    def see(self, identity: str, fields: Mapping[str, Any], key: tuple[str, ...] | None) -> bool:
        """Compare a thing that is there with what is expected; say whether it is that."""
        wanted = self._wanted.pop(identity, None)
        if wanted is None:
            self.doubts.append(Doubt(identity, key))
            return False
        if wanted[:DIGEST] != digest(fields):
            self.doubts.append(Doubt(identity, _key(wanted)))
            return False
        self.equal += 1
        return True

    def close(self) -> list[Doubt]:
        """Return every key in doubt, those included that were expected and not seen; each once."""
        missing = [Doubt(identity, _key(wanted)) for identity, wanted in self._wanted.items()]
        self._wanted.clear()
        return list(dict.fromkeys([*self.doubts, *missing]))


def _key(wanted: bytes) -> tuple[str, ...]:
    return tuple(wanted[DIGEST:].decode().split(_JOIN))


def verdict(
    expected: Mapping[str, Any] | None, actual: Mapping[str, Any] | None
) -> tuple[Kind, tuple[str, ...]] | None:
    """Say what is wrong with one key and in which fields, or None when nothing is."""
    if expected is None:
        return None if actual is None else ("extra", ())
    if actual is None:
        return "missing", ()
    fields = tuple(differing(expected, actual))
    return ("different", fields) if fields else None


def differing(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> Iterable[str]:
    """Return the names of fields that are not the same, or that only one side has."""
    for name in sorted(expected.keys() | actual.keys()):
        if name not in expected or name not in actual or repr(expected[name]) != repr(actual[name]):
            yield name
