"""The embedded local stack: Postgres, Kafka, Connect, registry, DynamoDB, S3 and OpenSearch on 127.0.0.1."""

from tailrace.stack.embedded import Stack
from tailrace.stack.status import ServiceStatus

__all__ = ["ServiceStatus", "Stack"]
