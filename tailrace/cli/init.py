"""``tailrace init``: a new project folder."""

from __future__ import annotations

from pathlib import Path

import click

from tailrace.cli.context import json_option, out, print_json
from tailrace.control.init import lay_out, wanted

NEXT = """
Next:
  cd {folder}
  tailrace stack up                # a local stack; or set TAILRACE_POSTGRES, TAILRACE_KAFKA, ... to your own servers
  tailrace schema derive --all     # one contract per table into schemas/, yours to edit
  tailrace check                   # what would go wrong, with the SQL that mends it
  tailrace apply                   # publication, topics, schemas, stores, connector
  tailrace run all"""


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), metavar="DIR")
@click.option("--name", help="The pipeline's name.  [default: the folder's name]")
@click.option("--database", metavar="NAME", help="The database to capture.  [default: the pipeline's name]")
@click.option("--tables", default="", metavar="SCHEMA.TABLE,...", help="The tables to capture.")
@json_option
def init(folder: Path, name: str | None, database: str | None, tables: str, *, as_json: bool) -> None:
    """Lay out a new project in DIR: tailrace.toml, connectors/, schemas/, processors/, sinks/."""
    listed = [table.strip() for table in tables.split(",") if table.strip()]
    what = wanted(folder, name, database, listed)
    written = lay_out(folder, what)
    if as_json:
        print_json({"folder": str(folder), "name": what.name, "files": written})
        return
    for path in written:
        out.print(f"  {folder / path}")
    if not listed:
        out.print(f"\nSay which tables in connectors/{what.name}.json (table.include.list) and in sinks/.")
    out.print(NEXT.format(folder=folder))
