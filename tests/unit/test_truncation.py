"""TRUNCATE by policy: which triggers a table has to have, what plan and check say of them, what its event becomes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from tailrace import contract, settings
from tailrace.change import MARKER
from tailrace.control.checks import truncate as checks
from tailrace.control.resources import truncate
from tailrace.source import truncation
from tailrace.source.truncation import BODIES, FUNCTIONS, Picture, Trigger
from tailrace.stream.conform import Conformer, TablePlan
from tests.raw import READING_SCHEMA, message, payload, reading
from tests.shop import shop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tailrace.project import Project

NAME = "tailrace_truncate_shop"
TABLE = "public.orders"
PARTS = {TABLE: (TABLE, "public.orders_1")}
MADE = {name: (body, truncation.settings()) for name, body in BODIES.items()}
RIGHT = Trigger(FUNCTIONS["propagate"])
SOUND = Picture(PARTS, dict.fromkeys(PARTS[TABLE], RIGHT), MADE)


def project(policy: str) -> Project:
    said = {"pipeline": {"name": "shop", "connector": "shop"}, "tables": {TABLE: {"truncate": policy}}}
    return shop(settings=settings.Settings.model_validate(said))


def test_a_policy_asks_for_a_trigger_on_the_table_and_on_each_of_its_partitions() -> None:
    step = truncate.compare(project("propagate"), Picture(PARTS))
    assert (step.action, step.name) == ("create", NAME)
    assert step.lines == tuple(f"+ {table}: it has no trigger to propagate TRUNCATE" for table in PARTS[TABLE])
    assert truncate.compare(project("propagate"), SOUND).action == "none"
    assert truncate.compare(project("park"), Picture(PARTS)).action == "none"


@pytest.mark.parametrize(
    ("trigger", "said"),
    [
        (replace(RIGHT, enabled="D"), "its trigger on TRUNCATE is disabled, or not enabled always"),
        (replace(RIGHT, enabled="O"), "its trigger on TRUNCATE is disabled, or not enabled always"),
        (replace(RIGHT, function=FUNCTIONS["refuse"]), "its trigger does something else than propagate TRUNCATE"),
        (replace(RIGHT, kind=32), "its trigger does something else than propagate TRUNCATE"),
    ],
)
def test_a_trigger_that_does_not_do_what_its_policy_says_is_changed(trigger: Trigger, said: str) -> None:
    seen = replace(SOUND, triggers={**SOUND.triggers, TABLE: trigger})
    step = truncate.compare(project("propagate"), seen)
    assert (step.action, step.lines) == ("change", (f"~ {TABLE}: {said}",))
    found, *_ = checks.check(project("propagate"), seen)
    assert (found.severity, found.what) == ("error", f"{TABLE}: {said}.")
    assert f'ALTER TABLE ONLY "public"."orders" ENABLE ALWAYS TRIGGER "{NAME}";' in found.sql


@pytest.mark.parametrize("made", [("BEGIN RETURN NULL; END", truncation.settings()), (BODIES[RIGHT.function], ())])
def test_a_function_of_another_text_or_with_other_settings_is_made_anew(made: tuple[str, tuple[str, ...]]) -> None:
    seen = replace(SOUND, functions={RIGHT.function: made})
    found = list(truncation.differences("shop", {TABLE: "propagate"}, seen))
    assert {each.said for each in found} == {"the function tailrace.propagate_truncate is not the one of this release"}
    assert "CREATE OR REPLACE FUNCTION tailrace.propagate_truncate()" in found[0].sql
    assert "SET row_security = off" in found[0].sql


@pytest.mark.parametrize("policy", ["park", "propagate"])
def test_only_a_trigger_of_ours_that_nothing_asks_for_is_removed(policy: str) -> None:
    seen = replace(SOUND, triggers={**(SOUND.triggers if policy == "propagate" else {}), "public.old": RIGHT})
    step = truncate.compare(project(policy), seen)
    assert step.lines == ("- public.old: a trigger of Tailrace is there that nothing asks for",)
    (found,) = [each for each in checks.check(project(policy), seen) if each.severity == "warning"]
    assert found.sql == f'DROP TRIGGER "{NAME}" ON "public"."old";'


def test_a_table_that_parks_is_worth_a_note_and_no_more() -> None:
    (found,) = checks.check(project("park"), Picture(PARTS))
    assert (found.severity, found.what) == ("note", f"A TRUNCATE of {TABLE} is not followed.")
    assert "--sweep" in found.detail
    assert list(checks.check(project("propagate"), None)) == []


def test_every_function_runs_with_the_rights_of_who_truncates() -> None:
    for name in BODIES:
        sql = truncation.create_function(name)
        assert "SECURITY DEFINER" not in sql
        assert "SET search_path = pg_catalog, pg_temp" in sql


@dataclass
class Record:
    """A consumed message of one key."""

    offset: int
    value: bytes | None
    key: bytes | None = None
    timestamp: int = 1_767_322_800_123
    headers: Sequence[tuple[str, bytes]] = ()


READING = contract.build("reading", READING_SCHEMA, where="reading")
ROW = Record(1, message(payload("c", after=reading(1))), b'{"id":1}')


def conformed(plan: TablePlan, *records: Record) -> tuple[list[bytes | None], list[str]]:
    """Return the operations of the outputs, and the reasons of the dead letters."""
    made = Conformer([plan], epoch=1, worker="conform").batch("raw", 0, records)
    operations = [dict(output.headers)["tailrace.op"] for output in made.outputs]
    return operations, [letter.reason for letter in made.letters]


def test_a_truncate_is_parked_with_the_way_out_unless_its_rows_were_deleted_before_it() -> None:
    event = Record(0, message(payload("t")))
    operations, (reason,) = conformed(TablePlan("raw", "out", READING, 7), event, ROW)
    assert operations == [b"c"]
    assert "`tailrace snapshot TABLE --sweep`" in reason
    assert conformed(TablePlan("raw", "out", READING, 7, emptied=True), event, ROW) == ([b"c"], [])


def test_a_marker_is_passed_over_and_a_record_without_key_that_is_none_is_not() -> None:
    plan = TablePlan("raw", "out", READING, 7)
    marker, stranger = Record(0, None, headers=[(MARKER, b"token")]), Record(2, None)
    assert conformed(plan, ROW, marker) == ([b"c"], [])
    assert conformed(plan, marker, ROW) == ([b"c"], [])
    operations, reasons = conformed(plan, ROW, stranger)
    assert (operations, len(reasons)) == ([b"c"], 1)
