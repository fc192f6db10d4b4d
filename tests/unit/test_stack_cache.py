"""The lock file and the cache: what is fetched is what was locked, once, and a bad download never stays."""

from __future__ import annotations

import gc
import hashlib
import io
import tarfile
import threading
import warnings
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import TYPE_CHECKING

import pytest

from tailrace.errors import ProjectError, Refused, Unreachable
from tailrace.stack import artifacts
from tailrace.stack.artifacts import Artifact, Component, Lock
from tailrace.stack.cache import Cache, default_root
from tailrace.stack.download import Download
from tailrace.stack.progress import Lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

JAR = b"the content of a jar" * 100


class Repository(ThreadingHTTPServer):
    """A Maven repository that answers each path with its next content, the last one for ever."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.contents: dict[str, list[bytes]] = {}
        self.promised: dict[str, int] = {}
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    server: Repository

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        waiting = self.server.contents.get(self.path, [])
        if not waiting:
            self.send_error(404)
            return
        content = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        self.send_response(200)
        self.send_header("Content-Length", str(self.server.promised.get(self.path, len(content))))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Stay silent."""


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    with serving() as server:
        monkeypatch.setenv("TAILRACE_MAVEN_REPOSITORY", server.url)
        yield server


@contextmanager
def serving() -> Iterator[Repository]:
    with Repository() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(5)
    with warnings.catch_warnings():  # jgo leaves the sockets of failed downloads to the garbage collector
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def locked(content: bytes, coordinate: str = "org.example:thing:1.0") -> Artifact:
    return Artifact(coordinate, hashlib.sha256(content).hexdigest(), len(content), ("kafka",))


def cache_of(tmp_path: Path, *items: Artifact) -> Cache:
    return Cache(Lock(items, {"kafka": Component("kafka", "1.0", "thing:1.0")}), tmp_path / "cache")


def silent(_download: Download) -> None:
    """Watch without a word."""


def test_a_coordinate_names_the_path_of_a_maven_repository() -> None:
    plain = Artifact("org.example.deep:thing:1.0", "0" * 64, 1, ())
    classified = Artifact("org.example:thing:1.0:tar.gz:all", "0" * 64, 1, ())

    assert str(plain.path) == "org/example/deep/thing/1.0/thing-1.0.jar"
    assert str(classified.path) == "org/example/thing/1.0/thing-1.0-all.tar.gz"
    assert (plain.is_archive, classified.is_archive) == (False, True)


def test_the_shipped_lock_file_pins_every_artifact_and_names_every_server() -> None:
    lock = artifacts.load()

    assert {name for item in lock.artifacts for name in item.components} <= set(lock.components)
    assert all(len(item.sha256) == 64 and item.size > 0 for item in lock.artifacts)
    assert all(lock.of(name) for name in ("kafka", "connect", "registry", "dynamodb", "opensearch"))
    assert len({item.path for item in lock.artifacts}) == len(lock.artifacts)


def test_the_shipped_lock_file_holds_no_address() -> None:
    text = (files("tailrace.stack") / artifacts.LOCK_NAME).read_text()

    assert "://" not in text


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        "{}",
        '{"components": {}, "artifacts": {"a:b": {"sha256": "x", "size": 1, "components": []}}}',
        '{"components": {"kafka": {}}, "artifacts": {}}',
    ],
)
def test_a_broken_lock_file_is_a_project_error_that_names_it(text: str) -> None:
    with pytest.raises(ProjectError, match=r"artifacts\.lock"):
        artifacts.parse(text)


def test_what_was_fetched_once_is_there_without_a_network(tmp_path: Path) -> None:
    item = locked(JAR)
    cache = cache_of(tmp_path, item)
    with pytest.MonkeyPatch.context() as patch, serving() as server:
        patch.setenv("TAILRACE_MAVEN_REPOSITORY", server.url)
        server.contents[f"/{item.path}"] = [JAR]
        cache.fetch(silent)

    cache.fetch(silent)

    assert cache.path(item).read_bytes() == JAR
    assert cache.missing() == ()
    assert cache.class_path("kafka") == str(cache.path(item))


def test_a_download_with_a_wrong_sum_is_removed_and_fetched_once_more(repository: Repository, tmp_path: Path) -> None:
    item = locked(JAR)
    repository.contents[f"/{item.path}"] = [JAR[:-1] + b"!", JAR]
    cache = cache_of(tmp_path, item)

    cache.fetch(silent)

    assert cache.path(item).read_bytes() == JAR
    assert repository.asked.count(f"/{item.path}") == 2


def test_a_download_that_stays_wrong_is_refused_and_leaves_nothing_behind(
    repository: Repository, tmp_path: Path
) -> None:
    item = locked(JAR)
    repository.contents[f"/{item.path}"] = [b"something else"]
    cache = cache_of(tmp_path, item)

    with pytest.raises(Refused) as refusal:
        cache.fetch(silent)

    assert item.coordinate in refusal.value.problem
    assert "14 bytes" in refusal.value.detail
    assert refusal.value.hint
    assert repository.asked.count(f"/{item.path}") == 2
    assert [path for path in cache.root.rglob("*") if path.is_file()] == []


def test_a_truncated_download_is_noticed_and_named(repository: Repository, tmp_path: Path) -> None:
    item = locked(JAR)
    repository.contents[f"/{item.path}"] = [JAR[:50]]
    repository.promised[f"/{item.path}"] = len(JAR)
    cache = cache_of(tmp_path, item)

    with pytest.raises(Unreachable, match=r"org\.example:thing:1\.0"):
        cache.fetch(silent)

    assert not cache.holds(item)


def test_a_file_that_was_truncated_in_the_cache_is_fetched_again(repository: Repository, tmp_path: Path) -> None:
    item = locked(JAR)
    repository.contents[f"/{item.path}"] = [JAR]
    cache = cache_of(tmp_path, item)
    cache.fetch(silent)
    cache.path(item).write_bytes(JAR[:10])

    cache.fetch(silent)

    assert cache.path(item).read_bytes() == JAR


def test_what_was_fetched_before_a_failure_is_kept(repository: Repository, tmp_path: Path) -> None:
    good, absent = locked(JAR), locked(b"x", "org.example:absent:1.0")
    repository.contents[f"/{good.path}"] = [JAR]

    with pytest.raises(Unreachable, match="absent"):
        cache_of(tmp_path, good, absent).fetch(silent)
    cache_of(tmp_path, good).fetch(silent)

    assert cache_of(tmp_path, good).holds(good)


def test_an_archive_is_unpacked_once_and_whole(repository: Repository, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        entry = tarfile.TarInfo("lib/inner.jar")
        entry.size = len(JAR)
        archive.addfile(entry, io.BytesIO(JAR))
    item = locked(packed.getvalue(), "org.example:thing:1.0:tar.gz:all")
    repository.contents[f"/{item.path}"] = [packed.getvalue()]
    cache = cache_of(tmp_path, item)

    cache.fetch(silent)

    assert (cache.unpacked(item) / "lib" / "inner.jar").read_bytes() == JAR
    assert cache.unpacked(item) == cache.unpacked(item)


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("TAILRACE_CACHE", raising=False)
    assert default_root() == tmp_path / "xdg" / "tailrace"

    monkeypatch.setenv("TAILRACE_CACHE", str(tmp_path / "own"))
    assert default_root() == tmp_path / "own"


def test_progress_is_said_at_the_end_and_not_for_every_step() -> None:
    said: list[str] = []
    watch = Lines(said.append)
    progress = Download(files=2, bytes=4_000_000)

    for _ in range(100):
        progress.add(40_000)
        watch(progress)
    progress.files_done = 2
    watch(progress)

    assert said == ["fetched 2 of 2 files, 4 of 4 MB"]
