"""One table's eye on its schemas: judges each once, and says of a refused record whether the table has to wait for it.

A record that is refused while its table's schema fits is poison, and parked. One that is refused for a column that no
longer fits would be followed by all the others like it: it holds the table (tailrace.stream.drift). With a conform
function that is so only where the function passes the column on as it is, or reads a column that is gone; to know that
the function, which is pure, is called once more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from tailrace.source.envelope import Filled
from tailrace.stream.drift import Drift, Held, Wish, judge, unknown
from tailrace.stream.fitting import Unfit

if TYPE_CHECKING:
    from collections.abc import Callable

    from tailrace.conforming import ConformFunction, Row
    from tailrace.contract import Contract
    from tailrace.errors import Rejected
    from tailrace.source.envelope import Event, Shape
    from tailrace.stream.drift import Policy

_ABSENT = object()


class _Gone(KeyError):
    """A function read a column that the row does not have."""


class _Probe(dict[str, Any]):
    """A row that tells which column was read and is not there."""

    def __missing__(self, name: str) -> Any:
        raise _Gone(name)


class Watch:
    """Judges the schemas of one table against the contract in force. ``notes`` is what is worth knowing of them."""

    def __init__(self, contract: Contract, policy: Policy, function: ConformFunction | None) -> None:
        self._contract, self._policy, self._function = contract, policy, function
        self.notes: tuple[str, ...] = ()
        self._drifts: WeakKeyDictionary[Shape, Drift] = WeakKeyDictionary()
        self._columns: dict[str, Mapping[str, Any]] = {}

    def judge(self, shape: Shape) -> Shape:
        """Return the shape of a new schema, filled where fields without column have a default; or raise Held."""
        drift = judge(self._contract, shape.columns, self._policy, function=self._function is not None)
        held = drift.held()
        if held is not None:
            raise held
        self.notes = tuple(dict.fromkeys((*self.notes, *drift.notes)))
        self._columns |= {column["field"]: column for column in shape.columns}
        judged = Filled(shape, drift.fills) if drift.fills else shape
        self._drifts[judged] = drift
        return judged

    @property
    def strangers(self) -> Callable[[list[str]], None] | None:
        """What is to hear of columns that a function passes on and the contract does not have; None for nothing."""
        return None if self._policy == "ignore" or self._function is None else self._passed_on

    def _passed_on(self, names: list[str]) -> None:
        held = unknown(self._contract, self._columns, names, self._policy).held()
        if held is not None:
            raise held

    def doubted(self, event: Event | None, shape: Shape, rejected: Rejected) -> Held | None:
        """Return what holds the table at a record that was refused; None where it is this record's own fault."""
        drift = self._drifts.get(shape)
        if drift is None or event is None:
            return None
        rows = [row for row in (event.after, event.before) if row is not None]
        if isinstance(rejected, Unfit):
            name = rejected.field
            if name in drift.doubts and self._passes_on(rows, name):
                wider = {field: kind for field, kind in drift.wish.widened.items() if field == name}
                return self._held(f"The column {name}: {drift.doubts[name]}.", Wish(widened=wider))
            if name not in drift.names and self._function and self._passes_on(rows, name):
                return self._held(f"There is no column {name}, which the contract {self._contract.name} needs.")
            return None
        gone = self._gone(rows, drift) if self._function else ""
        return self._held(f"There is no column {gone}, which the conform function reads.") if gone else None

    def _held(self, problem: str, wish: Wish | None = None) -> Held:
        name = self._contract.name
        return Held(
            problem,
            f"Convert it in the conform function or mend schemas/{name}.avsc, run `tailrace apply` and start the "
            "processor again.",
            wish,
        )

    def _passes_on(self, rows: list[Row], name: str) -> bool:
        """Say whether the record has the row's own value under a column's name."""
        return self._function is None or any(self._same(row, name) for row in rows)

    def _same(self, row: Row, name: str) -> bool:
        mark = row.get(name, _ABSENT)
        made = self._tried({**row, name: mark})
        return isinstance(made, Mapping) and name in made and made[name] is mark

    def _gone(self, rows: list[Row], drift: Drift) -> str:
        for row in rows:
            try:
                self._tried(_Probe(row))
            except _Gone as gone:
                if gone.args[0] not in drift.names:
                    return str(gone.args[0])
        return ""

    def _tried(self, row: Row) -> Any:
        try:
            return self._function(row) if self._function else row
        except _Gone:
            raise
        except Exception:  # noqa: BLE001 - a user's function may raise anything: this call only looks what it reads
            return None
