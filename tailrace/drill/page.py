"""A drill as one HTML file: the timeline of faults over the lag as a picture, then what was proved. Pure."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tailrace.drill.report import Found, Quiet, Struck
    from tailrace.drill.watch import Sample

WIDTH, HEIGHT, ROW = 1000, 240, 16
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:1040px;color:#222}"
    "table{border-collapse:collapse}td,th{padding:.2em .8em;text-align:left;border-bottom:1px solid #ddd}"
    ".ok{color:#0a7d36}.bad{color:#b3261e}svg text{font:11px system-ui,sans-serif}"
)


def page(found: Found) -> str:
    """Return the whole file."""
    verdict = '<b class="ok">equal</b>' if found.ok else '<b class="bad">not equal</b>'
    recovery = found.recovery()
    facts = [
        ("seed", str(found.seed)),
        ("seconds", f"{found.seconds:g}"),
        ("primary keys", found.keys),
        ("group members", found.members),
        ("faults", str(len(found.struck))),
        ("live again after a fault", f"p50 {_seconds(recovery['p50'])}, longest {_seconds(recovery['max'])}"),
        ("from the last change until all stores had it", _seconds(found.quiet_seconds)),
        ("sum of all balances", ", ".join(f"{name} {total}" for name, total in found.balances.items()) or "not asked"),
        ("and while the workload rested", ", ".join(_moment(moment) for moment in found.quiet) or "it did not rest"),
        *((f"{name}", f"{count:,}") for name, count in found.duplicates.items()),
        ("dead letters", str(sum(found.parked.values()))),
        ("trouble", "; ".join(found.trouble) or "none"),
    ]
    return "\n".join(
        [
            f"<!doctype html><meta charset=utf-8><title>tailrace drill {found.seed}</title><style>{STYLE}</style>",
            f"<h1>tailrace drill, seed {found.seed}: every store {verdict} to the source</h1>",
            picture(found),
            "<table>",
            *(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in facts),
            "</table>",
            *_faults(found),
            *_workers(found),
            *_checks(found),
        ]
    )


def picture(found: Found) -> str:
    """Return the lag over time, on a logarithmic scale, with every fault as a bar below it."""
    end = max([found.seconds, *(sample.at for sample in found.samples), *(struck.ended for struck in found.struck)])
    scale = WIDTH / (end or 1.0)
    high = HEIGHT + ROW * (len(found.struck) + 2)
    return "\n".join(
        [
            f'<svg viewBox="0 0 {WIDTH} {high}" width="100%" role="img" aria-label="lag and faults over time">',
            *_grid(),
            f'<polyline fill="none" stroke="#1a56b0" stroke-width="1.5" points="{_line(found.samples, scale)}"/>',
            *_rests(found.quiet, scale),
            *_bars(found.struck, scale),
            "</svg>",
        ]
    )


def _grid() -> Iterator[str]:
    for lag in (0.1, 1, 10, 100):
        y = _y(lag)
        yield f'<line x1="0" x2="{WIDTH}" y1="{y}" y2="{y}" stroke="#ddd"/>'
        yield f'<text x="2" y="{y - 2}">{lag:g} s behind</text>'


def _line(samples: Sequence[Sample], scale: float) -> str:
    return " ".join(f"{sample.at * scale:.1f},{_y(sample.lag)}" for sample in samples)


def _bars(struck: Sequence[Struck], scale: float) -> Iterator[str]:
    for number, fault in enumerate(struck):
        x, y = fault.began * scale, HEIGHT + ROW * (number + 1)
        wide = max(2.0, (fault.ended - fault.began) * scale)
        again = "" if fault.recovered is None else f", live again after {fault.recovered:g} s"
        side = "end" if x > WIDTH / 2 else "start"
        at = x - 4 if side == "end" else x + wide + 4
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{y}" stroke="#b3261e" stroke-opacity=".3"/>'
        yield f'<rect x="{x:.1f}" y="{y}" width="{wide:.1f}" height="{ROW - 5}" fill="#b3261e"/>'
        yield f'<text x="{at:.1f}" y="{y + 9}" text-anchor="{side}">{escape(fault.name)}{again}</text>'


def _y(lag: float) -> float:
    """Return the height of a lag: 0.03 s at the bottom, 1,000 s at the top."""
    share = (math.log10(min(max(lag, 0.03), 1000.0)) - math.log10(0.03)) / (3 - math.log10(0.03))
    return round(HEIGHT * (1 - share), 1)


def _rests(quiet: Sequence[Quiet], scale: float) -> Iterator[str]:
    for moment in quiet:
        x, wide = moment.at * scale, max(2.0, moment.seconds * scale)
        yield f'<rect x="{x:.1f}" y="0" width="{wide:.1f}" height="{HEIGHT}" fill="#0a7d36" opacity="0.15"/>'
        yield f'<text x="{x + 2:.1f}" y="{HEIGHT - 4}">quiet</text>'


def _moment(moment: Quiet) -> str:
    return f"at {moment.at:g} s {'the same everywhere' if moment.ok else dict(moment.balances)}"


def _faults(found: Found) -> Iterator[str]:
    yield "<table><tr><th>at</th><th>fault</th><th>seconds</th><th>live again after</th><th>calls that met it</th></tr>"
    for struck in found.struck:
        met = "" if struck.met is None else f"{struck.met:,}"
        cells = (f"{struck.began:g} s", struck.name, f"{struck.ended - struck.began:.1f}", _again(struck), met)
        yield _row(cells)
    yield "</table>"


def _again(struck: Struck) -> str:
    return "the next one came first" if struck.recovered is None else f"{struck.recovered:g} s"


def _workers(found: Found) -> Iterator[str]:
    names = next(iter(found.counted.values()), {})
    yield f"<table><tr><th>worker</th>{''.join(f'<th>{escape(name)}</th>' for name in names)}</tr>"
    for worker, counts in found.counted.items():
        yield _row((worker, *(f"{count:,}" for count in counts.values())))
    yield "</table>"


def _row(cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def _checks(found: Found) -> Iterator[str]:
    report = found.verified
    if report is None:
        return
    yield "<table><tr><th>table</th><th>sink</th><th>compared</th><th>equal</th><th>different</th></tr>"
    for check in report.checks:
        cells = (check.table, check.sink, f"{check.compared:,}", f"{check.equal:,}", f"{len(check.differences):,}")
        yield _row(cells)
    yield "</table>"


def _seconds(value: float | None) -> str:
    return "not seen" if value is None else f"{value:g} s"
