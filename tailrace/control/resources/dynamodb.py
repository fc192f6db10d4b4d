"""DynamoDB tables: pk and sk, one sparse index per declared Index, on-demand billing, time to live.

Several records may share a table. A key schema is fixed when a table is made, so another one is a conflict. Indexes
that the project no longer declares are left alone: dropping one is a decision of the people who query it.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from tailrace.deadline import wait_for
from tailrace.errors import Refused, Unreachable
from tailrace.resource import Step
from tailrace.targets import TTL_ATTRIBUTE, DynamoDBTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tailrace.control.services import Services
    from tailrace.project import Project

KIND = "dynamodb table"
PATIENCE = 300.0  # a table takes seconds, an index over existing items minutes


@contextmanager
def asking(store: str, what: str) -> Iterator[None]:
    """Turn the errors of an AWS-like store into ours."""
    try:
        yield
    except ClientError as error:
        said = f"{error.response['Error'].get('Code')}: {error.response['Error'].get('Message')}"
        raise Refused(f"{store} refuses the request for {what}.", detail=said) from error
    except BotoCoreError as error:  # no connection, no credentials, a deadline
        raise Unreachable(f"{store} does not answer.", detail=f"Asked for {what}: {type(error).__name__}.") from error


def declared(project: Project) -> dict[str, tuple[str, ...]]:
    """Return the declared tables with the names of their indexes."""
    found: dict[str, dict[str, None]] = {}
    for targets in project.sinks.values():
        for target in targets:
            if isinstance(target, DynamoDBTable):
                found.setdefault(target.table, {}).update(dict.fromkeys(index.name for index in target.indexes))
    return {table: tuple(indexes) for table, indexes in found.items()}


def keys(pk: str, sk: str) -> list[dict[str, str]]:
    """Return a key schema."""
    return [{"AttributeName": pk, "KeyType": "HASH"}, {"AttributeName": sk, "KeyType": "RANGE"}]


def index_body(name: str) -> dict[str, Any]:
    """Return one index: its own two key attributes, every attribute projected."""
    return {
        "IndexName": name,
        "KeySchema": keys(f"{name}_pk", f"{name}_sk"),
        "Projection": {"ProjectionType": "ALL"},
    }


def attributes(indexes: Sequence[str]) -> list[dict[str, str]]:
    """Return the definitions of every key attribute; all are strings."""
    names = ["pk", "sk", *(f"{index}_{part}" for index in indexes for part in ("pk", "sk"))]
    return [{"AttributeName": name, "AttributeType": "S"} for name in names]


class DynamoDBTableResource:
    """One table with its indexes and its time to live."""

    def __init__(self, services: Services, table: str, indexes: Sequence[str]) -> None:
        self._services, self._table, self._indexes = services, table, tuple(indexes)

    def inspect(self) -> Step:
        """Compare keys, indexes and time to live."""
        found = self._describe()
        return compare(self._table, self._indexes, found, expires=found is not None and self._expires())

    def apply(self) -> None:
        """Create what is missing and wait until it is active."""
        found = self._describe()
        if found is None:
            self._create()
        else:
            there = {index["IndexName"] for index in found.get("GlobalSecondaryIndexes", ())}
            for name in self._indexes:
                if name not in there:
                    self._add(name)
        if not self._expires():
            self._expire()

    def _describe(self) -> Any:
        with asking("DynamoDB", f"the table {self._table}"):
            try:
                return self._services.dynamodb.describe_table(TableName=self._table)["Table"]
            except self._services.dynamodb.exceptions.ResourceNotFoundException:
                return None

    def _expires(self) -> bool:
        with asking("DynamoDB", f"the table {self._table}"):
            found = self._services.dynamodb.describe_time_to_live(TableName=self._table)["TimeToLiveDescription"]
        enabled = found.get("TimeToLiveStatus") in ("ENABLED", "ENABLING")
        return enabled and found.get("AttributeName") == TTL_ATTRIBUTE

    def _create(self) -> None:
        body = {
            "TableName": self._table,
            "KeySchema": keys("pk", "sk"),
            "AttributeDefinitions": attributes(self._indexes),
            "BillingMode": "PAY_PER_REQUEST",
        }
        if self._indexes:
            body["GlobalSecondaryIndexes"] = [index_body(name) for name in self._indexes]
        with asking("DynamoDB", f"the table {self._table}"):
            self._services.dynamodb.create_table(**body)
        self._settle()

    def _add(self, name: str) -> None:
        with asking("DynamoDB", f"the index {name} of {self._table}"):
            self._services.dynamodb.update_table(
                TableName=self._table,
                AttributeDefinitions=attributes((name,)),
                GlobalSecondaryIndexUpdates=[{"Create": index_body(name)}],
            )
        self._settle()

    def _expire(self) -> None:
        with asking("DynamoDB", f"the time to live of {self._table}"):
            self._services.dynamodb.update_time_to_live(
                TableName=self._table,
                TimeToLiveSpecification={"Enabled": True, "AttributeName": TTL_ATTRIBUTE},
            )

    def _settle(self) -> None:
        what = f"the table {self._table} and its indexes to be active"
        wait_for(lambda: active(self._describe()), timeout=PATIENCE, every=0.25, what=what)


def active(found: Mapping[str, Any] | None) -> bool:
    """Say whether a table and all its indexes are ready."""
    if found is None or found["TableStatus"] != "ACTIVE":
        return False
    return all(index.get("IndexStatus") == "ACTIVE" for index in found.get("GlobalSecondaryIndexes", ()))


def compare(table: str, indexes: Sequence[str], found: Mapping[str, Any] | None, *, expires: bool) -> Step:
    """Return the step that a table's description calls for; None when there is no table."""
    if found is None:
        lines = ("keys pk, sk", *(f"index {name}" for name in indexes), f"time to live on {TTL_ATTRIBUTE}")
        return Step(KIND, table, "create", lines)
    wanted = {"": keys("pk", "sk"), **{name: index_body(name)["KeySchema"] for name in indexes}}
    there = {index["IndexName"]: index["KeySchema"] for index in found.get("GlobalSecondaryIndexes", ())}
    there[""] = found["KeySchema"]
    wrong = [name for name in wanted if name in there and there[name] != wanted[name]]
    if wrong:
        shown = [f"{'index ' + name if name else 'the table'} has the keys {_shown(there[name])}" for name in wrong]
        return Step(KIND, table, "conflict", (*shown, "keys are fixed when a table is made: use another name"))
    lines = tuple(f"+ index {name}" for name in indexes if name not in there)
    lines += () if expires else (f"time to live: off -> {TTL_ATTRIBUTE}",)
    return Step(KIND, table, "change" if lines else "none", lines)


def _shown(schema: Sequence[Mapping[str, str]]) -> str:
    return ", ".join(part["AttributeName"] for part in schema)
