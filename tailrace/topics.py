"""Topic and group names of a pipeline, in one place.

Debezium names the raw topics itself, ``<topic.prefix>.<schema>.<table>``; with ``topic.prefix = <pipeline>.raw``
they fall under the same scheme as ours.
"""

from __future__ import annotations

HEARTBEAT_SCHEMA = "tailrace"
HEARTBEAT_TABLE = "heartbeat"
SIGNAL_TABLE = "signal"  # in the same schema
MESSAGE_BYTES = 10 * 1024 * 1024  # the most that a message of a raw or conformed topic may have, headers included


def prefix(pipeline: str) -> str:
    """Return the connector's ``topic.prefix``."""
    return f"{pipeline}.raw"


def raw(pipeline: str, table: str) -> str:
    """Return the raw topic of ``table``, given as ``schema.table``."""
    return f"{prefix(pipeline)}.{table}"


def heartbeat(pipeline: str) -> str:
    """Return the raw topic of the heartbeat table, which carries the markers of the barrier."""
    return raw(pipeline, f"{HEARTBEAT_SCHEMA}.{HEARTBEAT_TABLE}")


def notifications(pipeline: str) -> str:
    """Return the topic in which Debezium tells how its snapshots go."""
    return f"{pipeline}.notifications"


def conformed(pipeline: str, record: str) -> str:
    """Return the topic of one conformed record."""
    return f"{pipeline}.conformed.{record}"


def events(pipeline: str, route: str) -> str:
    """Return the topic of the domain events of one route of an outbox."""
    return f"{pipeline}.events.{route}"


def messages(pipeline: str) -> str:
    """Return the topic in which Debezium writes what ``pg_logical_emit_message`` says; nobody reads it."""
    return f"{prefix(pipeline)}.message"


def transactions(pipeline: str) -> str:
    """Return the topic of Debezium's transaction markers; nobody reads it."""
    return f"{prefix(pipeline)}.transaction"


def dead_letters(pipeline: str, worker: str) -> str:
    """Return the dead-letter topic of one worker."""
    return f"{pipeline}.dlq.{worker}"


def changelog(pipeline: str, worker: str, table: str) -> str:
    """Return the compacted topic of the images that one processor keeps of a table's long values."""
    return f"{pipeline}.{worker}.changelog.{table}"


def control(pipeline: str) -> str:
    """Return the compacted topic that holds epoch, topic ids and partition counts."""
    return f"{pipeline}.control"


def group(pipeline: str, worker: str) -> str:
    """Return the consumer group of one worker (a processor or a sink module)."""
    return f"{pipeline}.{worker}"
