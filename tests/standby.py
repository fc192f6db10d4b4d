"""A physical standby of the tests' own Postgres: a base backup of it, streaming what it writes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psutil
import psycopg2

from tailrace.deadline import wait_for
from tailrace.stack.ports import FREE, HOST, is_free
from tailrace.stack.postgres import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.providers import RunningStack


@contextmanager
def standby(stack: RunningStack) -> Iterator[str]:
    """Give the URL of a standby, without a database name."""
    url = urlsplit(stack.endpoints.postgres)
    primary = server(url.port or 0)
    programs, uid, gid = Path(primary.exe()).parent, primary.uids().real, primary.gids().real
    base = Path(tempfile.mkdtemp(prefix="tailrace-standby-", dir="/var/tmp"))
    os.chown(base, uid, gid)
    port = next(port for port in reversed(FREE) if is_free(port))
    account: dict[str, Any] = {"user": uid, "group": gid, "cwd": base} if os.geteuid() == 0 else {"cwd": base}
    backup = [programs / "pg_basebackup", "-d", stack.endpoints.database("postgres"), "-D", base / "data"]
    subprocess.run([*map(str, backup), "-R", "-X", "stream", "-c", "fast"], check=True, timeout=60, **account)
    options = [part for name, value in {**SETTINGS, "port": str(port)}.items() for part in ("-c", f"{name}={value}")]
    with (base / "log").open("wb") as log:
        running = subprocess.Popen(
            [str(programs / "postgres"), "-D", str(base / "data"), *options], stdout=log, stderr=log, **account
        )
    found = f"postgresql://{url.username}:{url.password}@{HOST}:{port}"
    try:
        wait_for(lambda: answers(found), timeout=60, what=f"the standby; its log: {base / 'log'}")
        yield found
    finally:
        running.send_signal(signal.SIGINT)
        running.wait(30)
        shutil.rmtree(base)


def server(port: int) -> psutil.Process:
    """Return the process that listens on a port."""
    return next(
        psutil.Process(each.pid)
        for each in psutil.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN and tuple(each.laddr)[1] == port and each.pid
    )


def answers(url: str) -> bool:
    try:
        with closing(psycopg2.connect(f"{url}/postgres", connect_timeout=3)):
            return True
    except psycopg2.OperationalError:
        return False
