"""The reference project's own files: what its conform function makes of a row, and that its contracts fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tailrace import project
from tailrace.targets import DynamoDBTable

ROOT = Path(__file__).parents[2]
BANK = project.load(ROOT)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ('{"city": "Kraków", "street": "Mill Lane 3"}', "Kraków"),
        ('{"city": null}', None),
        ('{"city": 7}', None),
        ('["Kraków"]', None),
        ("{}", None),
        (None, None),
    ],
)
def test_the_city_is_taken_from_the_address_where_it_names_one(address: str | None, expected: str | None) -> None:
    record = BANK.functions["public.customers"]({"id": 1, "address": address})
    assert record == {"id": 1, "address": address, "city": expected}


def test_every_captured_table_has_a_contract_with_the_primary_key_id() -> None:
    assert {BANK.record_of(table) for table in BANK.connector.tables} == set(BANK.contracts)
    assert {contract.key for contract in BANK.contracts.values()} == {("id",)}


def test_customer_and_accounts_share_a_partition_of_one_table() -> None:
    profiles, accounts = (target for target in BANK.sink("dynamodb") if isinstance(target, DynamoDBTable))
    assert profiles.table == accounts.table
    assert profiles.pk.format(id=5) == accounts.pk.format(customer_id=5, id=9)


def test_the_connector_file_holds_no_secret_and_no_address() -> None:
    config = json.loads((ROOT / "connectors/bank.json").read_text())
    places = {key: value for key, value in config.items() if key.startswith("database.") and key != "database.dbname"}
    assert all(value.startswith("${env:TAILRACE_PG_") for value in places.values())


@pytest.mark.parametrize("table", ["customers", "accounts", "transfers"])
def test_a_migration_makes_the_log_hold_the_whole_old_row(table: str) -> None:
    text = (ROOT / "migrations/0002_replica_identity.sql").read_text()
    assert f"alter table {table} replica identity full;" in text
