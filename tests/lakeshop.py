"""A project folder with one lake table and a bucket of its own, and the commands of ``tailrace lake`` on it."""

from __future__ import annotations

import json
import uuid
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner, Result

from tailrace import aws
from tailrace.cli.lake import lake
from tailrace.errors import TailraceError
from tailrace.settings import LakeSettings
from tailrace.sink.lake import LakeWriter
from tailrace.targets import LakeTable
from tailrace.testing import PARCEL

if TYPE_CHECKING:
    from pathlib import Path

    from tailrace.change import Change
    from tailrace.contract import Contract
    from tailrace.endpoints import Endpoints


class Shop:
    """A project folder with one lake table, and its bucket."""

    def __init__(self, folder: Path, endpoints: Endpoints) -> None:
        self.folder, self.endpoints = folder, endpoints
        self.bucket = f"query-{uuid.uuid4().hex[:8]}"
        connector = {"topic.prefix": "shop.raw", "table.include.list": "public.parcel"}
        files = {
            "tailrace.toml": f'[pipeline]\nname = "shop"\nconnector = "shop"\n[lake]\nbucket = "{self.bucket}"\n',
            "connectors/shop.json": json.dumps(connector),
            "schemas/parcel.avsc": json.dumps(PARCEL.schema),
            "sinks/lake.py": 'from tailrace import LakeTable\nparcels = LakeTable("parcels", record="parcel")\n',
        }
        for name, content in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(content)
        self.s3 = aws.client("s3", endpoints.s3)
        self.s3.create_bucket(Bucket=self.bucket)

    def keys(self) -> list[str]:
        """Return the keys of all Parquet objects."""
        found = self.s3.list_objects_v2(Bucket=self.bucket).get("Contents", ())
        return [entry["Key"] for entry in found if entry["Key"].endswith(".parquet")]

    def copy(self, folder: Path) -> str:
        """Copy the bucket to a folder, as `aws s3 sync` does; return what stands for s3://BUCKET then."""
        for entry in self.s3.list_objects_v2(Bucket=self.bucket)["Contents"]:
            path = folder / entry["Key"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.s3.get_object(Bucket=self.bucket, Key=entry["Key"])["Body"].read())
        return str(folder)

    def ask(self, *arguments: str, endpoints: Endpoints | None = None) -> Result:
        """Ask ``tailrace lake query``."""
        return self.run("query", *arguments, endpoints=endpoints)

    def run(self, *arguments: str, endpoints: Endpoints | None = None) -> Result:
        """Run a command of ``tailrace lake`` in a process's environment that names the servers."""
        there = endpoints or self.endpoints
        environ = {f"TAILRACE_{name.upper()}": address for name, address in asdict(there).items()}
        return CliRunner().invoke(lake, [*arguments, "--project", str(self.folder)], env=environ)

    def done(self, *arguments: str) -> str:
        """Return what a command prints that succeeds."""
        answer = self.run(*arguments)
        assert answer.exit_code == 0, answer.exception
        return answer.stdout

    def refused(self, *arguments: str) -> Exception | None:
        """Return the error of a command that fails."""
        failed = self.run(*arguments).exception
        return failed if isinstance(failed, Exception) else None

    def rows(self, *arguments: str) -> Any:
        """Return the rows of ``--json``."""
        answer = self.ask(*arguments, "--json")
        assert answer.exit_code == 0, answer.exception
        return json.loads(answer.stdout)

    def failure(self, *arguments: str, endpoints: Endpoints | None = None) -> TailraceError:
        """Return the error of a command that fails."""
        failed = self.ask(*arguments, endpoints=endpoints).exception
        assert isinstance(failed, TailraceError)
        return failed

    def close(self) -> None:
        for entry in self.s3.list_objects_v2(Bucket=self.bucket).get("Contents", ()):
            self.s3.delete_object(Bucket=self.bucket, Key=entry["Key"])
        self.s3.delete_bucket(Bucket=self.bucket)
        self.s3.close()


def write(shop: Shop, contract: Contract, *changes: Change) -> None:
    """Write changes to the lake under a contract."""
    target = LakeTable("parcels", record="parcel")
    with closing(LakeWriter(target, contract, shop.endpoints, LakeSettings(bucket=shop.bucket))) as writer:
        assert not writer.write(changes, timeout=30)
