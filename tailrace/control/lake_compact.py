"""``tailrace lake compact``: the small objects of a closed source commit date become few large ones, sorted by key.

An output is put first and becomes visible by one entry of the log, which takes its inputs out; those stay in the bucket
for a grace time, so that readers who found them finish, and readers without the log never miss a row. A compactor that
dies leaves an object that nobody logged: its next run finds it under the same name, because names come from inputs.
A second compactor loses the entry and removes what it made. A date that gets late data is compacted again.
"""

from __future__ import annotations

import hashlib
import os
import socket
import tempfile
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from tailrace.control import lake_merge
from tailrace.crashpoint import Lake, reach
from tailrace.deadline import Deadline
from tailrace.errors import Refused
from tailrace.sink.lake_bucket import Conflict
from tailrace.sink.lake_commits import Commits
from tailrace.sink.lake_log import Part, Stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import date

    from tailrace.sink.lake_commits import Bucket

MIB = 1024 * 1024
NAME = "c-"  # what the names of outputs begin with; sink workers' begin with p and a partition
COMMIT_SECONDS = 120.0
DOWNLOADS = 8
ABANDONED = timedelta(hours=1)  # an output that is not in the log yet may still be about to be

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Bin:
    """Objects of one date and one schema that become one."""

    date: str
    inputs: tuple[Stored, ...]

    @property
    def key(self) -> str:
        """The output's name, which its inputs decide."""
        told = "\n".join(f"{each.key} {each.etag}" for each in self.inputs)
        return f"dt={self.date}/{NAME}{hashlib.blake2b(told.encode(), digest_size=10).hexdigest()}.parquet"


def plan(live: Iterable[Stored], through: date, target: int) -> list[Bin]:
    """Return what to merge: objects under half of ``target`` bytes, of dates up to ``through``."""
    small: dict[tuple[str, int], list[Stored]] = defaultdict(list)
    for each in live:
        if each.bytes < target / 2 and each.date <= through.isoformat():
            small[each.date, -1 if each.schema is None else each.schema].append(each)
    return [made for (day, _), objects in sorted(small.items()) for made in _bins(day, objects, target)]


def _bins(day: str, objects: list[Stored], target: int) -> Iterable[Bin]:
    """Fill bins up to ``target``, a neighbour after the other; one object alone is left as it is."""
    held: list[Stored] = []
    for each in sorted(objects, key=lambda one: (one.spans[0].partition, one.spans[0].first, one.key)):
        held.append(each)
        if sum(one.bytes for one in held) >= target:
            yield Bin(day, tuple(held))
            held = []
    if len(held) > 1:
        yield Bin(day, tuple(held))


@dataclass
class Compacted:
    """What one run did."""

    made: list[Stored] = field(default_factory=list)
    inputs: int = 0
    lost: int = 0  # bins that somebody else was quicker with
    vacuumed: int = 0


class Compactor:
    """Of one table, ``folder`` ending in a slash; ``key`` are the columns to sort by."""

    def __init__(self, bucket: Bucket, folder: str, key: Sequence[str]) -> None:
        self._bucket, self._folder, self._key = bucket, folder, key
        self._commits = Commits(bucket, folder, f"compact {socket.gethostname()}/{os.getpid()}")

    def bins(self, through: date, target: int) -> list[Bin]:
        """Return what there is to do; Refused where there is no log."""
        state = self._commits.refresh(Deadline.after(COMMIT_SECONDS))
        if not state.sequence:
            raise Refused(
                f"{self._folder} has no commit log.",
                hint="Its worker writes one with its next batch: start it, or is the table's name another one?",
            )
        return plan(state.live.values(), through, target)

    def run(self, bins: Sequence[Bin], say: Callable[[Bin, Stored | None], None]) -> Compacted:
        """Merge bin after bin; ``say`` is told each with its output, None where somebody else was quicker."""
        done = Compacted()
        for each in bins:
            made = self._merge(each)
            say(each, made)
            if made is None:
                done.lost += 1
            else:
                done.made.append(made)
                done.inputs += len(each.inputs)
        return done

    def _merge(self, each: Bin) -> Stored | None:
        with tempfile.TemporaryDirectory(prefix="tailrace-compact-") as scratch:
            paths = self._fetch(each, Path(scratch))
            merged = lake_merge.merge(paths, self._key, Path(scratch))
            if merged.rows != sum(one.rows for one in each.inputs):
                raise Refused(
                    f"The objects of dt={each.date} hold another number of rows than the log says.",
                    detail=f"{merged.rows} rows in {len(each.inputs)} objects",
                    hint="Nothing was changed. Something else has written into the table's folder.",
                )
            made = self._put(each, merged)
        reach(Lake.MERGED_PUT)
        removed = tuple(one.key for one in each.inputs)
        if self._commits.append(Part("compact", (made,), removed, exact=True), Deadline.after(COMMIT_SECONDS)):
            reach(Lake.MERGED_LOGGED)
            return made
        self._abandon(made)
        return None

    def _fetch(self, each: Bin, scratch: Path) -> list[Path]:
        with ThreadPoolExecutor(DOWNLOADS) as pool:
            return list(pool.map(partial(self._download, scratch), range(len(each.inputs)), each.inputs))

    def _download(self, scratch: Path, number: int, each: Stored) -> Path:
        try:
            content = self._bucket.get(self._folder + each.key)
        except Conflict as error:
            raise Refused(
                f"An object that the log names is not in the bucket: {self._folder}{each.key}.",
                hint="Another compactor may just have removed it: try again. Or `tailrace replay` writes it anew.",
            ) from error
        path = scratch / f"{number:06d}.parquet"
        path.write_bytes(content.body)
        return path

    def _put(self, each: Bin, merged: lake_merge.Merged) -> Stored:
        """Put the output under its name, or under a second one where another version of it lies there."""
        schema = each.inputs[0].schema
        metadata = {"rows": str(merged.rows), "digest": merged.digest}
        size = merged.path.stat().st_size
        for name in (each.key, each.key.replace(".parquet", f"-{merged.digest[:8]}.parquet")):
            try:
                with merged.path.open("rb") as body:
                    etag = self._bucket.put_new(self._folder + name, body, metadata)
            except Conflict:
                etag = self._same(name, merged.digest)
            if etag:
                return Stored(name, etag, size, schema, merged.spans)
        raise Refused("Two compactors are at the same objects.", hint="Try again.")

    def _same(self, name: str, digest: str) -> str:
        try:
            there = self._bucket.head(self._folder + name)
        except Conflict:
            return ""
        return there.etag if there.metadata.get("digest") == digest else ""

    def _abandon(self, made: Stored) -> None:
        """Remove an output that did not get into the log, unless its equal did."""
        state = self._commits.refresh(Deadline.after(COMMIT_SECONDS))
        if made.key not in state.live and made.key not in state.gone:
            self._remove(made.key, made.etag)

    def _remove(self, key: str, etag: str) -> None:
        try:
            self._bucket.delete(self._folder + key, etag)
        except Conflict:
            log.info("lake.object.gone", key=self._folder + key)

    # After the grace time

    def vacuum(self, grace: timedelta, now: datetime | None = None) -> int:
        """Remove objects that the log took out longer ago than ``grace``, and outputs of dead compactors."""
        moment = now or datetime.now(UTC)
        state = self._commits.refresh(Deadline.after(COMMIT_SECONDS))
        due = [each for at, each in state.gone.values() if datetime.fromisoformat(at) <= moment - grace]
        for each in due:
            self._remove(each.key, each.etag)
        if due:
            reach(Lake.INPUTS_REMOVED)
            keys = tuple(each.key for each in due)
            self._commits.append(Part("vacuum", vacuumed=keys), Deadline.after(COMMIT_SECONDS))
        return len(due) + self._sweep(moment - max(grace, ABANDONED), state.live.keys() | state.gone.keys())

    def _sweep(self, before: datetime, known: set[str]) -> int:
        """Remove outputs that never got into the log."""
        removed = 0
        for found in self._bucket.listing(self._folder + "dt="):
            key = found.key.removeprefix(self._folder)
            if key.rpartition("/")[2].startswith(NAME) and key not in known and found.at <= before:
                self._remove(key, found.etag)
                removed += 1
        return removed
