"""The search index's writer: a batch becomes bulk requests with external versions, settled item by item.

It writes through the alias and demands that it is one (``require_alias``), so that a missing index is an error and
never made by accident. Fields that the contract has gained are added to the mapping when it opens. A delete is a
marker document, which outlives ``index.gc_deletes`` and is hidden by the alias's filter. A stale write (409) is a
success; an item the cluster had no room for is sent again alone, until the deadline. A blocked index is a pause with
its reason. docs/search.md lists what becomes of every answer.
``tailrace.sink.mapping`` makes the documents, ``tailrace.sink.bulk`` the requests; this module does the I/O.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import structlog
from opensearchpy import OpenSearch
from opensearchpy.exceptions import ConnectionError as NoConnection
from opensearchpy.exceptions import NotFoundError, SerializationError, TransportError

from tailrace.crashpoint import SinkWorker, reach
from tailrace.deadline import Deadline
from tailrace.errors import Fatal, Retryable
from tailrace.sink import bulk, mapping
from tailrace.sink.crew import Crew
from tailrace.sink.refreshing import Refresher
from tailrace.sink.writer import Batching, Written

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Future

    from tailrace.change import Change
    from tailrace.contract import Contract
    from tailrace.endpoints import Endpoints
    from tailrace.sink.bulk import Document, Pending
    from tailrace.targets import SearchIndex

# Enough of the answer to judge every item by its place: a fifth of its bytes.
ANSWER = "errors,items.*.status,items.*.error.type,items.*.error.reason"
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds
CONNECTIONS = 16
IN_FLIGHT = 2  # requests of one batch; documents of a batch are of different ids, so their order does not matter
FEW = 1_000  # documents that are sent without a thread
BLOCKED_SECONDS = 5.0
GRACE = 2.0  # seconds after a request's own deadline
TOO_SLOW = "OpenSearch was too slow for one batch."
NONSENSE = "OpenSearch's answer makes no sense."

log = structlog.get_logger()


class SearchWriter:
    """A Sink over one alias; ``write`` may be called for several partitions at once."""

    before = False  # a document's id is its key
    batching = Batching(rows=5000, bytes=8 * bulk.MIB, linger_seconds=0.0)

    def __init__(self, target: SearchIndex, contract: Contract, endpoints: Endpoints) -> None:
        self.records: Sequence[str] = (target.record,)
        self._target, self._contract = target, contract
        self._renderer = mapping.Renderer(target, contract)
        self._client = OpenSearch(endpoints.opensearch, max_retries=0, pool_maxsize=CONNECTIONS)
        self._refresher = Refresher(self._client, target)
        self._crew = Crew(CONNECTIONS)
        self._pause = threading.Event()  # set when closed: ends the wait between attempts

    def connect(self) -> None:
        """Look for the alias, and add the fields that its index lacks: the contract may have grown since `apply`."""
        alias, indices = self._target.alias, self._client.indices
        try:
            indices.get_alias(name=alias)
            self._refresher.connect()
            for index, found in indices.get_mapping(index=alias).items():
                there = found["mappings"].get("properties", {})
                lacking = mapping.missing(self._target, self._contract, there)
                if lacking:
                    indices.put_mapping(index=index, body={"properties": lacking})
                    reach(SinkWorker.FIELDS_ADDED)
                    log.info("search.fields.added", index=index, fields=sorted(lacking))
        except NotFoundError as error:
            raise self._missing() from error
        except TransportError as error:
            raise _explain(error) from error

    def write(self, batch: Sequence[Change], *, timeout: float) -> Written:
        """Index the newest change of every document."""
        deadline = Deadline.after(timeout)
        pending = bulk.Pending(self._contract, self._renderer)
        pending.take(batch)
        try:
            self._refresher.see(batch)
        except TransportError as error:
            raise _explain(error) from error
        pause = FIRST_PAUSE
        while pending.documents:
            busy = self._round(pending, deadline)
            pending.documents += busy
            if busy:
                self._wait(pause, deadline)
                pause = min(2 * pause, LONGEST_PAUSE)
        return Written(tuple(pending.rejections), pending.stale)

    def close(self) -> None:
        """Close the connections and end every wait."""
        self._pause.set()
        self._refresher.close()
        self._crew.close()
        self._client.close()

    def _wait(self, pause: float, deadline: Deadline) -> None:
        """Wait a random part of ``pause``; Retryable when the deadline would pass or the writer is closed."""
        seconds = pause * random.uniform(0.5, 1)  # noqa: S311 - jitter, not a secret
        if seconds >= deadline.remaining() or self._pause.wait(seconds):
            raise Retryable("OpenSearch has no room for some documents.", after=pause)

    def _round(self, pending: Pending, deadline: Deadline) -> list[Document]:
        """Send everything that is due, the next request made while the last is on its way; return the busy ones."""
        alone = len(pending.documents) <= FEW
        flying: deque[tuple[list[Document], Future[Any]]] = deque()
        busy: list[Document] = []
        for chunk in bulk.requests(pending.due()):
            if alone:  # not worth a change of threads
                busy += self._land(pending, chunk, partial(self._ask, chunk, deadline), deadline)
                continue
            flying.append((chunk, self._crew.submit(partial(self._ask, chunk, deadline))))
            if len(flying) == IN_FLIGHT:
                landed, answer = flying.popleft()
                busy += self._land(pending, landed, partial(answer.result, deadline.remaining() + GRACE), deadline)
        for landed, answer in flying:
            busy += self._land(pending, landed, partial(answer.result, deadline.remaining() + GRACE), deadline)
        return busy

    def _ask(self, chunk: list[Document], deadline: Deadline) -> Any:
        """Send one request and return its answer."""
        if deadline.passed():
            raise Retryable(TOO_SLOW)
        limits = {"require_alias": "true", "filter_path": ANSWER, "request_timeout": max(1.0, deadline.remaining())}
        body = b"".join(document.lines for document in chunk)
        return self._client.bulk(body=body, index=self._target.alias, params=limits)

    def _land(
        self, pending: Pending, chunk: list[Document], answered: Callable[[], Any], deadline: Deadline
    ) -> list[Document]:
        """Settle the items of a request's answer; return the documents that the cluster had no room for."""
        try:
            answer = answered()
        except TransportError as error:
            if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                return self._halve(pending, chunk, deadline)
            if error.status_code == HTTPStatus.NOT_FOUND:
                raise self._missing() from error
            raise _explain(error) from error
        except TimeoutError as error:
            raise Retryable(TOO_SLOW) from error
        except SerializationError as error:
            raise Retryable(NONSENSE, detail="It is no JSON.") from error
        if not _whole(answer, len(chunk)):
            raise Retryable(NONSENSE, detail="It does not settle every document that was sent.")
        reach(SinkWorker.BULK_HALF_LANDED)
        return self._settle(pending, chunk, answer["items"]) if answer["errors"] else []

    def _halve(self, pending: Pending, chunk: list[Document], deadline: Deadline) -> list[Document]:
        """Send a request that was too large in two halves; a document that is too large alone is rejected."""
        if len(chunk) == 1:
            pending.reject(chunk[0], "The document is larger than http.max_content_length of OpenSearch.")
            return []
        middle = len(chunk) // 2
        halves = (chunk[:middle], chunk[middle:])
        return [
            document
            for half in halves
            for document in self._land(pending, half, partial(self._ask, half, deadline), deadline)
        ]

    def _settle(self, pending: Pending, chunk: list[Document], items: Sequence[dict[str, Any]]) -> list[Document]:
        busy = []
        for document, item in zip(chunk, items, strict=True):
            verdict = pending.settle(document, item["index"])
            if verdict == "again":
                busy.append(document)
            elif verdict == "missing":
                raise self._missing()
            elif verdict == "blocked":
                raise _blocked(item["index"]["error"])
            elif verdict == "unknown":
                raise Fatal(
                    "OpenSearch answered one document in an unknown way.",
                    detail=f"{item['index']['status']} {item['index'].get('error', {}).get('type', '')}",
                )
        return busy

    def _missing(self) -> Fatal:
        return Fatal(
            f"There is no index behind the alias {self._target.alias}.",
            detail="It was never made, or was removed; a new one must be filled from the beginning.",
            hint="Run `tailrace apply`, then `tailrace replay` if it held documents before.",
        )


def _whole(answer: Any, documents: int) -> bool:
    """Say whether an answer speaks of every document: one that does not may come from something in between."""
    return (
        isinstance(answer, dict)
        and isinstance(answer.get("errors"), bool)
        and len(answer.get("items", ())) == documents
    )


def _blocked(error: Mapping[str, Any]) -> Retryable:
    """Return what a block is: the cluster's state, not the documents' fault, so they wait."""
    return Retryable(
        f"OpenSearch takes no writes, it is blocked: {bulk.block(error)}.",
        hint="Free disk space, or lift the block; the batch waits until then.",
        after=BLOCKED_SECONDS,
    )


def _explain(error: TransportError) -> Fatal | Retryable:
    """Tell a cluster that may come back from a request it will never take."""
    status = error.status_code
    if isinstance(error, NoConnection) or not isinstance(status, int):
        return Retryable("OpenSearch does not answer.", detail=type(error).__name__)
    if error.error == bulk.BLOCKED:
        return _blocked(error.info["error"])
    detail = f"{status} {error.error if isinstance(error.error, str) else ''}"[:200]
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in (
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.REQUEST_TIMEOUT,
    ):
        return Retryable("OpenSearch cannot take requests now.", detail=detail)
    return Fatal("OpenSearch refuses a request.", detail=detail, hint="Look at its log, and at user and password.")
