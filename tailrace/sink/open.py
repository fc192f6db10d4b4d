"""From a declaration in sinks/*.py to the writer that keeps it true.

A user's own sink is its own writer. Store clients are imported only for the stores that a project uses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailrace.targets import DynamoDBTable, LakeTable, SearchIndex

if TYPE_CHECKING:
    from tailrace.project import Project
    from tailrace.targets import Sink, Target


def open_sink(declared: Target | Sink, project: Project) -> Sink:
    """Return the writer of one declaration; it opens no connection before ``connect`` or the first write."""
    if isinstance(declared, DynamoDBTable):
        from tailrace.sink.dynamodb import DynamoDBWriter  # noqa: PLC0415 - boto3 only where it is used

        bucket = project.settings.lake.bucket
        return DynamoDBWriter(declared, project.contract(declared.record), project.endpoints, bucket=bucket)
    if isinstance(declared, LakeTable):
        from tailrace.sink.lake import LakeWriter  # noqa: PLC0415 - pyarrow only where it is used

        return LakeWriter(declared, project.contract(declared.record), project.endpoints, project.settings.lake)
    if isinstance(declared, SearchIndex):
        from tailrace.sink.search import SearchWriter  # noqa: PLC0415 - the search client only where it is used

        return SearchWriter(declared, project.contract(declared.record), project.endpoints)
    return declared
