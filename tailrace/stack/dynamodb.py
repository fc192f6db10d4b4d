"""DynamoDB Local. It listens on every interface (it knows no other way) and takes any credentials."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tailrace.stack.java import java
from tailrace.stack.process import Launch
from tailrace.stack.service import Service, answers

if TYPE_CHECKING:
    from tailrace.stack.home import Home

CREDENTIAL = "tailrace/20200101/us-east-1/dynamodb/aws4_request"
LIST_TABLES = {
    "X-Amz-Target": "DynamoDB_20120810.ListTables",
    "Content-Type": "application/x-amz-json-1.0",
    "Authorization": f"AWS4-HMAC-SHA256 Credential={CREDENTIAL}, SignedHeaders=host, Signature=0",
}


def launch(home: Home) -> Launch:
    """Return the server's command; its data is in one SQLite file."""
    folder = home.folder("dynamodb")
    data = home.folder("dynamodb/data")
    artifacts = home.cache.lock.of("dynamodb")
    natives = [home.cache.path(item).parent for item in artifacts if item.path.suffix in {".so", ".dylib"}]
    options = [
        f"-Djava.library.path={os.pathsep.join(map(str, natives))}",
        "-cp",
        home.cache.class_path("dynamodb"),
    ]
    main = "software.amazon.dynamodb.services.local.main.ServerRunner"
    arguments = ["-dbPath", str(data), "-sharedDb", "-disableTelemetry", "-port", str(home.port("dynamodb"))]
    return Launch([*java(home, "dynamodb", heap="256m", options=options), main, *arguments], cwd=folder)


def ready(home: Home) -> bool:
    """List the tables."""
    return answers(home.url("dynamodb"), method="POST", headers=LIST_TABLES, content="{}")


SERVICE = Service("dynamodb", ("dynamodb",), launch, ready)
