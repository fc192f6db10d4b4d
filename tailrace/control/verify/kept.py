"""What ``verify`` keeps in .tailrace/verify/: the proofs of ranges, and how far a run came that was interrupted.

Each proof stands under everything that decides what a row has to be in its store: contract, conform functions, target,
and the code of ``verify`` itself. Where one of them is another, there is no proof. The files hold keys and digests, no
other values, and only their owner may read them. They are replaced as a whole: a kill leaves the old or the new.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from tailrace.control.verify.ranges import Proof, Ranges
from tailrace.errors import Refused
from tailrace.targets import DynamoDBTable, LakeTable, SearchIndex

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tailrace.control.verify.store import Pair
    from tailrace.project import Project

PROOFS, RUN = "proofs.json", "run.json"


def fingerprint(project: Project, pair: Pair) -> str:
    """Return a digest of what decides what rows have to be in a store, the rows aside."""
    target = pair.target
    own = not isinstance(target, DynamoDBTable | LakeTable | SearchIndex)
    shown = _files(project.folder / "sinks") if own else repr(target)
    parts = [pair.table, pair.sink, json.dumps(pair.contract.schema, sort_keys=True), shown]
    return _sha(*parts, _files(project.folder / "processors"), _code())


@cache
def _code() -> str:
    return _sha(_files(Path(__file__).parent), duckdb.__version__)


def _files(folder: Path) -> str:
    return _sha(*(part for path in sorted(folder.glob("*.py")) for part in (path.name, path.read_text())))


def _sha(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass
class TableProofs:
    """What is proved of one table: its ranges, under a layout of its rows, and the proofs by store."""

    layout: str = ""
    ranges: Ranges = field(default_factory=Ranges)
    stores: dict[str, dict[int, Proof]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return it for the file."""
        return {
            "layout": self.layout,
            "ranges": [self.ranges.column, self.ranges.kind, list(self.ranges.bounds)],
            "stores": self.stores,
        }


def table_proofs(shown: Mapping[str, Any]) -> TableProofs:
    """Return what ``as_dict`` made."""
    column, kind, bounds = shown["ranges"]
    stores = {
        name: {int(number): Proof(*proof) for number, proof in proofs.items()}
        for name, proofs in shown["stores"].items()
    }
    return TableProofs(shown["layout"], Ranges(column, kind, tuple(bounds)), stores)


class Kept:
    """The folder; proofs of all tables are in memory between ``load`` and ``save``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.tables = {name: table_proofs(shown) for name, shown in (self._read(PROOFS) or {}).items()}

    def save(self) -> None:
        """Write the proofs."""
        self._write(PROOFS, {name: proofs.as_dict() for name, proofs in self.tables.items()})

    def resume(self, named: str) -> dict[str, Any]:
        """Return what an interrupted run has read, by store; Refused where there is none, or not of this project."""
        found = self._read(RUN)
        if found is None:
            raise Refused("There is no interrupted verify to go on with.", hint="Run `tailrace verify`.")
        if found["run"] != named:
            raise Refused(
                "The interrupted verify was another one.",
                detail="Contracts, functions, sinks or the choice of sinks are not what they were.",
                hint="Run `tailrace verify` without --resume.",
            )
        return dict(found["stores"])

    def read(self, named: str, stores: Mapping[str, Any]) -> None:
        """Note which stores the present run has read."""
        self._write(RUN, {"run": named, "stores": stores})

    def end(self) -> None:
        """Forget the present run: it came to its end."""
        (self._folder / RUN).unlink(missing_ok=True)

    def _read(self, name: str) -> Any:
        path = self._folder / name
        return json.loads(path.read_text()) if path.exists() else None

    def _write(self, name: str, content: Any) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        fresh = self._folder / f"{name}.new"
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps(content))
        fresh.replace(self._folder / name)


def named(fingerprints: Mapping[str, str]) -> str:
    """Return a name for a run over some stores."""
    return _sha(*(part for pair in sorted(fingerprints.items()) for part in pair))
