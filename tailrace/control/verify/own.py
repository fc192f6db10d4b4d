"""The store behind a user's own sink, as ``verify`` reads it: through the sink's ``read``, where it has one.

``read(record)`` yields the key columns and the fields of everything that the store shows, typed as the contract says.
A sink that keeps only some fields names them in ``fields``; the others are not compared. Values are compared as the
contract's, numbers by value, JSON by content. What ``read`` raises becomes Unreachable, without its text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tailrace.control.verify.expected import Unfit, fit, parsed_json, plain, shape, text
from tailrace.control.verify.source import key_text
from tailrace.control.verify.store import Fields, Pair, Seen
from tailrace.errors import TailraceError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tailrace.contract import Field
    from tailrace.control.verify.ranges import Part, Ranges


def readable(sink: object) -> bool:
    """Say whether a sink offers ``read``."""
    return callable(getattr(sink, "read", None))


class Own:
    """What one record is in one sink of the user's."""

    def __init__(self, pair: Pair) -> None:
        self.name, self.pairs = type(pair.target).__name__, (pair,)
        self._sink: Any = pair.target
        kept = {*getattr(self._sink, "fields", pair.contract.by_name), *pair.contract.key}
        self._fields = {name: field for name, field in pair.contract.by_name.items() if name in kept}

    def close(self) -> None:
        """Leave the sink as it is: it is the project's."""

    def expected(self, pair: Pair, record: Mapping[str, Any]) -> tuple[str, Fields]:
        """Return what a record has to be."""
        key = [record[name] for name in pair.contract.key]
        return identity(key), {name: _comparable(field, record[name]) for name, field in self._fields.items()}

    def scan(self, part: Part | None = None) -> Iterator[Seen]:  # noqa: ARG002 - a sink is read as a whole
        """Yield everything that the sink reads back."""
        try:
            for key, value in self._sink.read(self.pairs[0].contract.name):
                yield self._seen({**value, **key})
        except TailraceError:
            raise
        except Exception as error:  # the user's code may raise anything
            raise Unreachable(f"The sink {self.name} cannot be read.", detail=type(error).__name__) from error

    def digests(self, pair: Pair, ranges: Ranges) -> dict[int, str] | None:  # noqa: ARG002 - the protocol's signature
        """Return None: a sink of the user has none."""
        return None

    def fetch(self, pair: Pair, identities: Sequence[str]) -> dict[str, Seen]:  # noqa: ARG002 - one pair only
        """Return what is there under some identities: everything is read for it, there is no other way."""
        wanted = set(identities)
        return {seen.identity: seen for seen in self.scan() if seen.identity in wanted} if wanted else {}

    def may_be_gone(self, fields: Fields) -> bool:  # noqa: ARG002 - the protocol's signature
        """Say no: nothing is known to remove things by itself."""
        return False

    def faults(self) -> list[str]:
        """Say nothing of the place as a whole."""
        return []

    def _seen(self, given: Mapping[str, Any]) -> Seen:
        pair = self.pairs[0]
        found = {name: _fitted(self._fields[name], value) for name, value in given.items() if name in self._fields}
        fields = {name: _shown(self._fields[name], value) for name, value in found.items()}
        fields |= dict.fromkeys(given.keys() - self._fields.keys(), "not a field that this sink keeps")
        key = [found.get(name) for name in pair.contract.key]
        known = not any(value is None or isinstance(value, _Odd) for value in key)
        return Seen(identity(key), fields, tuple(map(key_text, key)) if known else None, pair)


class _Odd(str):
    """What stands for a value that is not of its field's type: it equals nothing that is expected."""

    __slots__ = ()


def identity(key: Sequence[Any]) -> str:
    """Return a key as text, the parts of a composite one joined by ``|``."""
    return "|".join(text(value).replace("%", "%25").replace("|", "%7C") for value in key)


def _fitted(field: Field, value: Any) -> Any:
    try:
        return fit(field, value)
    except (Unfit, ValueError, ArithmeticError) as error:
        return _Odd(f"unexpected: {type(value).__name__} ({type(error).__name__})")


def _shown(field: Field, value: Any) -> Any:
    try:
        return _comparable(field, value)
    except Unfit:
        return _Odd("unexpected: no JSON")


def _comparable(field: Field, value: Any) -> Any:
    """Return a fitted value in a form that is equal exactly where the values are."""
    if value is None or isinstance(value, _Odd):
        return value
    if field.item is not None:
        return [_comparable(field.item, entry) for entry in value]
    if field.kind in ("decimal", "numeric"):
        return f"number {plain(value)}"
    return shape(parsed_json(field.name, value)) if field.kind == "json" else value
