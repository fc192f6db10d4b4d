"""The sum of all balances, in the source and in every store that holds accounts: money only ever moves.

Each store adds up what it holds with a client of its own; it says nothing of single rows, which is what verify is for.
"""

from __future__ import annotations

from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tailrace import aws
from tailrace.control.lake import LakeFolder, LakeReader
from tailrace.demo import database, reference, traffic

if TYPE_CHECKING:
    from tailrace.project import Project

ACCOUNTS = "accounts"


def balances(project: Project) -> dict[str, str]:
    """Return the sum in Postgres, in DynamoDB and in the lake, as text; equal where all is well."""
    url = project.endpoints.database(project.connector.database)
    with closing(database.connect(url)) as opened:
        source = traffic.total(opened)
    return {"Postgres": source, "DynamoDB": str(_in_dynamodb(project)), "lake": str(_in_lake(project))}


def _in_dynamodb(project: Project) -> Decimal:
    found = Decimal("0.00")
    asked: dict[str, Any] = {
        "TableName": reference.stores(project).table,
        "FilterExpression": "#type = :accounts AND attribute_not_exists(#deleted)",
        "ExpressionAttributeNames": {"#type": "_type", "#deleted": "_deleted"},
        "ExpressionAttributeValues": {":accounts": {"S": ACCOUNTS}},
        "ConsistentRead": True,
    }
    with closing(aws.client("dynamodb", project.endpoints.dynamodb)) as client:
        for page in client.get_paginator("scan").paginate(**asked):
            found += sum((Decimal(item["balance"]["N"]) for item in page["Items"]), Decimal(0))
    return found


def _in_lake(project: Project) -> Decimal:
    places = reference.stores(project)
    zone = places.customers.split("/")[0]
    folder = LakeFolder(project.endpoints.s3, places.bucket, zone, ACCOUNTS, project.contract(ACCOUNTS).key)
    (row,) = LakeReader(folder).rows("select sum(balance) as balance from current")
    return Decimal(row["balance"] or 0)
