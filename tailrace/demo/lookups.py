"""Three look-ups that a person can follow, each with the store's own client, as an application would do them.

Every look-up says what it asks (``question``), how (``request``) and what came back (``answer``, one line each).
Nothing here is shared with the workers that wrote what is read.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.types import TypeDeserializer

from tailrace import aws, web
from tailrace.control.lake import LakeFolder, LakeReader
from tailrace.demo import database, reference
from tailrace.errors import Refused

if TYPE_CHECKING:
    from tailrace.project import Project

SHOWN = 5  # rows of an answer
TURNOVER = """select date_trunc('minute', booked_at) as minute, count(*) as transfers, sum(amount) as moved
from current group by minute order by minute desc limit 5"""
_plain = TypeDeserializer().deserialize


@dataclass(frozen=True, slots=True)
class LookUp:
    """One question to one store and its answer."""

    question: str
    request: str
    answer: tuple[str, ...]


def all_three(project: Project) -> tuple[LookUp, LookUp, LookUp]:
    """Ask DynamoDB, the search index and the lake, one question each."""
    customer, city = _somebody(project)
    return customer_with_accounts(project, customer), customers_in(project, city), turnover(project)


def customer_with_accounts(project: Project, customer: int) -> LookUp:
    """Get a customer and all accounts by one Query."""
    table = reference.stores(project).table
    with closing(aws.client("dynamodb", project.endpoints.dynamodb)) as client:
        found = client.query(
            TableName=table,
            KeyConditionExpression="pk = :customer",
            FilterExpression="attribute_not_exists(#deleted)",
            ExpressionAttributeNames={"#deleted": "_deleted"},
            ExpressionAttributeValues={":customer": {"S": f"CUSTOMER#{customer}"}},
        )
    items = [{name: _plain(value) for name, value in item.items()} for item in found["Items"]]
    return LookUp(
        "DynamoDB: a customer with all accounts, in one Query",
        f"Query {table} where pk = CUSTOMER#{customer}",
        tuple(_item(item) for item in sorted(items, key=lambda item: item["sk"], reverse=True)),
    )


def customers_in(project: Project, city: str) -> LookUp:
    """Search customers by a word of their city."""
    body = {"size": SHOWN, "query": {"match": {"city": city}}, "sort": ["_score", {"id": "asc"}]}
    alias = reference.stores(project).alias
    with web.client(project.endpoints.opensearch, timeout=10) as client:
        answer = client.post(f"/{alias}/_search", json=body)
    hits = answer.raise_for_status().json()["hits"]
    lines = [_hit(hit["_source"]) for hit in hits["hits"]]
    return LookUp(
        "OpenSearch: customers by city, through the alias",
        f"GET /{alias}/_search {{match: {{city: {city}}}}}",
        (f"{hits['total']['value']} hits, the first:", *lines),
    )


def turnover(project: Project) -> LookUp:
    """Sum up what was transferred per minute, from the lake's Parquet files."""
    places = reference.stores(project)
    zone, table = places.transfers.split("/")
    folder = LakeFolder(project.endpoints.s3, places.bucket, zone, table, ("id",))
    rows = LakeReader(folder).rows(TURNOVER)
    lines = (f"{row['minute']:%H:%M} UTC  {row['transfers']:>6,} transfers  {row['moved']:>14,} moved" for row in rows)
    return LookUp("Lake: turnover by minute, DuckDB on Parquet", " ".join(TURNOVER.split()), tuple(lines))


def _somebody(project: Project) -> tuple[int, str]:
    """Return the key and the city of a customer who has been there for long and has accounts."""
    url = project.endpoints.database(project.connector.database)
    with closing(database.connect(url)) as opened, opened.cursor() as cursor:
        cursor.execute(
            "select customers.id, address ->> 'city' from customers join accounts on customer_id = customers.id"
            " where address ->> 'city' is not null group by customers.id order by count(*) desc, customers.id limit 1"
        )
        found = cursor.fetchone()
    if found is None:
        raise Refused("No customer has an account and a city.", hint="`tailrace demo seed` fills an empty bank.")
    return int(found[0]), str(found[1])


def _item(item: dict[str, Any]) -> str:
    if item["sk"] == "PROFILE":
        return f"{item['sk']:<14} {item['name']}, {item['city']}, preferred: {'yes' if item['preferred'] else 'no'}"
    return f"{item['sk']:<14} {item['type']:<9} {item['balance']:>12,.2f} {item['status']}"


def _hit(source: dict[str, Any]) -> str:
    return f"#{source['id']:<6} {source['name']:<22} {source['email']}"
