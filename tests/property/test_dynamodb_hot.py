"""The sketch of hot keys: bounded, never above the truth, and never without a key that is really hot."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from tailrace.sink.dynamodb_hot import FEW, HOT, SHOWN, HotKeys, fingerprint
from tailrace.sink.measures import Measure, Measures
from tailrace.testing import MemorySink

BATCHES = st.lists(st.lists(st.integers(0, 30).map(str), max_size=60), max_size=15)


@given(BATCHES, st.integers(1, 20))
def test_counts_are_bounded_and_near_the_truth(batches: list[list[str]], size: int) -> None:
    sketch, truth = HotKeys(size=size), Counter[str]()
    for batch in batches:
        sketch.add(batch)
        truth.update(batch)

    assert len(sketch.counts) <= size
    assert sketch.total == truth.total()
    for key, count in truth.items():
        assert count - truth.total() / (size + 1) <= sketch.counts.get(key, 0.0) <= count


@given(st.integers(1, 8), st.integers(20, 200))
def test_keys_with_a_real_share_are_shown_hottest_first_and_only_as_fingerprints(hot: int, cold: int) -> None:
    sketch = HotKeys()
    for turn in range(60):
        sketch.add([f"hot {key}" for key in range(hot) for _ in range(20 + 5 * key)])
        sketch.add([f"cold {turn} {key}" for key in range(cold)])

    shown = sketch.hottest()

    shares = {f"hot {key}": (20 + 5 * key) / (sum(20 + 5 * other for other in range(hot)) + cold) for key in range(hot)}
    sure = [fingerprint(key) for key, share in shares.items() if share > HOT + 0.01]
    assert {*sure} <= {key for key, _ in shown} <= {fingerprint(key) for key in shares}
    assert [share for _, share in shown] == sorted((share for _, share in shown), reverse=True)
    assert len(shown) <= SHOWN


def test_even_traffic_and_little_traffic_have_no_hot_keys() -> None:
    sketch = HotKeys()
    sketch.add(["one"] * int(FEW - 1))
    assert sketch.hottest() == []

    for _ in range(100):
        sketch.add(str(key) for key in range(1000))
    assert sketch.hottest() == []


def test_a_key_that_cooled_down_is_forgotten() -> None:
    sketch = HotKeys(window=1000)
    sketch.add(["old"] * 1000)
    for _ in range(100):
        sketch.add(["new"] * 100)

    assert [key for key, _ in sketch.hottest()] in ([], [fingerprint("new")])
    assert sketch.counts["old"] < 10


class Measured(MemorySink):
    def __init__(self, *figures: Measure) -> None:
        super().__init__("parcel")
        self.figures = figures

    def measures(self) -> tuple[Measure, ...]:
        return self.figures


class Open:
    def __init__(self, *sinks: MemorySink) -> None:
        self.sinks = sinks


def test_figures_of_several_sinks_become_one_of_each_kind() -> None:
    table, registry = (("table", "t"),), CollectorRegistry()
    units, pace = Measure("units", "Units", table, 2.5), Measure("pace", "Pace", table, 7, count=False)
    registry.register(Measures(Open(Measured(units, pace), MemorySink("parcel"), Measured(units))))

    shown = generate_latest(registry).decode()

    assert 'units_total{table="t"} 5.0' in shown
    assert 'pace{table="t"} 7.0' in shown
