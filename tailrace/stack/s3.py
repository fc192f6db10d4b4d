"""S3, served by moto in memory: its objects are gone when it stops."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tailrace.stack.ports import HOST
from tailrace.stack.process import Launch
from tailrace.stack.service import Service, answers

if TYPE_CHECKING:
    from tailrace.stack.home import Home


def launch(home: Home) -> Launch:
    """Return the server's command."""
    argv = [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(home.port("s3"))]
    return Launch(argv, cwd=home.folder("s3"))


def ready(home: Home) -> bool:
    """List the buckets."""
    return answers(f"{home.url('s3')}/")


SERVICE = Service("s3", ("s3",), launch, ready, keeps_data=False)
