"""What every command shares: the --project and --json options, and how results and errors are printed.

Results go to standard output, progress and errors to standard error, so that ``--json`` output can be piped.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from tailrace.errors import TailraceError

out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)

project_option = click.option(
    "--project",
    "folder",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    default=Path(),
    show_default="the current folder",
    help="The project folder, where tailrace.toml is.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document for machines.")


def print_json(value: Any) -> None:
    """Print one JSON document to standard output."""
    click.echo(json.dumps(value, indent=2, default=str))


def print_error(error: TailraceError, *, as_json: bool = False) -> None:
    """Print problem, detail and hint to standard error."""
    if as_json:
        click.echo(json.dumps(error.as_dict()), err=True)
        return
    err.print(f"[bold red]error:[/] {_plain(error.problem)}")
    if error.detail:
        err.print(f"  detail: {_plain(error.detail)}")
    if error.hint:
        err.print(f"  hint:   {_plain(error.hint)}")


def _plain(text: str) -> str:
    """Keep square brackets from being read as markup."""
    return text.replace("[", "\\[")
