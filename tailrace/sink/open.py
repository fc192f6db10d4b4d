"""From a declaration in sinks/*.py to the writer that keeps it true.

A user's own sink is its own writer. Store clients are imported only for the stores that a project uses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailrace.errors import Fatal
from tailrace.targets import DynamoDBTable, LakeTable, RawLakeTable, SearchIndex

if TYPE_CHECKING:
    from tailrace.project import Project
    from tailrace.sink.rawtopic import Life
    from tailrace.targets import Sink, Target


def open_sink(declared: Target | Sink, project: Project, life: Life | None = None) -> Sink:
    """Return the writer of one declaration; it opens no connection before ``connect`` or the first write.

    ``life`` is what raw tables of the lake ask about the epoch.
    """
    if isinstance(declared, DynamoDBTable):
        from tailrace.sink.dynamodb import DynamoDBWriter  # noqa: PLC0415 - boto3 only where it is used

        bucket = project.settings.lake.bucket
        return DynamoDBWriter(declared, project.contract(declared.record), project.endpoints, bucket=bucket)
    if isinstance(declared, LakeTable):
        from tailrace.sink.lake import LakeWriter  # noqa: PLC0415 - pyarrow only where it is used

        return LakeWriter(declared, project.contract(declared.record), project.endpoints, project.settings.lake)
    if isinstance(declared, RawLakeTable):
        from tailrace.sink.lake_raw import RawLakeWriter  # noqa: PLC0415 - the same

        if life is None:
            raise Fatal("A raw table of the lake needs the epoch to give versions.", detail=declared.folder)
        return RawLakeWriter(declared, project.endpoints, project.settings.lake, life)
    if isinstance(declared, SearchIndex):
        from tailrace.sink.search import SearchWriter  # noqa: PLC0415 - the search client only where it is used

        return SearchWriter(declared, project.contract(declared.record), project.endpoints)
    return declared
