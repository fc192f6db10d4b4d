"""The embedded local stack: Postgres, Kafka, Connect, registry, DynamoDB, S3 and OpenSearch on 127.0.0.1."""

from tailrace.stack.download import Download
from tailrace.stack.embedded import Stack
from tailrace.stack.progress import Lines
from tailrace.stack.status import ServiceStatus

__all__ = ["Download", "Lines", "ServiceStatus", "Stack"]
