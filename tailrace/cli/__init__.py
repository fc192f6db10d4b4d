"""The command line: one click group, one module per noun, exit codes as tailrace.errors lists them.

It parses arguments, calls one function of the engine and prints what came back; no decision is taken here.
Subcommands are imported when they are named, so that ``tailrace --help`` and ``stack down`` stay quick.
"""

from __future__ import annotations

import importlib
import signal
import sys
from typing import NoReturn

import click

from tailrace.cli.context import err, print_error
from tailrace.errors import TailraceError

COMMANDS = {
    "init": "init", "check": "plan", "plan": "plan", "apply": "plan", "schema": "plan",
    "run": "run", "status": "status", "verify": "verify", "replay": "replay", "dlq": "dlq",
    "lake": "lake", "search": "search", "snapshot": "snapshot", "epoch": "epoch", "drill": "drill",
    "stack": "stack", "demo": "demo",
}  # fmt: skip
INTERRUPTED = 130


class _Lazy(click.Group):
    """A group that imports a subcommand's module when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"tailrace.cli.{COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, cmd_name)
        return command


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="tailrace")
def cli() -> None:
    """Keep DynamoDB tables, an S3 data lake and a search index true to a PostgreSQL database, and prove it.

    \b
    Exit codes: 0 success · 1 check or verify found something · 2 usage · 3 a project file is wrong ·
    4 a service does not answer in time · 5 refused, nothing changed · 65/70/75 a worker stopped · 130 interrupted
    """  # noqa: D301 - \b is click's mark for "do not rewrap"


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = cli(standalone_mode=False)
    except TailraceError as error:
        print_error(error, as_json="--json" in sys.argv)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        err.print("interrupted")
        sys.exit(INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
