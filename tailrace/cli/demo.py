"""``tailrace demo``: the whole pipeline on live traffic; ``demo seed`` and ``demo traffic`` are its parts."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tailrace import logs, project
from tailrace.cli.context import err, json_option, out, print_json, project_option
from tailrace.cli.run import stop_on_signals
from tailrace.demo import database, seed, traffic

if TYPE_CHECKING:
    from tailrace.demo.traffic import Report

SEED = 1
seed_option = click.option("--seed", "number", type=int, default=SEED, show_default=True, help="Seed of all choices.")
rate_option = click.option(
    "--rate", type=click.FloatRange(0.1, 10_000), default=200, show_default=True, help="Row changes per second."
)


@click.group(invoke_without_command=True)
@project_option
@click.option("--seconds", type=click.FloatRange(1), default=30, show_default=True, help="How long traffic is shown.")
@rate_option
@seed_option
@click.option("--keep", is_flag=True, help="Leave stack and workers running, and say what to try next.")
@click.option("--yes", is_flag=True, help="Do not ask before removing what an earlier demo left running.")
@click.pass_context
def demo(
    context: click.Context, folder: Path, seconds: float, rate: float, number: int, *, keep: bool, yes: bool
) -> int | None:
    """Show the whole pipeline at work on the reference bank, and prove that all stores equal the source.

    Starts the local stack, fills a small bank, applies the project, runs the workers, makes live traffic, looks three
    things up, verifies every row in every store, and stops everything. Exit code 1 when anything differs.
    """
    if context.invoked_subcommand is not None:
        return None
    from tailrace.demo import show  # noqa: PLC0415 - the parts alone are quick to start

    options = show.Options(folder.resolve(), seconds=seconds, rate=rate, seed=number, keep=keep)
    interactive = click.get_text_stream("stdin").isatty()
    return show.Demo(options, out, lambda question: yes or (interactive and click.confirm(question))).run()


@demo.command("stop")
@project_option
def stop_demo(folder: Path) -> None:
    """Stop what `tailrace demo --keep` left running; the data stays until the next demo."""
    from tailrace.demo import show  # noqa: PLC0415 - the parts alone are quick to start

    found = show.stop(folder.resolve())
    out.print(
        "the workers and the stack are stopped" if found else "the stack is stopped; no workers of a demo were running"
    )


@demo.command("seed")
@project_option
@seed_option
@click.option(
    "--customers", type=click.IntRange(3), default=seed.CUSTOMERS, show_default=True, help="With 2 accounts each."
)
def seed_bank(folder: Path, number: int, customers: int) -> None:
    """Create the bank's database and tables, and fill them when they are empty."""
    loaded = project.load(folder)
    ran = database.prepare(loaded.endpoints, loaded.connector.database, loaded.folder / "migrations")
    with closing(database.connect(loaded.endpoints.database(loaded.connector.database))) as opened:
        people, accounts = seed.fill(opened, seed=number, customers=customers)
    out.print(f"migrations: {', '.join(ran) or 'nothing new'}")
    out.print(
        f"rows: {people:,} customers and {accounts:,} accounts added" if people else "rows: the bank has some already"
    )


@demo.command("traffic")
@project_option
@seed_option
@rate_option
@click.option("--seconds", type=click.FloatRange(0), help="How long; until Ctrl-C or SIGTERM where not given.")
@click.option(
    "--key-changes/--no-key-changes", default=True, show_default=True, help="Change primary keys now and then."
)
@json_option
def make_traffic(
    folder: Path, number: int, rate: float, seconds: float | None, *, key_changes: bool, as_json: bool
) -> None:
    """Make live traffic in the bank: transfers, new, edited and deleted customers, changed keys, rollbacks, bursts.

    The sum of all balances stays the same; the command fails when it does not.
    """
    logs.configure()
    loaded = project.load(folder)
    stop = threading.Event()
    stop_on_signals(stop)
    url = loaded.endpoints.database(loaded.connector.database)
    with closing(database.connect(url, name="tailrace demo traffic")) as opened:
        made = traffic.Traffic(opened, seed=number, rate=rate, keys_change=key_changes)
        if not as_json:
            err.print(f"about {rate:g} changes/s, seed {number}; Ctrl-C stops it")
        report = made.run(stop, seconds=seconds)
    if as_json:
        print_json(report.as_dict())
    else:
        _print_report(report)


def _print_report(report: Report) -> None:
    found = report.as_dict()
    out.print(f"{found['changes']:,} changes in {found['seconds']:g} s ({found['changes_per_second']:g}/s)")
    for kind, count in found["transactions"].items():
        out.print(f"  {count:>6,}  {kind}")
    out.print(f"  {found['rolled_back']:>6,}  rolled back on purpose")
    if found["overtaken"]:
        out.print(f"  {found['overtaken']:>6,}  overtaken by somebody else's change")
    out.print(f"sum of all balances: {found['balance_before']} before, {found['balance_after']} after")
