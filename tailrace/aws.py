"""AWS-like clients, made in one place: endpoint, region and credentials.

Credentials come from the usual chain of boto3; only where none are found and the endpoint is on this machine, fixed
local ones are used, because the embedded DynamoDB and S3 accept any. Retries are boto3's standard mode, few, so that
the worker's own retry decides.
"""

from __future__ import annotations

import os
from functools import cache
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.config import Config

DEFAULT_REGION = "us-east-1"
LOCAL = {"aws_access_key_id": "tailrace", "aws_secret_access_key": "tailrace"}


def client(service: str, url: str, **config: Any) -> Any:
    """Return a boto3 client of ``service`` at ``url``; keyword arguments go to botocore's Config."""
    core = botocore.session.get_session()
    session: Any = boto3.session.Session(botocore_session=core)  # its stubs know literal service names only
    core.register_component("data_loader", _models())
    local = LOCAL if is_local(url) and session.get_credentials() is None else {}
    settings = {
        "retries": {"mode": "standard", "total_max_attempts": 2},
        "connect_timeout": 5,
        "read_timeout": 30,
        "max_pool_connections": 32,
        **config,
    }
    return session.client(
        service, endpoint_url=url, region_name=session.region_name or region(), config=Config(**settings), **local
    )


@cache
def _models() -> Any:
    """Return what reads how the services are called; it keeps that, which a client of its own would read for 80 ms."""
    return botocore.session.get_session().get_component("data_loader")


def region() -> str:
    """Return the region of the environment, or the default one."""
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or DEFAULT_REGION


def is_local(url: str) -> bool:
    """Say whether a URL points at this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
