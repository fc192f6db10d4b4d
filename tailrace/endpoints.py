"""Where the services are: one frozen record, resolved once per command.

Each address comes from the first of: the environment variable ``TAILRACE_<NAME>``, the ``[endpoints]`` table of
tailrace.toml, ``.tailrace/endpoints.json`` in the project folder (which ``tailrace stack up`` writes).
It opens no connection and never prints a password.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from tailrace.errors import ProjectError

if TYPE_CHECKING:
    from collections.abc import Mapping

STATE_FOLDER = ".tailrace"
FILE_NAME = "endpoints.json"


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Addresses of the seven services, as their clients take them.

    ``postgres`` is a URL without a database name, ``postgresql://user:password@host:port``;
    ``kafka`` is a bootstrap list; the others are http(s) URLs without a trailing slash.
    """

    postgres: str
    kafka: str
    connect: str
    registry: str
    dynamodb: str
    s3: str
    opensearch: str

    def database(self, name: str) -> str:
        """Return the URL of one database of the Postgres server."""
        return f"{self.postgres.rstrip('/')}/{name}"

    def public(self) -> dict[str, str]:
        """Return the addresses with passwords replaced by ``***``, fit to be printed."""
        return {name: without_password(value) for name, value in asdict(self).items()}

    def save(self, folder: Path) -> None:
        """Write ``.tailrace/endpoints.json`` below ``folder``, readable by its owner alone."""
        path = folder / STATE_FOLDER / FILE_NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")


def without_password(url: str) -> str:
    """Return ``url`` with its password replaced by ``***``."""
    parts = urlsplit(url)
    if not parts.password:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", ":***@")))


def resolve(folder: Path, declared: Mapping[str, str], environ: Mapping[str, str] | None = None) -> Endpoints:
    """Resolve every address, or raise ProjectError naming those that are missing."""
    env = os.environ if environ is None else environ
    stack = saved(folder)
    found = {
        name: env.get(f"TAILRACE_{name.upper()}") or declared.get(name) or stack.get(name, "")
        for name in (field.name for field in fields(Endpoints))
    }
    missing = [name for name, value in found.items() if not value]
    if missing:
        raise ProjectError(
            f"No address is known for: {', '.join(missing)}.",
            detail=f"Looked at TAILRACE_* variables, [endpoints] in tailrace.toml and {STATE_FOLDER}/{FILE_NAME}.",
            hint="Run `tailrace stack up` for a local stack, or set the variables.",
        )
    return Endpoints(**found)


def saved(folder: Path) -> dict[str, str]:
    """Return what ``stack up`` wrote below ``folder``, or nothing."""
    path = folder / STATE_FOLDER / FILE_NAME
    if not path.exists():
        return {}
    content = json.loads(path.read_text())
    return {str(name): str(value) for name, value in content.items()}
