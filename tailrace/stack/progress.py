"""Progress of a download as lines of text, for logs and terminals that cannot draw."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tailrace.stack.download import Download

EVERY = 3.0
MEGABYTE = 1_000_000


@dataclass(slots=True)
class Lines:
    """A download watcher that says a line now and then, and one at the end."""

    say: Callable[[str], None]
    said_at: float = field(default_factory=time.monotonic)

    def __call__(self, download: Download) -> None:
        """Say how far the download is, unless it was said just now."""
        finished = download.files_done == download.files
        if not finished and time.monotonic() - self.said_at < EVERY:
            return
        self.said_at = time.monotonic()
        self.say(line(download))


def line(download: Download) -> str:
    """Return the progress as one line."""
    done, total = download.bytes_done // MEGABYTE, download.bytes // MEGABYTE
    return f"fetched {download.files_done} of {download.files} files, {done} of {total} MB"
