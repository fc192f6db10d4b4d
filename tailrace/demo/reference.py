"""The reference bank as the demo needs it: where its sinks put customers, read from the project itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from tailrace.errors import Refused
from tailrace.targets import DynamoDBTable, LakeTable, SearchIndex

if TYPE_CHECKING:
    from tailrace.project import Project

T = TypeVar("T")
TABLES = ("public.customers", "public.accounts", "public.transfers")


@dataclass(frozen=True, slots=True)
class Stores:
    """The DynamoDB table, the search alias and the lake's folders of the bank."""

    table: str
    alias: str
    bucket: str
    customers: str
    transfers: str


def stores(project: Project) -> Stores:
    """Return where the bank's records are, or raise Refused when the project is not the bank."""
    if not set(TABLES) <= set(project.connector.tables):
        raise _not_the_bank("its connector captures other tables")
    return Stores(
        table=_target(project, DynamoDBTable, "customers").table,
        alias=_target(project, SearchIndex, "customers").alias,
        bucket=project.settings.lake.bucket,
        customers=_folder(_target(project, LakeTable, "customers")),
        transfers=_folder(_target(project, LakeTable, "transfers")),
    )


def _target(project: Project, kind: type[T], record: str) -> T:
    for targets in project.sinks.values():
        for target in targets:
            if isinstance(target, kind) and getattr(target, "record", None) == record:
                return target
    raise _not_the_bank(f"no {kind.__name__} takes the record {record}")


def _folder(target: LakeTable) -> str:
    return f"{target.zone}/{target.table}"


def _not_the_bank(detail: str) -> Refused:
    return Refused(
        "The demo runs on the reference project, and this is another one.",
        detail=detail,
        hint="Run it in the folder of the bank; `tailrace apply` and `tailrace run all` work on any project.",
    )
