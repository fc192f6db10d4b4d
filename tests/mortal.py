"""Workers that die where they are told, and small pipelines that know what must be in the stores in the end.

A worker is the process that people run, on the real stack; a file says at which crash point it dies, and is written
while it runs, so that the start after one death is the run before the next. ``differences`` compares everything there
is with what was written, and names each row that is not as it must be: nothing else decides whether a crash was made
good.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from tailrace import contract, topics
from tailrace.change import VERSION
from tailrace.crashpoint import VARIABLE
from tailrace.deadline import wait_for
from tailrace.errors import Refused
from tailrace.evolution import added
from tailrace.registry import Registry
from tailrace.source.unchanged import SETTING
from tailrace.testing import PARCEL, Tape, parcel
from tests.cluster import LETTERS, STAND_IN
from tests.conformed import PARTITIONS, Conformed
from tests.contract.test_dynamodb_contract import DynamoDBStore
from tests.contract.test_lake_contract import LakeStore
from tests.contract.test_search_contract import SearchStore
from tests.raw import READING_COLUMNS, RawPipeline, column, message, payload, reading

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tailrace.crashpoint import CrashPoint
    from tailrace.deadletter import DeadLetter
    from tailrace.endpoints import Endpoints

ROOT = Path(__file__).resolve().parent.parent
BUGS = ROOT / "tests" / "bugs"
LONG = 2_500  # letters from which Postgres keeps a text out of its row
LARGE = 450_000  # letters that no item of DynamoDB holds; three of them are more than one bulk request
DIES_WITHIN, ENDS_WITHIN = 60.0, 45.0


class Mortal:
    """One worker as a process of its own, a static member of its group."""

    def __init__(self, folder: Path, kind: str, name: str, **environment: str) -> None:
        self.name, self._folder = name, folder
        self._command = [sys.executable, "-m", "tailrace", "run", kind, name, "--project", str(folder)]
        self._orders = folder / ".tailrace" / f"{name}.orders"
        self._environment = {"TAILRACE_INSTANCE": "0", VARIABLE: f"@{self._orders}", **environment}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, at: CrashPoint | None = None) -> None:
        """Start it; it dies at a point, or lives."""
        self.order(at)
        with (self._folder / f"{self.name}.log").open("ab") as output:
            self.process = subprocess.Popen(
                self._command, stdout=output, stderr=output, cwd=ROOT, env={**os.environ, **self._environment}
            )

    def order(self, at: CrashPoint | None, how: str = "") -> None:
        """Say where it dies from now on, or is stopped; the file is never seen half written."""
        self._orders.parent.mkdir(exist_ok=True)
        draft = self._orders.with_suffix(".draft")
        draft.write_text("" if at is None else f"{at.spelled}:{how}".rstrip(":"))
        draft.rename(self._orders)

    def wait_until_dead(self) -> None:
        """Wait for its death; any other end is a failure."""
        assert self.process is not None
        process = self.process

        def over() -> bool:
            return process.poll() is not None

        wait_for(over, timeout=DIES_WITHIN, every=0.02, what=f"{self.name} to die; it says: {self.log()[-1500:]}")
        assert process.returncode == -signal.SIGKILL, self.log()[-3000:]

    def wait_until_stopped(self) -> psutil.Process:
        """Wait until it lies still at the point where it was to stop, and return what wakes it."""
        assert self.process is not None
        found = psutil.Process(self.process.pid)
        still = psutil.STATUS_STOPPED
        wait_for(lambda: found.status() == still, timeout=DIES_WITHIN, every=0.02, what=f"{self.name} to stop")
        return found

    def ask_to_stop(self) -> None:
        """Send SIGTERM."""
        assert self.process is not None
        self.process.terminate()

    def end(self) -> None:
        """End it whatever it does."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(ENDS_WITHIN)

    def log(self) -> str:
        """Return what it has said in all of its lives."""
        return (self._folder / f"{self.name}.log").read_text()


def with_bug(name: str) -> dict[str, str]:
    """Return the environment of a worker that has a deliberate bug."""
    return {"TAILRACE_BUG": name, "PYTHONPATH": os.pathsep.join([str(BUGS), str(ROOT)])} if name else {}


def parked(letters: Iterable[DeadLetter], expected: Iterable[bytes]) -> list[str]:
    """Compare letters with what had to be parked; a record that was parked twice names one source and counts once."""
    found = {letter.source: letter for letter in letters}
    values = sorted(letter.value or b"" for letter in found.values())
    wanted = sorted(expected)
    unasked = [letter.reason for letter in found.values() if letter.value not in wanted]
    lost = [value.decode() for value in wanted if value not in values]
    return [*(f"parked without need: {reason}" for reason in unasked), *(f"not parked: {value}" for value in lost)]


def unequal(shown: Mapping[int, Any], rows: Mapping[int, Any]) -> list[str]:
    """Name the rows that are missing, that should not be there, or that are not as they must be."""
    kinds = {(True, False): "too much", (False, True): "missing", (True, True): "different"}
    return [
        f"row {number} is {kinds[number in shown, number in rows]}"
        for number in sorted(shown.keys() | rows.keys())
        if shown.get(number) != rows.get(number)
    ]


class Readings(RawPipeline):
    """A processor and a table with long values; ``rows`` is what its conformed topic must come to."""

    def __init__(self, folder: Path, endpoints: Endpoints, bug: str = "") -> None:
        super().__init__(folder, endpoints, partitions=2)
        connector = folder / "connectors" / "readings.json"
        connector.write_text(json.dumps({**json.loads(connector.read_text()), SETTING: LETTERS}))
        with (folder / "tailrace.toml").open("a") as settings:
            settings.write('[tables."public.reading"]\nunknown_columns = "evolve"\n')
        self.worker = Mortal(folder, "processor", "conform", **with_bug(bug))
        self.rows: dict[int, dict[str, Any]] = {}
        self.poison: list[bytes] = []
        self.columns = list(READING_COLUMNS)
        self._registry = Registry(endpoints.registry)

    def traffic(self) -> None:
        """Write in each partition two rows with a long note, one of them deleted, and a record that is no envelope."""
        start = 100 * (len(self.poison) + 1)
        for number in range(start, start + 2 * self.partitions):
            self.put(number, "c", note=f"{number} " * LONG)
        for number in range(start, start + self.partitions):
            self.put(number, "u", note=STAND_IN, value=f"{number}.7500")
            self.delete(number + self.partitions)
        self.poison.append(b"poison %d" % start)
        self.send(start % self.partitions, b'{"id":0}', self.poison[-1])
        self.outbox.flush(30)

    def touch(self) -> None:
        """Update every row without sending its long note."""
        for number, row in list(self.rows.items()):
            self.put(number, "u", note=STAND_IN, value=str(Decimal(row["value"]) + 1))
        self.outbox.flush(30)

    def put(self, number: int, op: str, **fields: Any) -> None:
        """Write a row, and know what it is then; a stand-in leaves the note as it was."""
        known = self.rows.get(number, {})
        sent = {**reading(number), **{each["field"]: None for each in self.columns[5:]}, **fields}
        kept = {"note": known["note"]} if sent["note"] == STAND_IN else {}
        self.rows[number] = {**sent, **kept}
        self.send(number % self.partitions, b'{"id":%d}' % number, message(payload(op, after=sent), self.columns))

    def delete(self, number: int) -> None:
        """Delete a row, as Debezium says it: a delete and a tombstone."""
        del self.rows[number]
        before = {**dict.fromkeys(reading(number)), "id": number}
        key = b'{"id":%d}' % number
        self.send(number % self.partitions, key, message(payload("d", before=before), self.columns))
        self.send(number % self.partitions, key, None)

    def widen(self, name: str) -> None:
        """Add a column; its first value is in the next row that is written."""
        self.columns.append(column(name, "string", postgres="TEXT"))
        number = 7_000_000 + len(self.columns)
        self.put(number, "c", note=f"{number} " * LONG, **{name: "new"})
        self.outbox.flush(30)

    def settle(self, timeout: float = 60) -> None:
        """Wait until all is committed."""
        ends = {partition: end for partition, end in self.ends().items() if end}

        def caught_up() -> bool:
            committed = self.committed()
            return all(committed[partition] == end for partition, end in ends.items())

        wait_for(caught_up, timeout=timeout, what=f"{ends} to be committed; it says: {self.worker.log()[-1500:]}")

    def differences(self) -> list[str]:
        """Compare the newest output of every row, and the letters, with what was written."""
        newest: dict[int, tuple[int, dict[str, Any] | None]] = {}
        for output in self.outputs():
            number = int(json.loads(output.key or b"")["id"])
            made = int(output.header(VERSION) or 0), None if output.value is None else self._shown(output.value)
            newest[number] = max(newest.get(number, made), made, key=lambda each: each[0])
        shown = {number: value for number, (_, value) in newest.items() if value is not None}
        fields = ("value", "note", "sensor")
        rows = {number: {name: row[name] for name in fields} for number, row in self.rows.items()}
        rows = {number: {**row, "value": Decimal(row["value"])} for number, row in rows.items()}
        return [*unequal(shown, rows), *parked(self.dead_letters(), self.poison)]

    def remove(self) -> None:
        """End the worker and remove the topics."""
        self.worker.end()
        self._registry.close()
        super().remove()

    def _shown(self, value: bytes) -> dict[str, Any]:
        found = self.contract.decode(value, self._registry.writer(contract.schema_id(value)))
        return {name: found[name] for name in ("value", "note", "sensor")}

    def _topics(self) -> dict[str, int]:
        changelog = topics.changelog(self.name, "conform", "public.reading")
        return {**super()._topics(), changelog: self.partitions}


class Parcels(Conformed):
    """A sink worker to each of some stores; ``rows`` is what each of them must come to."""

    def __init__(
        self, folder: Path, endpoints: Endpoints, only: Sequence[str] = ("dynamodb", "search", "lake"), bug: str = ""
    ) -> None:
        self.dynamodb, self.search, self.lake = DynamoDBStore(endpoints), SearchStore(endpoints), LakeStore(endpoints)
        sinks = {
            "dynamodb": f'from tailrace import DynamoDBTable\nparcels = DynamoDBTable("{self.dynamodb.target.table}", '
            'record="parcel", pk="OWNER#{owner}", sk="PARCEL#{id}", write="put", oversize="s3")\n',
            "search": f'from tailrace import SearchIndex\nparcels = SearchIndex("{self.search.target.alias}", '
            'record="parcel", text=("note",))\n',
            "lake": 'from tailrace import LakeTable\nparcels = LakeTable("parcels", record="parcel")\n',
        }
        settings = f'[lake]\nbucket = "{self.lake.bucket}"\nflush_seconds = 0.2\n'
        super().__init__(folder, endpoints, {name: sinks[name] for name in only}, settings)
        self.workers = {name: Mortal(folder, "sink", name, **with_bug(bug)) for name in only}
        self.rows: dict[int, dict[str, Any]] = {}
        self.poison: list[bytes] = []
        self._tape = Tape()

    def traffic(self) -> None:
        """Write parcels, most of them into one partition: some move, some are deleted, one record is none."""
        start = 300 * (len(self.poison) + 1)
        numbers = [*range(start, start + 90, PARTITIONS), start + 1, start + 2]
        changes = [self.put(parcel(number)) for number in numbers]
        moved = [parcel(number, owner="grace", note="moved") for number in numbers[::3]]
        changes += [self.put(row, before=self.rows[row["id"]]) for row in moved]
        self.send([*changes, *(self._tape.delete(self.rows.pop(number)) for number in numbers[1::3])])
        self.poison.append(b"poison %d" % start)
        self.send_raw(b"poison", self.poison[-1], partition=start % PARTITIONS)

    def large(self) -> None:
        """Write parcels that are too large for an item, and together for one bulk request, into one partition."""
        start = 300 * (len(self.poison) + 1) + 150
        notes = {number: f"{number} " * (LARGE // 5) for number in range(start, start + 5 * PARTITIONS, PARTITIONS)}
        self.send([self.put(parcel(number, note=note)) for number, note in notes.items()])

    def put(self, row: dict[str, Any], before: dict[str, Any] | None = None) -> Any:
        """Return the change that writes a row, and know what it is then."""
        self.rows[row["id"]] = row
        return self._tape.put(row, before=before)

    def widen(self) -> None:
        """Register a contract with one more field, and write with it."""
        self.contract = added(PARCEL, [{"name": "gift", "type": ["null", "string"], "default": None}])
        registry = Registry(self.endpoints.registry)
        self.schema_id = registry.register(self.topic, self.contract.schema)
        registry.close()
        self.send([self._tape.put({**parcel(9), "gift": "ribbon"})])
        self.rows[9] = parcel(9)

    def settle(self) -> None:
        """Wait until every sink has committed all there is."""
        for name in self.workers:
            self.wait_until_committed(name)

    def differences(self) -> list[str]:
        """Compare every store and the letters of every worker with what was written; each line names its store."""
        stores = {"dynamodb": self._items, "search": self.search.current, "lake": self._lines}
        found = []
        for name in self.workers:
            shown = {row["id"]: {field.name: row[field.name] for field in PARCEL.fields} for row in stores[name]()}
            lines = [*unequal(shown, self.rows), *parked(self.dead_letters(name), self.poison)]
            found += [f"{name}: {line}" for line in lines]
        return found

    def _lines(self) -> Sequence[Mapping[str, Any]]:
        try:
            return self.lake.current()
        except Refused:  # its worker has not written anything
            return ()

    def remove(self) -> None:
        """End the workers and remove what is theirs."""
        for worker in self.workers.values():
            worker.end()
        self.dynamodb.client.delete_table(TableName=self.dynamodb.target.table)
        self.dynamodb.client.close()
        self.search.close()
        self.lake.close()
        super().remove()

    def _items(self) -> Sequence[Mapping[str, Any]]:
        return [{**item, "note": self._fetched(item["note"])} for item in self.dynamodb.current()]

    def _fetched(self, note: Any) -> Any:
        """Return a value that may lie in an object of its own, whose digest has to be the item's."""
        if not isinstance(note, dict):
            return note
        body = self.lake.s3.get_object(Bucket=self.lake.bucket, Key=note["_s3"])["Body"].read()
        assert hashlib.sha256(body).hexdigest() == note["sha256"]
        return body.decode()
