"""The bench's command line: it lists what there is, refuses what there is not, and runs nothing meanwhile."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from bench.__main__ import EXTRA, MODULES, chosen, main, under_floor


def test_help_names_every_benchmark_and_what_it_measures() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    for name in MODULES:
        assert f"  {name} " in result.output
    assert "Conform events per second" in result.output


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    result = CliRunner().invoke(main, ["lake", "confrom"])
    assert result.exit_code == 2
    assert "confrom" in result.output
    assert "nearest is conform" in result.output


def test_json_lists_the_benchmarks() -> None:
    result = CliRunner().invoke(main, ["--json"])
    listed = json.loads(result.output)
    assert [entry["name"] for entry in listed] == list(MODULES)
    assert all(entry["measures"] for entry in listed)


@pytest.mark.parametrize("name", EXTRA)
def test_the_long_ones_run_only_when_they_are_named(name: str) -> None:
    assert name not in chosen([])
    assert chosen([name]) == [name]


@pytest.mark.parametrize(
    ("row", "low"),
    [
        ({"value": 5, "ratio": None, "floor": 6}, True),
        ({"value": 5, "ratio": 0.9, "floor": 0.8}, False),
        ({"value": 5, "ratio": 0.7, "floor": None}, False),
        ({"value": 151, "ratio": None, "floor": None, "ceiling": 150}, True),
        ({"value": 149, "ratio": None, "floor": None, "ceiling": 150}, False),
    ],
)
def test_a_row_without_baseline_is_held_to_its_value(row: dict[str, float | None], *, low: bool) -> None:
    assert under_floor(row) is low
