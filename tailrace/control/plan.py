"""``tailrace plan``: every resource a project needs, in the order in which ``apply`` makes them, and how each differs.

Only reading happens here. What the project does not name is left alone and not shown: nothing is ever destroyed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tailrace.control.resources import changelog, truncate
from tailrace.control.resources import topics as topic_kind
from tailrace.control.resources.bucket import BucketResource
from tailrace.control.resources.connector import ConnectorResource
from tailrace.control.resources.control import ControlRecord
from tailrace.control.resources.dynamodb import DynamoDBTableResource
from tailrace.control.resources.dynamodb import declared as declared_tables
from tailrace.control.resources.heartbeat import HEARTBEAT, SIGNAL, OwnTable
from tailrace.control.resources.publication import PublicationResource
from tailrace.control.resources.schemas import SchemaResource
from tailrace.control.resources.search import SearchIndexResource
from tailrace.control.resources.search import declared as declared_indexes
from tailrace.targets import DynamoDBTable, LakeTable, RawLakeTable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tailrace.control.services import Services
    from tailrace.project import Project
    from tailrace.resource import Resource, Step


@dataclass(frozen=True)
class Plan:
    """The steps, in order, each with the resource that would take it."""

    steps: tuple[tuple[Resource, Step], ...]

    @property
    def pending(self) -> tuple[tuple[Resource, Step], ...]:
        """The steps that would change something."""
        return tuple(pair for pair in self.steps if pair[1].action in ("create", "change"))

    @property
    def conflicts(self) -> tuple[Step, ...]:
        """The steps that ``apply`` refuses."""
        return tuple(step for _, step in self.steps if step.action == "conflict")

    def counts(self) -> dict[str, int]:
        """Return how many resources call for each action."""
        counted = Counter(step.action for _, step in self.steps)
        return {action: counted[action] for action in ("create", "change", "conflict", "none")}

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as the JSON document that ``--json`` prints."""
        steps = [
            {"kind": step.kind, "name": step.name, "action": step.action, "lines": list(step.lines)}
            for _, step in self.steps
        ]
        return {"counts": self.counts(), "steps": steps}


def resources(services: Services) -> list[Resource]:
    """Return every resource of the project: source, topics, schemas, stores, control record, connector last."""
    project = services.project
    records = dict.fromkeys(project.record_of(table) for table in project.tables)
    changelogs = changelog.declared(project, services.catalogue())
    return [
        OwnTable(services, HEARTBEAT),
        *([OwnTable(services, SIGNAL)] if SIGNAL.name in project.connector.published else []),
        PublicationResource(services),
        *truncate.declared(services),
        *(topic_kind.TopicResource(services.admin, topic) for topic in topic_kind.declared(project)),
        *(changelog.ChangelogTopic(services.admin, topic) for topic in changelogs),
        *(SchemaResource(services, project.contract(record)) for record in records),
        *(DynamoDBTableResource(services, table, indexes) for table, indexes in declared_tables(project).items()),
        *([BucketResource(services)] if uses_lake(project) else []),
        *(SearchIndexResource(services, target) for target in declared_indexes(project)),
        ControlRecord(services),
        ConnectorResource(services),
    ]


def uses_lake(project: Project) -> bool:
    """Say whether any sink of the project writes to the lake's bucket."""
    targets = [target for targets in project.sinks.values() for target in targets]
    return any(
        isinstance(target, LakeTable | RawLakeTable) or (isinstance(target, DynamoDBTable) and target.oversize == "s3")
        for target in targets
    )


def plan(found: Sequence[Resource], report: Callable[[int, int], None] = lambda *_: None) -> Plan:
    """Inspect every resource; ``report`` hears how many are done, of how many."""
    steps = []
    for done, resource in enumerate(found):
        report(done, len(found))
        steps.append((resource, resource.inspect()))
    report(len(found), len(found))
    return Plan(tuple(steps))
