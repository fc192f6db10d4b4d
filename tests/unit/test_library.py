"""Where images lie on disk: what is kept, what is removed, and that two processes never share a folder."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from tailrace.stream.library import Disk, RocksStore

if TYPE_CHECKING:
    from pathlib import Path

HOLD = """
import sys
from pathlib import Path
from tailrace.stream.library import Disk
disk = Disk(Path(sys.argv[1]), "127.0.0.1:9", {})
disk.store(("raw", 0)).write({b"k": b"v"})
print(disk.folder.name, flush=True)
sys.stdin.read()
"""


def test_a_store_keeps_what_was_written_last_and_forgets_what_was_removed(tmp_path: Path) -> None:
    store = RocksStore(tmp_path / "images")
    assert not store.used
    store.write({b"a": None, b"b": b"1", b"c": b"2" * 100_000})
    store.write({b"b": None, b"c": b"3"})
    assert store.used
    assert (store.get(b"a"), store.get(b"b"), store.get(b"c")) == (None, None, b"3")
    store.drop()
    assert not (tmp_path / "images").exists()


def test_each_process_has_a_folder_of_its_own_and_what_a_dead_one_left_is_removed(tmp_path: Path) -> None:
    first = Disk(tmp_path, "127.0.0.1:9", {})
    held = first.store(("raw", 0))
    held.write({b"k": b"v"})
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        theirs = tmp_path / other.stdout.readline().strip()
        assert theirs != first.folder
        assert held.get(b"k") == b"v"
        other.kill()
    assert theirs.is_dir()
    second = Disk(tmp_path, "127.0.0.1:9", {})
    assert not theirs.exists()
    assert {found.name for found in tmp_path.iterdir()} == {first.folder.name, second.folder.name}
    held.drop()
    first.close()
    second.close()
    assert list(tmp_path.iterdir()) == []
