"""What sinks measure about their stores, in a worker's /metrics.

A sink may offer ``measures()``, which returns ``Measure``s. Several sinks may measure the same thing: counts are added
up, of levels the highest is shown. A sink that is opened again counts from zero, as a worker that starts again does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from prometheus_client.core import Metric

    from tailrace.targets import Sink

    class Open(Protocol):
        """Whatever has open sinks."""

        @property
        def sinks(self) -> Sequence[Sink]:
            """The sinks."""


@dataclass(frozen=True)
class Measure:
    """One figure: a count that only grows, or a level. ``labels`` are (name, value)."""

    name: str
    help: str
    labels: tuple[tuple[str, str], ...]
    value: float
    count: bool = True


class Measures(Collector):
    """The figures of all open sinks of a worker."""

    def __init__(self, stores: Open) -> None:
        self._stores = stores

    def collect(self) -> Iterator[Metric]:
        """Yield each figure once for each set of labels."""
        merged: dict[tuple[str, tuple[tuple[str, str], ...]], Measure] = {}
        for measure in (measure for sink in self._stores.sinks for measure in measures(sink)):
            place = (measure.name, measure.labels)
            held = merged.get(place)
            merged[place] = measure if held is None else _together(held, measure)
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for measure in merged.values():
            kind = CounterMetricFamily if measure.count else GaugeMetricFamily
            names = [name for name, _ in measure.labels]
            family = families.setdefault(measure.name, kind(measure.name, measure.help, labels=names))
            family.add_metric([value for _, value in measure.labels], measure.value)
        yield from families.values()


def measures(sink: Sink) -> Iterable[Measure]:
    """Return what a sink measures; nothing where it measures nothing."""
    tell = getattr(sink, "measures", None)
    return tell() if callable(tell) else ()


def _together(one: Measure, other: Measure) -> Measure:
    value = one.value + other.value if one.count else max(one.value, other.value)
    return Measure(one.name, one.help, one.labels, value, one.count)
