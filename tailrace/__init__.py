"""Tailrace keeps DynamoDB tables, an S3 data lake and a search index true to a PostgreSQL database.

These are the names that a project's own files (processors/, sinks/) may import; everything else may change.
"""

from tailrace.change import Change, Rejection
from tailrace.conforming import Row, conform
from tailrace.errors import Fatal, Rejected, Retryable
from tailrace.targets import (
    DynamoDBTable,
    GeoPoint,
    Index,
    LakeTable,
    Mirror,
    Nested,
    Object,
    RawLakeTable,
    SearchIndex,
    Sink,
    Text,
)

__all__ = [
    "Change",
    "DynamoDBTable",
    "Fatal",
    "GeoPoint",
    "Index",
    "LakeTable",
    "Mirror",
    "Nested",
    "Object",
    "RawLakeTable",
    "Rejected",
    "Rejection",
    "Retryable",
    "Row",
    "SearchIndex",
    "Sink",
    "Text",
    "conform",
]
