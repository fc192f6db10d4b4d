"""How often a search index refreshes: rarely while its worker is far behind, as declared otherwise.

A refresh makes a small segment, which is merged later; nobody needs documents of a backlog each second. A worker is
far behind while full batches are old; a few seconds after the last such batch the declared interval is set again, also
when nothing follows. It is set when the worker stops, and by the next one that starts after a crash. A cluster that
forbids the change is left alone. ``Backlog`` decides, ``Refresher`` does the I/O.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from opensearchpy.exceptions import AuthorizationException, NotFoundError, TransportError

from tailrace.sink.mapping import interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tailrace.change import Change
    from tailrace.targets import SearchIndex

FAR_SECONDS = 30.0  # how old the newest change of a batch is when its worker is far behind
MANY = 1_000  # rows of a batch that comes from a backlog: a single old change is a replay, no load
CALM_SECONDS = 5.0
LOOK_SECONDS = 0.5
CLOSE_SECONDS = 5.0

log = structlog.get_logger()


@dataclass
class Backlog:
    """Whether a worker is far behind; times are monotonic seconds."""

    seen_at: float = float("-inf")

    def see(self, rows: int, lag: float, now: float) -> None:
        """Take the size of a batch and the age of its newest change."""
        if rows >= MANY and lag >= FAR_SECONDS:
            self.seen_at = now

    def loading(self, now: float) -> bool:
        """Say whether a load goes on."""
        return now - self.seen_at < CALM_SECONDS


class Refresher:
    """The refresh interval of one alias; ``see`` may be called from several threads."""

    def __init__(self, client: Any, target: SearchIndex) -> None:
        self._client, self._alias = client, target.alias
        self._declared = interval(target.refresh_seconds)
        self._load = None if target.load_refresh_seconds is None else interval(target.load_refresh_seconds)
        self._backlog, self._lock, self._closed = Backlog(), threading.Lock(), threading.Event()
        self._watch: threading.Thread | None = None

    def connect(self) -> None:
        """Set the declared interval where one of a load was left by a crash."""
        if self._load is None:
            return
        found = self._client.indices.get_settings(index=self._alias, name="index.refresh_interval").values()
        if any(each.get("settings", {}).get("index", {}).get("refresh_interval") == self._load for each in found):
            self._set(self._declared)

    def see(self, batch: Sequence[Change]) -> None:
        """Take a batch that is to be written; TransportError when the cluster does not answer."""
        if self._load is None or not batch:
            return
        self._backlog.see(len(batch), time.time() - batch[-1].committed_us / 1e6, time.monotonic())
        with self._lock:
            if self._watch is None and not self._closed.is_set() and self._backlog.loading(time.monotonic()):
                if not self._set(self._load):
                    self._load = None
                    return
                self._watch = threading.Thread(target=self._until_calm, name=f"refresh-{self._alias}", daemon=True)
                self._watch.start()

    def close(self) -> None:
        """Set the declared interval if a load goes on."""
        self._closed.set()
        with self._lock:
            watch = self._watch
        if watch is not None:
            watch.join(CLOSE_SECONDS)

    def _until_calm(self) -> None:
        """Wait for the end of the load, or of the worker, and set the declared interval; try again while it fails."""
        while not self._closed.wait(LOOK_SECONDS) and self._backlog.loading(time.monotonic()):
            pass
        while True:
            try:
                self._set(self._declared)
            except NotFoundError:
                return  # the index is gone, which the next write finds out
            except TransportError as error:
                log.warning("search.refresh.not.restored", alias=self._alias, reason=type(error).__name__)
                if self._closed.wait(CALM_SECONDS):
                    return  # the next worker restores it
            else:
                break
        with self._lock:
            self._watch = None

    def _set(self, value: str) -> bool:
        """Set the interval; say whether that is allowed."""
        try:
            self._client.indices.put_settings(index=self._alias, body={"index": {"refresh_interval": value}})
        except AuthorizationException:
            log.warning("search.refresh.forbidden", alias=self._alias, interval=value)
            return False
        log.info("search.refresh", alias=self._alias, interval=value)
        return True
