"""Connector settings that the engine relies on, each with why (docs: ARCHITECTURE.md, source rules)."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tailrace.connector import HEARTBEAT, SIGNAL
from tailrace.control.checks.finding import Finding, error, warning
from tailrace.errors import ProjectError
from tailrace.source import heartbeat, unchanged
from tailrace.source.connect import masked
from tailrace.topics import MESSAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tailrace.connector import Connector

JSON_CONVERTER = "org.apache.kafka.connect.json.JsonConverter"


@dataclass(frozen=True, slots=True)
class Rule:
    """One setting: the value it must have, what Debezium takes when it is not set, and why."""

    key: str
    value: str
    why: str
    default: str = ""
    risky: bool = False  # a warning instead of an error


RULES = (
    Rule(
        "connector.class",
        "io.debezium.connector.postgresql.PostgresConnector",
        "raw topics are read as Debezium's Postgres connector writes them",
    ),
    Rule("plugin.name", "pgoutput", "it comes with Postgres; Debezium's default, decoderbufs, does not", "decoderbufs"),
    Rule(
        "decimal.handling.mode",
        "string",
        "precise turns NaN into null, double rounds; only text keeps every digit",
        "precise",
    ),
    Rule("time.precision.mode", "adaptive", "other modes lose microseconds or change units", "adaptive"),
    Rule("binary.handling.mode", "bytes", "bytea is read as base64 of bytes", "bytes"),
    Rule("key.converter", JSON_CONVERTER, "keys are read as plain JSON"),
    Rule("key.converter.schemas.enable", "false", "a key with a schema changes its bytes, and its partition", "true"),
    Rule(
        "key.converter.replace.null.with.default", "false", "an explicit NULL would become the column's default", "true"
    ),
    Rule("value.converter", JSON_CONVERTER, "values are read as self-describing JSON"),
    Rule("value.converter.schemas.enable", "true", "without a schema the unit of times is not known", "true"),
    Rule(
        "value.converter.replace.null.with.default",
        "false",
        "an explicit NULL would become the column's default",
        "true",
    ),
    Rule(
        "publication.autocreate.mode",
        "disabled",
        "Debezium would publish ALL TABLES, and Postgres then refuses UPDATE and DELETE on tables without a key",
        "all_tables",
    ),
    Rule("publish.via.partition.root", "true", "each partition would get a topic of its own", "false", risky=True),
    Rule("tombstones.on.delete", "true", "a compacted raw topic would never forget a deleted key", "true"),
    Rule("skipped.operations", "none", "Debezium's default drops truncates silently", "t"),
    Rule("column.propagate.source.type", ".*", "a numeric and a text arrive alike but for the source type"),
    Rule("extended.headers.enabled", "false", "headers of its own cost bytes in every record", "true", risky=True),
    Rule("slot.drop.on.stop", "false", "a stopped connector would lose every change until it runs again", "false"),
    Rule("snapshot.mode", "initial", "rows older than the slot would never arrive", "initial", risky=True),
    Rule(
        "offset.mismatch.strategy",
        "trust_offset",
        "a slot that was recreated while the connector was away would lose changes silently",
        "no_validation",
        risky=True,
    ),
    Rule("signal.data.collection", SIGNAL, "`tailrace snapshot` asks for a snapshot of a table there", risky=True),
    Rule("signal.enabled.channels", "source", "signals are rows of that table", "source", risky=True),
    Rule(
        "incremental.snapshot.watermarking.strategy",
        "insert_delete",
        "the signal table would keep two rows for every chunk of a snapshot",
        "insert_insert",
        risky=True,
    ),
    Rule("notification.enabled.channels", "sink", "how a snapshot goes, and its end, is told there", risky=True),
    Rule(
        "producer.override.max.request.size",
        str(MESSAGE_BYTES),
        "the topics take messages of this size; Connect's default of 1 MiB stops the task at a larger row",
        "1048576",
        risky=True,
    ),
)  # fmt: skip
FORBIDDEN = {
    "transforms": "raw topics must hold whole Debezium envelopes",
    "exactly.once.support": "each Kafka transaction ends with a marker, which verify and sweeps would wait for in vain",
}


def check(connector: Connector) -> Iterator[Finding]:
    """Say what of the connector's settings would go wrong."""
    place = f"connectors/{connector.name}.json"
    for rule in RULES:
        found = connector.config.get(rule.key, rule.default)
        if found != rule.value:
            shown = repr(found) if rule.key in connector.config else f"not set (by default {rule.default or 'none'})"
            say = warning if rule.risky else error
            what = f"{place}: {rule.key} should be {rule.value!r}."
            yield say(what, f"It is {shown}: {rule.why}.", hint=f'"{rule.key}": "{rule.value}"')
    for key, why in FORBIDDEN.items():
        if connector.config.get(key):
            yield error(f"{place}: {key} must not be set.", f"{why}.")
    yield from _heartbeat(connector, place)
    yield from _signals(connector, place)
    yield from _placeholder(connector, place)
    yield from _secrets(connector.config, place)


def _placeholder(connector: Connector, place: str) -> Iterator[Finding]:
    setting = connector.config.get(unchanged.SETTING, unchanged.DEFAULT)
    if unchanged.certain(setting):
        return
    try:
        unchanged.of(connector.config)
    except ProjectError as refused:
        yield error(f"{place}: {refused.problem}", hint=refused.hint)
        return
    yield warning(
        f"{place}: {unchanged.SETTING} could be a user's text.",
        "Where an unchanged long value is not sent, this stands for it; a text that equals it would be taken for it."
        " One that begins with a zero byte equals no text of Postgres.",
        hint=f'Before the first record is captured: "{unchanged.SETTING}": "{unchanged.fresh(secrets.token_hex(16))}"',
    )


def _heartbeat(connector: Connector, place: str) -> Iterator[Finding]:
    if HEARTBEAT not in connector.published:
        yield error(
            f"{place}: table.include.list lacks {HEARTBEAT}.",
            "Without it verify and replay cannot tell what has arrived, and an idle table holds back WAL.",
            hint=f"Add {HEARTBEAT} to the list; apply makes the table.",
        )
    interval = connector.config.get("heartbeat.interval.ms", "0")
    if not interval.isdigit() or int(interval) == 0:
        yield warning(
            f"{place}: heartbeat.interval.ms is off.",
            "While only other tables change, the slot does not move and WAL piles up.",
            hint=f'"heartbeat.interval.ms": "{heartbeat.INTERVAL_MS}"',
        )
    if HEARTBEAT not in connector.config.get("heartbeat.action.query", ""):
        yield warning(
            f"{place}: heartbeat.action.query does not write to {HEARTBEAT}.",
            "A heartbeat moves the slot only when it writes to a published table.",
            hint=f'"heartbeat.action.query": "{heartbeat.ACTION}"',
        )


def _signals(connector: Connector, place: str) -> Iterator[Finding]:
    if connector.config.get("signal.data.collection") and SIGNAL not in connector.published:
        yield warning(
            f"{place}: table.include.list lacks {SIGNAL}.",
            "Debezium reads signals in the stream, so their table has to be published.",
            hint=f"Add {SIGNAL} to the list; apply makes the table.",
        )
    if connector.config.get("notification.enabled.channels") and not connector.notifications:
        yield warning(
            f"{place}: notification.sink.topic.name is not set.",
            "The connector refuses to start without it.",
            hint='"notification.sink.topic.name": "PIPELINE.notifications"',
        )


def _secrets(config: Mapping[str, str], place: str) -> Iterator[Finding]:
    for key, value in config.items():
        if masked(key, value) == "***":
            yield warning(
                f"{place}: {key} is written in plain text.", hint=f'Say "{key}": "${{env:NAME}}"; Connect expands it.'
            )
