"""The watchdog: a small process that takes the stack down when the process it watches for is gone.

It reads a pipe whose other end only that process holds. End of file without a word of release means that the
process died, however it died; then every service is stopped. One byte means: let the stack run, and end.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tailrace.stack import process

RELEASE = b"r"


@dataclass(slots=True)
class Watchdog:
    """Our end of the pipe to a running watchdog."""

    child: subprocess.Popen[bytes]

    @classmethod
    def start(cls, project: Path) -> Watchdog:
        """Start a watchdog that takes the stack of ``project`` down once this process is gone."""
        child = subprocess.Popen(  # noqa: S603 - our own module, our own interpreter
            [sys.executable, "-m", "tailrace.stack.watchdog", str(project)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=process.minimal_environment(""),
            start_new_session=True,
        )
        return cls(child)

    def release(self) -> None:
        """Let the stack run on without a watchdog."""
        if self.child.stdin and not self.child.stdin.closed:
            with contextlib.suppress(BrokenPipeError):  # it has ended already: nothing to release
                self.child.stdin.write(RELEASE)
                self.child.stdin.close()
        self.child.wait(30)


def main(project: str) -> None:
    """Wait for a word or the end of the pipe."""
    if sys.stdin.buffer.read(1) == RELEASE:
        return
    from tailrace.stack.embedded import Stack  # noqa: PLC0415 - heavy, and not needed while it only waits

    Stack(Path(project)).down()


if __name__ == "__main__":
    main(sys.argv[1])
