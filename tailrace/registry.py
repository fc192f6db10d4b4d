"""The schema registry, through the Confluent API that Apicurio, Karapace and Confluent all serve.

``apply`` registers contracts; workers only look ids up, once, and keep them for ever: an id never changes its meaning.
An unreachable registry is Unreachable (retry), never a reason to drop a record.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import fastavro
import httpx
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential_jitter

from tailrace import web
from tailrace.errors import ProjectError, Rejected, Unreachable

if TYPE_CHECKING:
    from collections.abc import Mapping

COMPATIBILITY = "BACKWARD_TRANSITIVE"
_TYPE = {"Content-Type": "application/vnd.schemaregistry.v1+json"}


class Registry:
    """A client of one registry; safe to share between threads. It asks again for ``patience`` seconds."""

    def __init__(self, url: str, *, patience: float = 60.0) -> None:
        self._again = Retrying(
            retry=retry_if_exception_type(Unreachable),
            stop=stop_after_delay(patience),
            wait=wait_exponential_jitter(multiplier=0.2, max=5),
            reraise=True,
        )
        self._http = web.client(url, timeout=10, headers=_TYPE)
        self._writers: dict[int, Any] = {}

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def latest(self, topic: str) -> tuple[int, dict[str, Any]] | None:
        """Return (id, schema) of the newest value schema of a topic, or None."""
        answer = self._call("GET", f"/subjects/{topic}-value/versions/latest")
        return None if answer is None else (int(answer["id"]), json.loads(answer["schema"]))

    def register(self, topic: str, schema: Mapping[str, Any]) -> int:
        """Register a value schema of a topic under BACKWARD_TRANSITIVE and return its id."""
        subject = f"{topic}-value"
        self._call("PUT", f"/config/{subject}", {"compatibility": COMPATIBILITY})
        answer = self._call("POST", f"/subjects/{subject}/versions", {"schema": canonical(schema)})
        if answer is None:
            raise Unreachable(f"The registry does not take the schema of {topic}.", detail="It answered 404.")
        return int(answer["id"])

    def refusal(self, topic: str, schema: Mapping[str, Any]) -> tuple[str, ...] | None:
        """Return why a schema could not be registered as the newest of a topic, None when it could."""
        path = f"/compatibility/subjects/{topic}-value/versions?verbose=true"
        answer = self._call("POST", path, {"schema": canonical(schema)})
        if answer is None or answer.get("is_compatible"):
            return None
        return tuple(str(line) for line in answer.get("messages") or ())

    def compatibility(self, topic: str) -> str:
        """Return the compatibility level that holds for a topic's value schemas, empty where none is set."""
        answer = self._call("GET", f"/config/{topic}-value?defaultToGlobal=true")
        return str((answer or {}).get("compatibilityLevel", ""))

    def writer(self, schema_id: int) -> Any:
        """Return the compiled schema of an id; Rejected when the registry does not know it."""
        if schema_id not in self._writers:
            answer = self._call("GET", f"/schemas/ids/{schema_id}")
            if answer is None:
                raise Rejected(f"The registry does not know the schema id {schema_id}.", stage="decode")
            self._writers[schema_id] = fastavro.parse_schema(json.loads(answer["schema"]))
        return self._writers[schema_id]

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return the parsed answer, None for 404; Unreachable when connection trouble or 5xx outlast the patience."""
        return self._again(self._once, method, path, body)

    def _once(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        try:
            response = self._http.request(method, path, json=body)
        except httpx.TransportError as error:
            raise Unreachable(
                "The schema registry does not answer.", detail=f"{self._http.base_url}: {type(error).__name__}"
            ) from error
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        if response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise Unreachable("The schema registry is in trouble.", detail=f"{path} answered {response.status_code}.")
        if response.is_error:
            raise ProjectError(
                "The schema registry refuses a contract.",
                detail=f"{path}: {response.text[:500]}",
                hint=f"Contracts must be {COMPATIBILITY}: new fields need a default, fields keep their types.",
            )
        return response.json()


def canonical(schema: Mapping[str, Any]) -> str:
    """Return a schema as the text that is registered and compared."""
    return json.dumps(schema, sort_keys=True, separators=(",", ":"))
