"""One bulk request: its bytes, and what each item of the answer means.

Several changes of one document in a batch become its newest one; the older ones stay behind it as candidates, in case
the newest is rejected, so that the document ends as if they had been written one by one. It opens no connection.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal

import orjson

from tailrace.change import Rejection
from tailrace.errors import Rejected
from tailrace.sink import mapping
from tailrace.targets import DELETED_FIELD

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tailrace.change import Change
    from tailrace.contract import Contract

MIB = 1024 * 1024
REQUEST_BYTES = MIB  # large enough for the cluster, and the next one is made while it is on its way
BLOCKED = "cluster_block_exception"  # read-only, disk above its watermark, no master
MARKER = orjson.dumps({DELETED_FIELD: True})
ACTION = b'{"index":{"_id":%b,"version":%d,"version_type":"external"}}\n%b\n'
_FIELD = re.compile(r"field (?:\[([\w.-]+)\]|name '([\w.-]+)')|introduction of \[([\w.-]+)\]")
_BLOCK = re.compile(r"blocked by: \[([^\]]+)\]")
Verdict = Literal["written", "stale", "again", "blocked", "rejected", "missing", "unknown"]


@dataclass
class Document:
    """One document of a batch: its changes by position, newest last, and the bytes of the newest."""

    identity: str
    candidates: list[tuple[int, Change]]
    lines: bytes = b""

    @property
    def position(self) -> int:
        """The index in the batch of the change that is to be written."""
        return self.candidates[-1][0]


@dataclass
class Pending:
    """What is left of a batch: documents to be sent, and the changes that can never be."""

    contract: Contract
    renderer: mapping.Renderer
    documents: list[Document] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    stale: int = 0

    def take(self, batch: Sequence[Change]) -> None:
        """Take a batch: one document per id."""
        by_id: dict[str, Document] = {}
        for entry in enumerate(batch):
            identity = mapping.document_id(self.contract, entry[1].key)
            found = by_id.get(identity)
            if found is None:
                by_id[identity] = Document(identity, [entry])
            else:
                found.candidates.append(entry)
        for found in by_id.values():
            if len(found.candidates) > 1:
                found.candidates.sort(key=lambda entry: entry[1].version)
        self.documents += by_id.values()

    def due(self) -> Iterator[Document]:
        """Take every document off, rendered; what is rejected meanwhile comes the next time."""
        taken, self.documents = self.documents, []
        for document in taken:
            if document.lines or self._render(document):
                yield document

    def reject(self, document: Document, reason: str) -> None:
        """Give up the newest change of a document, and fall back on the one before it."""
        self.rejections.append(Rejection(document.position, reason))
        document.candidates.pop()
        if self._render(document):
            self.documents.append(document)

    def _render(self, document: Document) -> bool:
        """Render the newest change that can be; say whether there is one."""
        while document.candidates:
            position, change = document.candidates[-1]
            try:
                body = MARKER if change.value is None else self.renderer.document(change.value)
            except Rejected as error:
                self.rejections.append(Rejection(position, f"{error.problem} {error.detail}"))
                document.candidates.pop()
            else:
                document.lines = ACTION % (orjson.dumps(document.identity), change.version, body)
                return True
        return False

    def settle(self, document: Document, item: Mapping[str, Any]) -> Verdict:
        """Take one item of an answer; what is not over is kept by the caller."""
        verdict = judge(item)
        if verdict == "stale":
            self.stale += 1
        elif verdict == "rejected":
            self.reject(document, reason(item))
        return verdict


def judge(item: Mapping[str, Any]) -> Verdict:
    """Say what an item of a bulk answer means; docs/search.md has the table."""
    status, kind = int(item["status"]), str(item.get("error", {}).get("type", ""))
    if status in (HTTPStatus.OK, HTTPStatus.CREATED):
        return "written"
    if status == HTTPStatus.CONFLICT:
        return "stale"
    if kind == BLOCKED:
        return "blocked"
    if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return "again"
    if status in (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE):
        return "rejected"
    return "missing" if status == HTTPStatus.NOT_FOUND else "unknown"


def block(error: Mapping[str, Any]) -> str:
    """Say by what an index or a cluster is blocked, in OpenSearch's own words, which quote no document."""
    found = _BLOCK.search(str(error.get("reason", "")))
    return found.group(1) if found else "no reason given"


def reason(item: Mapping[str, Any]) -> str:
    """Say why an item was rejected, without the preview of its value that OpenSearch adds."""
    error = item.get("error", {})
    found = _FIELD.search(str(error.get("reason", "")))
    where = f" at the field {next(name for name in found.groups() if name)}" if found else ""
    return f"OpenSearch cannot index the document{where}: {error.get('type', 'no reason given')}."


def requests(documents: Iterable[Document], limit: int = REQUEST_BYTES) -> Iterator[list[Document]]:
    """Cut documents into requests of at most ``limit`` bytes, one document at least."""
    chunk: list[Document] = []
    size = 0
    for document in documents:
        if chunk and size + len(document.lines) > limit:
            yield chunk
            chunk, size = [], 0
        chunk.append(document)
        size += len(document.lines)
    if chunk:
        yield chunk
