"""Java's caches: made once for a Java and its artifacts, and no stack depends on them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tailrace.errors import Unreachable
from tailrace.stack import artifacts, javacache
from tailrace.stack.cache import Cache

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """An empty cache of the locked artifacts."""
    return Cache(artifacts.load(), root=tmp_path)


def recorded(_project: Path, written: Path) -> None:
    """Write what the servers would: a cache, and what one that did not finish leaves."""
    (written / "kafka.aot").write_text("a cache")
    (written / "connect.aot.config").write_text("half of one")


def test_caches_are_made_once_and_used_by_the_servers_that_have_one(cache: Cache) -> None:
    said: list[str] = []

    javacache.prepare(cache, recorded, said.append)
    javacache.prepare(cache, recorded, said.append)

    assert len(said) == 1
    assert [path.name for path in javacache.folder(cache).iterdir()] == ["kafka.aot"]
    assert javacache.options(cache, "kafka", recording=None) == [f"-XX:AOTCache={javacache.folder(cache)}/kafka.aot"]
    assert javacache.options(cache, "connect", recording=None) == []


def test_a_preparation_that_fails_is_said_and_not_tried_at_every_start(cache: Cache) -> None:
    said: list[str] = []

    def fails(_project: Path, _written: Path) -> None:
        raise Unreachable("kafka ended while it was starting.")

    javacache.prepare(cache, fails, said.append)
    javacache.prepare(cache, fails, said.append)

    assert [line for line in said if "kafka ended" in line] == [said[1]]
    assert javacache.options(cache, "kafka", recording=None) == []


def test_an_interrupted_preparation_leaves_nothing_and_comes_again(cache: Cache) -> None:
    def interrupted(_project: Path, written: Path) -> None:
        recorded(_project, written)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        javacache.prepare(cache, interrupted, lambda _line: None)
    assert not javacache.folder(cache).exists()
    assert [path.name for path in cache.root.iterdir() if path.name.startswith("staging")] == []
    javacache.prepare(cache, recorded, lambda _line: None)

    assert javacache.options(cache, "kafka", recording=None)


def test_an_artifact_fetched_again_gets_a_cache_of_its_own(cache: Cache) -> None:
    jar = cache.path(cache.lock.of("kafka")[0])
    jar.parent.mkdir(parents=True)
    jar.write_text("a jar")
    javacache.prepare(cache, recorded, lambda _line: None)
    before = javacache.folder(cache)
    os.utime(jar, (1, 1))

    assert javacache.folder(cache) != before
    assert javacache.options(cache, "kafka", recording=None) == []
    javacache.prepare(cache, recorded, lambda _line: None)

    assert not before.exists(), "caches that nothing can use stay on the disk"
