"""Letting a static member out of its consumer group, which neither client library offers: Kafka's LeaveGroup by name.

A worker that was asked to stop would otherwise be waited for until its session is over, and its partitions with it.
One that died is left in: it comes back. It is one small request of Kafka's protocol over aiokafka's connection.
"""

from __future__ import annotations

import asyncio

from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import KafkaError
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Int16, Int32, Schema, String

from tailrace.errors import Unreachable

SECONDS = 5.0
_TEXT = String("utf-8")
_LEAVE_GROUP = 13  # Kafka's number of the request


def leave(bootstrap: str, group: str, name: str) -> None:
    """Take a static member out of its group; Unreachable where Kafka does not do so at once."""
    try:
        asyncio.run(asyncio.wait_for(_leave(bootstrap, group, name), SECONDS))
    except (KafkaError, TimeoutError, OSError) as error:
        raise Unreachable("Kafka does not let go of a member.", detail=f"{group}: {type(error).__name__}") from error


async def _leave(bootstrap: str, group: str, name: str) -> None:
    client = AIOKafkaClient(bootstrap_servers=bootstrap.split(","), client_id="tailrace")
    try:
        await client.bootstrap()
        node = await client.coordinator_lookup(CoordinationType.GROUP, group)
        await client.send(node, _Leave(group, name), group=ConnectionGroup.COORDINATION)
    finally:
        await client.close()


class _LeftResponse(Response):  # type: ignore[misc]  # aiokafka publishes no types
    API_KEY, API_VERSION = _LEAVE_GROUP, 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("members", Array(("member_id", _TEXT), ("group_instance_id", _TEXT), ("error_code", Int16))),
    )


class _LeaveRequest(RequestStruct):  # type: ignore[misc]  # the same
    API_KEY, API_VERSION, RESPONSE_TYPE = _LEAVE_GROUP, 3, _LeftResponse
    SCHEMA = Schema(("group", _TEXT), ("members", Array(("member_id", _TEXT), ("group_instance_id", _TEXT))))


class _Leave(Request[_LeaveRequest]):  # type: ignore[misc]  # the same
    """Kafka's LeaveGroup for a member that is known by its instance alone, as its admin client sends it."""

    API_KEY = _LEAVE_GROUP

    def __init__(self, group: str, name: str) -> None:
        self._group, self._name = group, name

    def build(self, made: type[_LeaveRequest]) -> _LeaveRequest:
        """Return the request."""
        return made(self._group, [("", self._name)])
