"""The clients of one command, opened when first asked for and closed together."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from opensearchpy import OpenSearch

from tailrace import aws
from tailrace.connector import OWN
from tailrace.kafka import KafkaAdmin
from tailrace.registry import Registry
from tailrace.source import catalogue
from tailrace.source.connect import Connect

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812 - the driver's class is lower case

    from tailrace.project import Project

PATIENCE = 10.0  # seconds: somebody waits for the command


@dataclass
class Services:
    """Clients of everything that a project talks to; a context manager."""

    project: Project
    _open: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @cached_property
    def database(self) -> Connection:
        """A connection to the captured database, autocommit."""
        url = self.project.endpoints.database(self.project.connector.database)
        return self._open.enter_context(catalogue.session(url))

    def catalogue(self) -> catalogue.Catalogue:
        """Take a fresh picture of the source's catalogue."""
        connector = self.project.connector
        wanted = [*connector.published, *OWN]
        return catalogue.read(self.database, wanted, keys=connector.keys, role=connector.role)

    @cached_property
    def admin(self) -> KafkaAdmin:
        """The Kafka cluster."""
        return KafkaAdmin(self.project.endpoints.kafka)

    @cached_property
    def connect(self) -> Connect:
        """The Connect cluster."""
        client = Connect(self.project.endpoints.connect)
        self._open.callback(client.close)
        return client

    @cached_property
    def registry(self) -> Registry:
        """The schema registry."""
        client = Registry(self.project.endpoints.registry, patience=PATIENCE)
        self._open.callback(client.close)
        return client

    @cached_property
    def dynamodb(self) -> Any:
        """DynamoDB."""
        return aws.client("dynamodb", self.project.endpoints.dynamodb)

    @cached_property
    def s3(self) -> Any:
        """S3; addresses are path-style, which every S3-like store understands."""
        return aws.client("s3", self.project.endpoints.s3, s3={"addressing_style": "path"})

    @cached_property
    def search(self) -> OpenSearch:
        """OpenSearch."""
        client = OpenSearch(self.project.endpoints.opensearch, timeout=30, max_retries=1)
        self._open.callback(client.close)
        return client
