from pathlib import Path

import pytest

from tailrace import settings
from tailrace.errors import ProjectError

GOOD = '[pipeline]\nname = "bank"\nconnector = "bank"\n'


def read(folder: Path, text: str) -> settings.Settings:
    (folder / "tailrace.toml").write_text(text)
    return settings.load(folder)


def test_a_minimal_file_gets_every_default(tmp_path: Path) -> None:
    read_back = read(tmp_path, GOOD)
    assert read_back.pipeline.name == "bank"
    assert read_back.topics.partitions == 3
    assert read_back.worker("anything").buffer_rows > 0


@pytest.mark.parametrize(
    ("text", "problem", "hint"),
    [
        (GOOD + "[topics]\npartitons = 3\n", "topics.partitons", "`partitions`"),
        (GOOD + "[lakes]\n", "lakes", "`lake`"),
        (GOOD + "[workers.dynamodb]\nbatchrows = 1\n", "workers.dynamodb.batchrows", "`batch_rows`"),
        (GOOD + "[topics]\nzzzz = 3\n", "topics.zzzz", "raw_retention_hours"),
        (GOOD + '[tables."public.t"]\nzzzz = 3\n', "tables.public.t.zzzz", "Known here"),
    ],
)
def test_an_unknown_key_is_refused_and_the_nearest_name_suggested(
    tmp_path: Path, text: str, problem: str, hint: str
) -> None:
    with pytest.raises(ProjectError) as caught:
        read(tmp_path, text)
    assert problem in caught.value.problem
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (GOOD + '[topics]\npartitions = "many"\n', "wrong value at topics.partitions"),
        (GOOD + "[topics]\npartitions = 0\n", "wrong value at topics.partitions"),
        ('[pipeline]\nname = "Bank!"\nconnector = "x"\n', "wrong value at pipeline.name"),
        ('[pipeline]\nname = "bank"\n', "lacks pipeline.connector"),
        ("pipeline = [", "not valid TOML"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ProjectError) as caught:
        read(tmp_path, text)
    assert problem in caught.value.problem


def test_a_folder_without_the_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ProjectError) as caught:
        settings.load(tmp_path)
    assert "tailrace init" in caught.value.hint


def test_an_endpoint_takes_its_secret_from_the_environment(tmp_path: Path) -> None:
    text = GOOD + '[endpoints]\npostgres = "postgresql://u:${env:TAILRACE_ABSENT}@h:1"\n'
    assert read(tmp_path, text).endpoints.postgres == "postgresql://u:@h:1"
