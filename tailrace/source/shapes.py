"""Geometry as Postgres writes it, from the structures that Debezium sends: point, line, lseg, box, path, circle.

Coordinates are doubles on both sides and get the digits that Postgres gives them. Shapes of several points come as WKB
(a line string, or for a box the ring of its corners) with the type's name beside it. A polygon is not here: whether its
last point repeats the first is lost on the way. PostGIS is not here either. Pure.
"""

from __future__ import annotations

import base64
import math
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Pair = tuple[float, float]

_SCIENTIFIC = 1e15  # from here on Postgres writes an exponent, Python only from 1e16
_LINE, _POLYGON = 2, 3  # WKB's numbers of a line string and of a polygon
_HEAD = struct.Struct("<BI")


def digits(value: Any) -> str:
    """Return a double as Postgres writes it: the shortest digits that mean it (Postgres may write one more)."""
    number = float(value)
    if not math.isfinite(number):
        return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
    text = repr(number).removesuffix(".0")
    if "e" in text or abs(number) < _SCIENTIFIC:
        return text
    whole = text.lstrip("-").partition(".")[0]
    mantissa = text.lstrip("-").replace(".", "").rstrip("0")
    shown = mantissa[0] + (f".{mantissa[1:]}" if mantissa[1:] else "")
    return f"{'-' if number < 0 else ''}{shown}e+{len(whole) - 1:02}"


def _pair(point: Pair) -> str:
    return f"({digits(point[0])},{digits(point[1])})"


def point(value: Mapping[str, Any]) -> str:
    """Return ``(x,y)``."""
    return _pair((value["x"], value["y"]))


def circle(value: Mapping[str, Any]) -> str:
    """Return ``<(x,y),r>``."""
    return f"<{point(value['center'])},{digits(value['radius'])}>"


def line(value: Mapping[str, Any]) -> str:
    """Return ``{A,B,C}``."""
    return "{" + ",".join(digits(value[name]) for name in ("a", "b", "c")) + "}"


def geometry(value: Mapping[str, Any]) -> str | Mapping[str, Any]:
    """Return an lseg, a box or a path; what has no exact text stays the structure that it is, which no kind takes."""
    extensions = value.get("extensions") or {}
    write = _SHAPES.get(extensions.get("type", ""))
    if write is None:
        return value
    return write(_points(base64.b64decode(value["wkb"], validate=True)), extensions)


def _points(wkb: bytes) -> list[Pair]:
    order, kind = _HEAD.unpack_from(wkb)
    if order != 1 or kind not in (_LINE, _POLYGON):
        raise ValueError("not a little-endian line string or polygon")
    at = _HEAD.size + (4 if kind == _POLYGON else 0)  # a polygon says how many rings it has; ours has one
    (count,) = struct.unpack_from("<I", wkb, at)
    return list(struct.iter_unpack("<dd", wkb[at + 4 : at + 4 + count * 16]))


def _lseg(points: list[Pair], _: Mapping[str, str]) -> str:
    return f"[{','.join(map(_pair, points))}]"


def _box(points: list[Pair], _: Mapping[str, str]) -> str:
    return f"{_pair(points[0])},{_pair(points[2])}"


def _path(points: list[Pair], extensions: Mapping[str, str]) -> str:
    shown = ",".join(map(_pair, points))
    return f"({shown})" if extensions.get("closed") == "true" else f"[{shown}]"


_SHAPES: dict[str, Callable[[list[Pair], Mapping[str, str]], str]] = {"lseg": _lseg, "box": _box, "path": _path}
BY_NAME: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "io.debezium.data.geometry.Point": point, "io.debezium.data.geometry.Circle": circle,
    "io.debezium.data.geometry.Line": line, "io.debezium.data.geometry.Geometry": geometry,
}  # fmt: skip
