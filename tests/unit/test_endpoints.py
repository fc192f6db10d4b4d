from dataclasses import asdict
from pathlib import Path

import pytest

from tailrace.endpoints import Endpoints, resolve, without_password
from tailrace.errors import ProjectError

ALL = Endpoints(
    postgres="postgresql://tailrace:s3cret@127.0.0.1:1",
    kafka="127.0.0.1:2",
    connect="http://127.0.0.1:3",
    registry="http://127.0.0.1:4",
    dynamodb="http://127.0.0.1:5",
    s3="http://127.0.0.1:6",
    opensearch="http://127.0.0.1:7",
)


def test_what_the_stack_saved_is_found_again_and_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    ALL.save(tmp_path)
    assert resolve(tmp_path, {}, {}) == ALL
    assert (tmp_path / ".tailrace" / "endpoints.json").stat().st_mode & 0o077 == 0


def test_the_environment_wins_over_the_file_and_the_file_over_the_stack(tmp_path: Path) -> None:
    ALL.save(tmp_path)
    found = resolve(tmp_path, {"kafka": "declared:1", "s3": "http://declared"}, {"TAILRACE_KAFKA": "given:1"})
    assert (found.kafka, found.s3, found.connect) == ("given:1", "http://declared", ALL.connect)


def test_missing_addresses_are_all_named(tmp_path: Path) -> None:
    with pytest.raises(ProjectError) as caught:
        resolve(tmp_path, {name: value for name, value in asdict(ALL).items() if name not in ("s3", "kafka")}, {})
    assert "kafka, s3" in caught.value.problem


def test_a_password_never_appears_in_what_is_printed() -> None:
    assert "s3cret" not in str(ALL.public())
    assert without_password("postgresql://u@h:1/db") == "postgresql://u@h:1/db"
