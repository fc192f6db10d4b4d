"""`plan` and `apply` on real servers: everything is made once, drift is mended, what cannot be mended is refused."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tailrace import aws, topics
from tailrace.control.resources.connector import ConnectorResource
from tailrace.control.services import Services
from tailrace.deadline import wait_for
from tailrace.demo import database
from tailrace.errors import Unreachable
from tailrace.source import catalogue
from tests import bank

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bank import Bank
    from tests.providers import RunningStack


@pytest.fixture(scope="module")
def fresh(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    """A project whose database is there and nothing else."""
    made = bank.copy(stack, tmp_path_factory.mktemp("apply"), "mutual")
    loaded = made.load()
    database.prepare(loaded.endpoints, loaded.connector.database, made.folder / "migrations")
    yield made
    made.remove()


@pytest.fixture(scope="module")
def applied(fresh: Bank) -> Bank:
    fresh.must("apply", "--yes")
    return fresh


@pytest.fixture
def services(applied: Bank) -> Iterator[Services]:
    with Services(applied.load()) as opened:
        yield opened


def actions(made: Bank) -> dict[str, str]:
    """Return what `plan` would do, by name, where it would do anything."""
    return {step["name"]: step["action"] for step in made.json("plan")["steps"] if step["action"] != "none"}


def sql(made: Bank, statement: str) -> None:
    loaded = made.load()
    url = loaded.endpoints.database(loaded.connector.database)
    with closing(database.connect(url, autocommit=True)) as opened, opened.cursor() as cursor:
        cursor.execute(statement)


def test_plan_changes_nothing_and_apply_makes_everything_once(fresh: Bank) -> None:
    first = fresh.tailrace("plan", "--exit-code")
    assert first.returncode == 2, first.stderr
    assert f"+ publication tailrace_{fresh.name}" in first.stdout
    assert actions(fresh) == actions(fresh)
    assert set(actions(fresh).values()) == {"create"}
    done = fresh.must("apply", "--yes")
    assert "Plan: 27 to create" in done
    assert fresh.must("apply", "--yes").strip() == "No changes. 27 resources are as the project says."
    assert fresh.must("plan", "--exit-code").startswith("No changes.")


def test_what_apply_made_is_really_there(applied: Bank, services: Services) -> None:
    loaded = applied.load()
    seen = services.catalogue()
    assert set(seen.publications[f"tailrace_{applied.name}"].tables) == set(loaded.connector.published)
    assert seen.slots[f"tailrace_{applied.name}"].plugin == "pgoutput"
    counts = services.admin.partitions()
    assert (
        counts[topics.raw(applied.name, "public.accounts")] == counts[topics.conformed(applied.name, "accounts")] == 3
    )
    assert services.registry.latest(topics.conformed(applied.name, "accounts")) is not None
    table = aws.client("dynamodb", loaded.endpoints.dynamodb).describe_table(TableName=applied.name)["Table"]
    assert [index["IndexName"] for index in table["GlobalSecondaryIndexes"]] == ["preferred"]
    status = services.connect.status(applied.name)
    assert status is not None
    assert status.running


def test_a_row_written_after_apply_arrives_in_its_raw_topic(applied: Bank, services: Services) -> None:
    raw = topics.raw(applied.name, "public.customers")
    before = sum(services.admin.ends([raw]).values())
    sql(applied, "insert into customers (name, email) values ('Ada', 'ada@example.org')")
    wait_for(lambda: sum(services.admin.ends([raw]).values()) > before, timeout=30, what="the row to arrive")


def test_drift_is_shown_and_mended(applied: Bank, services: Services) -> None:
    sql(applied, f"alter publication tailrace_{applied.name} drop table transfers")
    services.search.indices.delete_alias(index=f"{applied.name}-customers-000001", name=f"{applied.name}-customers")
    services.connect.stop(applied.name)
    found = actions(applied)
    assert found == {
        f"tailrace_{applied.name}": "change",
        f"{applied.name}-customers-000001": "change",
        applied.name: "change",
    }
    assert applied.json("apply", "--yes")["applied"] == 3
    assert actions(applied) == {}


def test_a_connector_whose_task_failed_is_summed_up_and_started_again_once_its_cause_is_mended(
    applied: Bank, services: Services
) -> None:
    services.connect.stop(applied.name)
    sql(applied, f"drop publication tailrace_{applied.name}")
    services.connect.resume(applied.name)
    wait_for(lambda: _failed(applied, services), timeout=60, what="the task to fail")
    with pytest.raises(Unreachable) as caught:
        services.connect.wait_running(applied.name, timeout=5)
    assert caught.value.detail.endswith(
        "Publication autocreation is disabled, please create one and restart the connector."
    )
    assert "\tat " not in caught.value.detail
    assert actions(applied) == {f"tailrace_{applied.name}": "create", applied.name: "change"}
    applied.must("apply", "--yes")
    assert actions(applied) == {}


def _failed(applied: Bank, services: Services) -> bool:
    status = services.connect.status(applied.name)
    return status is not None and status.failed


def test_a_partition_count_is_never_changed(applied: Bank) -> None:
    toml = applied.folder / "tailrace.toml"
    text = toml.read_text()
    toml.write_text(text.replace("partitions = 3", "partitions = 4"))
    refused = applied.tailrace("apply", "--yes")
    toml.write_text(text)
    assert refused.returncode == 5
    assert "it has 3 partitions where tailrace.toml says 4" in refused.stderr
    assert actions(applied) == {}


def test_a_contract_that_breaks_readers_is_refused_before_anything_is_changed(applied: Bank) -> None:
    avsc = applied.folder / "schemas" / "transfers.avsc"
    text = avsc.read_text()
    broken = json.loads(text)
    broken["fields"].append({"name": "fee", "type": "long"})
    avsc.write_text(json.dumps(broken))
    refused = applied.tailrace("apply", "--yes")
    avsc.write_text(text)
    assert refused.returncode == 5
    assert "not backward compatible" in refused.stderr


def test_a_contract_with_a_new_optional_field_is_registered(applied: Bank) -> None:
    avsc = applied.folder / "schemas" / "transfers.avsc"
    wider = json.loads(avsc.read_text())
    wider["fields"].append({"name": "fee", "type": ["null", "long"], "default": None})
    avsc.write_text(json.dumps(wider))
    assert actions(applied) == {f"{topics.conformed(applied.name, 'transfers')}-value": "change"}
    applied.must("apply", "--yes")
    assert actions(applied) == {}


def test_a_wrong_password_is_said_without_showing_it(applied: Bank) -> None:
    right = applied.load().endpoints
    wrong = right.postgres.replace(right.postgres.split(":")[2].split("@")[0], "hunter2")
    done = _with_environment(applied, {"TAILRACE_POSTGRES": wrong}, "check")
    assert done.returncode == 4
    assert "password authentication failed" in done.stderr
    assert "hunter2" not in done.stderr + done.stdout


NOWHERE = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("variable", "address", "said"),
    [
        ("TAILRACE_POSTGRES", "postgresql://x:y@127.0.0.1:9", "PostgreSQL does not answer"),
        ("TAILRACE_KAFKA", "127.0.0.1:9", "Kafka does not answer"),
        ("TAILRACE_CONNECT", NOWHERE, "Kafka Connect does not answer"),
        ("TAILRACE_REGISTRY", NOWHERE, "The schema registry does not answer"),
        ("TAILRACE_DYNAMODB", NOWHERE, "DynamoDB does not answer"),
        ("TAILRACE_S3", NOWHERE, "S3 does not answer"),
        ("TAILRACE_OPENSEARCH", NOWHERE, "OpenSearch does not answer"),
    ],
)
def test_a_server_that_is_down_is_named(applied: Bank, variable: str, address: str, said: str) -> None:
    done = _with_environment(applied, {variable: address}, "plan")
    assert (done.returncode, said in done.stderr) == (4, True), done.stderr


def _with_environment(made: Bank, more: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        made.command(*arguments), capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **more}
    )


def test_a_slot_that_was_dropped_is_a_conflict_until_a_new_life_begins(applied: Bank, services: Services) -> None:
    loaded = applied.load()
    services.connect.stop(applied.name)
    with catalogue.session(loaded.endpoints.database(loaded.connector.database)) as connection:
        drop = f"select pg_drop_replication_slot('{loaded.connector.slot}')"
        wait_for(lambda: _idle(services, loaded.connector.slot), timeout=30, what="the slot to be idle")
        catalogue.rows(connection, drop)
    refused = applied.tailrace("apply", "--yes")
    assert refused.returncode == 5
    assert "is gone, and with it every change" in refused.stderr
    findings: list[dict[str, Any]] = json.loads(applied.tailrace("check", "--json").stdout)["findings"]
    assert findings[0]["what"] == f"The slot {loaded.connector.slot} is gone."


def _idle(services: Services, slot: str) -> bool:
    return not services.catalogue().slots[slot].active


def test_a_connector_made_anew_does_not_trust_offsets_of_a_slot_that_is_gone(applied: Bank, services: Services) -> None:
    """Runs after the slot was dropped: deleting the connector keeps its offsets in Connect."""
    assert applied.load().connector.slot not in services.catalogue().slots
    raw = topics.raw(applied.name, "public.customers")
    services.connect.delete(applied.name)
    before = sum(services.admin.ends([raw]).values())
    ConnectorResource(services).apply()
    wait_for(lambda: sum(services.admin.ends([raw]).values()) > before, timeout=30, what="a new snapshot")
