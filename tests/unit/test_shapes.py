"""Geometry from Debezium's structures to the text of Postgres."""

from __future__ import annotations

import base64
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.source import shapes


def wkb(kind: int, points: list[tuple[float, float]]) -> str:
    head = struct.pack("<BI", 1, kind) + (struct.pack("<I", 1) if kind == 3 else b"")
    body = b"".join(struct.pack("<dd", *point) for point in points)
    return base64.b64encode(head + struct.pack("<I", len(points)) + body).decode()


def shape(type_: str, kind: int, points: list[tuple[float, float]], **extensions: str) -> dict[str, Any]:
    return {"wkb": wkb(kind, points), "srid": None, "extensions": {"type": type_, **extensions}}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (-0.0, "-0"), (1.5, "1.5"), (0.0001, "0.0001"), (1e-05, "1e-05"), (1e14, "100000000000000"),
        (1e15, "1e+15"), (1234567890123456.0, "1.234567890123456e+15"), (-1.5e15, "-1.5e+15"), (1e20, "1e+20"),
        (999999999999999.9, "999999999999999.9"), ("NaN", "NaN"), ("-Infinity", "-Infinity"),
    ],
)  # fmt: skip
def test_a_double_has_the_digits_that_postgres_gives_it(value: Any, text: str) -> None:
    assert shapes.digits(value) == text


@given(st.floats(allow_nan=False))
def test_the_digits_of_a_double_mean_that_double(value: float) -> None:
    assert float(shapes.digits(value)) == value


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("Point", {"x": 1.0, "y": -2.5, "wkb": None, "srid": None}, "(1,-2.5)"),
        ("Circle", {"center": {"x": 1.0, "y": 2.0}, "radius": 3.5}, "<(1,2),3.5>"),
        ("Line", {"a": 1.0, "b": -1.0, "c": 0.5}, "{1,-1,0.5}"),
        ("Geometry", shape("lseg", 2, [(0, 1), (2, 3)]), "[(0,1),(2,3)]"),
        ("Geometry", shape("box", 3, [(3, 4), (3, 2), (1, 2), (1, 4), (3, 4)]), "(3,4),(1,2)"),
        ("Geometry", shape("path", 2, [(0, 1), (2, 3)], closed="true"), "((0,1),(2,3))"),
        ("Geometry", shape("path", 2, [(0, 1)], closed="false"), "[(0,1)]"),
    ],
)
def test_a_shape_is_the_text_of_postgres(name: str, value: dict[str, Any], text: str) -> None:
    assert shapes.BY_NAME[f"io.debezium.data.geometry.{name}"](value) == text


def test_a_shape_without_exact_text_stays_a_structure_that_no_contract_takes() -> None:
    polygon = shape("polygon", 3, [(0, 0), (1, 0), (0, 0)])
    assert shapes.geometry(polygon) is polygon
    assert shapes.geometry({"wkb": wkb(2, []), "srid": 4326}) == {"wkb": wkb(2, []), "srid": 4326}
