"""The processes beside the demo: the workers (``tailrace run all``) and the traffic, each in a session of its own.

A Ctrl-C in the terminal reaches only the demo, which ends them in its own order. Bound children end with this process
also when it is killed. Workers that shall outlive the demo are remembered in ``.tailrace/demo.json``.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psutil

from tailrace.endpoints import STATE_FOLDER
from tailrace.errors import Fatal
from tailrace.supervisor import GRACE, die_with_parent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

STOP_SECONDS = GRACE + 10


class Child:
    """One ``tailrace`` command on a project folder; what it says on standard error is in ``.tailrace/logs``."""

    def __init__(
        self,
        folder: Path,
        name: str,
        arguments: Sequence[str],
        *,
        bound: bool = True,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._log = folder / STATE_FOLDER / "logs" / f"{name}.log"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._output = self._log.with_suffix(".out")
        with self._log.open("ab") as errors, self._output.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own command line
                [sys.executable, "-m", "tailrace", *arguments, "--project", str(folder)],
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
                preexec_fn=die_with_parent if bound else None,  # noqa: PLW1509 - it calls prctl and nothing else
            )

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def check(self) -> None:
        """Raise Fatal when the process has ended, which nobody asked for."""
        code = self._process.poll()
        if code is not None:
            raise Fatal(f"The {self.name} ended with exit code {code}.", hint=f"See {self._log}.")

    def stop(self) -> int:
        """End the process in good order and return its exit code; one that stays is killed."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait(10)

    def output(self) -> str:
        """Return what the process wrote to standard output so far."""
        return self._output.read_text()


def remember(folder: Path, child: Child) -> None:
    """Note the workers that go on without the demo."""
    created = psutil.Process(child.pid).create_time()
    _memo(folder).write_text(json.dumps({"pid": child.pid, "created": created}))


def remembered(folder: Path) -> psutil.Process | None:
    """Return the workers that an earlier demo left running."""
    with contextlib.suppress(FileNotFoundError, psutil.NoSuchProcess):
        memo: dict[str, Any] = json.loads(_memo(folder).read_text())
        found = psutil.Process(memo["pid"])
        if abs(found.create_time() - memo["created"]) < 1:
            return found
    return None


def stop_remembered(folder: Path) -> bool:
    """End the workers that an earlier demo left running, and say whether there were any."""
    found = remembered(folder)
    if found is not None:
        with contextlib.suppress(psutil.NoSuchProcess):
            found.terminate()
            _, alive = psutil.wait_procs([found], timeout=STOP_SECONDS)
            for stubborn in alive:
                stubborn.kill()
    _memo(folder).unlink(missing_ok=True)
    return found is not None


def _memo(folder: Path) -> Path:
    return folder / STATE_FOLDER / "demo.json"
