"""A table with a column of every type, and random rows for it: literals that Postgres itself reads.

``rows`` draws from a seed, so that a failing run is replayed by the same seed. A value is the literal's text, None is
NULL. ``EDGES`` are values that some store cannot hold, each with the sinks that have to refuse it.
"""

from __future__ import annotations

import json
import random
import string
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Draw = Callable[[random.Random], str]
    Row = dict[str, str | None]

TABLE = "public.every"
MOODS = ["fine", "not so fine", 'a "mood", {odd}']
ADDED = "added while it runs"
FAR = "_far"  # columns whose contract says string, so that they hold what Python's calendar lacks
EVERYONE = frozenset({"dynamodb", "lake", "search"})
_LETTERS = string.ascii_letters + string.digits + " \"'\\{},;:|#%\n\tüßé€漢🐘"


def _text(draw: random.Random) -> str:
    return "".join(draw.choices(_LETTERS, k=draw.choice([0, 1, 4, 30]))) if draw.random() > 0.1 else "NULL"


def _whole(bits: int) -> Draw:
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return lambda draw: str(draw.choice([low, high, 0, -1, draw.randint(low, high)]))


def _number(digits: int, scale: int) -> Draw:
    def number(draw: random.Random) -> str:
        whole = draw.randint(0, 10 ** draw.randint(1, digits - scale) - 1)
        fraction = "".join(draw.choices(string.digits, k=draw.randint(0, scale)))
        return f"{draw.choice(['', '-'])}{whole}{'.' + fraction if fraction else ''}"

    return number


def _float(exponent: int) -> Draw:
    def number(draw: random.Random) -> str:
        return repr(draw.choice([0.0, 1.0, 0.1, draw.uniform(-1, 1) * 10.0 ** draw.randint(-exponent, exponent)]))

    return number


def _day(draw: random.Random, first: int = 1, last: int = 9999) -> str:
    """Return a date; in 1582 a snapshot of Debezium 3.7.0 moves some by ten days."""
    year = draw.randint(first, last)
    return f"{year if year != 1582 else 1583:04}-{draw.randint(1, 12):02}-{draw.randint(1, 28):02}"


def _clock(draw: random.Random) -> str:
    fraction = draw.choice(["", ".5", f".{draw.randint(0, 999_999):06}"])
    return f"{draw.randint(0, 23):02}:{draw.randint(0, 59):02}:{draw.randint(0, 59):02}{fraction}"


def _zone(draw: random.Random) -> str:
    return draw.choice(["+00", "+02", "-08:00", "+05:30"])


def _moment(draw: random.Random) -> str:
    return f"{_day(draw, 2, 9998)} {_clock(draw)}"


def _far(usual: Draw, *odd: str) -> Draw:
    return lambda draw: draw.choice([usual(draw), *odd])


def _interval(draw: random.Random) -> str:
    parts = [f"{draw.randint(-40, 40)} {unit}" for unit in ("years", "mons", "days", "hours", "mins")]
    return " ".join([*draw.sample(parts, draw.randint(0, 5)), f"{draw.choice([0, 1, -0.5, 59.999999])} secs"])


def _document(draw: random.Random) -> str:
    leaf: list[Any] = [None, True, 12345678901234567890, 1.5, _text(draw), [1, [None, "x"]], {"a": {}}]
    return json.dumps({f"k{n}": draw.choice(leaf) for n in range(draw.randint(0, 4))}, ensure_ascii=draw.random() < 0.5)


def _hex(size: int) -> Draw:
    return lambda draw: draw.randbytes(size).hex()


def _network(draw: random.Random) -> str:
    return draw.choice([f"10.{draw.randint(0, 255)}.0.{draw.randint(0, 255)}/24", "::1", "2001:db8::ff00:42:8329"])


def _range(low: str, high: str) -> Draw:
    return lambda draw: draw.choice([f'["{low}","{high}")', f'("{low}",)', f'[,"{high}"]', "empty", "(,)"])


def _coordinate(draw: random.Random) -> str:
    return draw.choice([_float(20)(draw), str(draw.randint(-9, 9)), "1e15", "1234567890123456"])


def _points(count: int, begin: str, end: str) -> Draw:
    return lambda draw: (
        begin + ",".join(f"({_coordinate(draw)},{_coordinate(draw)})" for _ in range(count)) + end
    )  # fmt: skip


def _vector(draw: random.Random) -> str:
    return str([draw.choice([0, 0.1, -2.5, draw.uniform(-1, 1)]) for _ in range(3)])


SCALARS: dict[str, tuple[str, Draw]] = {
    "flag": ("boolean", lambda draw: draw.choice("tf")),
    "small": ("int2", _whole(16)), "middle": ("int4", _whole(32)), "large": ("int8", _whole(64)),
    "number": ("oid", lambda draw: str(draw.choice([0, 2**32 - 1, draw.randint(0, 2**32 - 1)]))),
    "single": ("float4", _float(37)), "double_": ("float8", _float(100)),
    "num": ("numeric", _number(38, 18)), "price": ("numeric(12,3)", _number(12, 3)),
    "words": ("text", _text), "short": ("varchar(40)", _text), "padded": ("char(8)", _hex(3)),
    "data": ("bytea", lambda draw: "\\x" + _hex(draw.randint(0, 9))(draw)),
    "day": ("date", _day), "clock": ("time", _clock), "zoned": ("timetz", lambda draw: _clock(draw) + _zone(draw)),
    "here": ("timestamp", _moment), "at": ("timestamptz", lambda draw: _moment(draw) + _zone(draw)),
    "rough": ("timestamp(3)", _moment), "ident": ("uuid", _hex(16)),
    "written": ("json", lambda draw: '{"a": 1,  "b" : ' + _document(draw) + "}"), "doc": ("jsonb", _document),
    "net": ("inet", _network), "cid": ("cidr", lambda draw: f"10.{draw.randint(0, 255)}.0.0/16"),
    "mac": ("macaddr", _hex(6)), "mac8": ("macaddr8", _hex(8)), "mood": ("mood", lambda draw: draw.choice(MOODS)),
    "ints_": ("int4range", _range("-3", "9")), "longs_": ("int8range", _range("-9007199254740993", "9007199254740993")),
    "nums_": ("numrange", _range("1.50", "2.5")),
    "days_": ("daterange", _range("2026-01-01", "2026-02-03")),
    "times_": ("tsrange", _range("2026-01-02 03:04:05.6", "infinity")),
    "moments_": ("tstzrange", _range("2026-01-02 03:04:05+02", "2027-01-02 03:04:05+00")),
}  # fmt: skip
SINGLE: dict[str, tuple[str, Draw]] = {
    "bit_": ("bit(1)", lambda draw: draw.choice("01")),
    "bits": ("bit(11)", lambda draw: f"{draw.getrandbits(11):011b}"),
    "cash": ("money", _number(15, 2)), "span": ("interval", _interval), "cost": ("price", _number(12, 3)),
    "words_": ("tsvector", lambda draw: " ".join(draw.sample(["cat", "sat", "'a b'", "mat:3A"], 3))),
    "letter": ('"char"', lambda draw: draw.choice(string.ascii_letters)), "half": ("halfvec(3)", _vector),
    "place": ("point", _points(1, "", "")), "segment": ("lseg", _points(2, "[", "]")),
    "box_": ("box", _points(2, "", "")), "open_": ("path", _points(3, "[", "]")),
    "shut": ("path", _points(3, "(", ")")), "disc": ("circle", lambda draw: f"<({_coordinate(draw)},2),3.5>"),
    "line_": ("line", lambda draw: f"{{1,{_coordinate(draw)},{_coordinate(draw)}}}"), "vec": ("vector(3)", _vector),
    "day_far": ("date", _far(_day, "infinity", "-infinity", "10000-01-01", "5874897-12-31")),
    "clock_far": ("time", _far(_clock, "24:00:00")),
    "here_far": ("timestamp", _far(_moment, "infinity", "-infinity", "12026-01-02 03:04:05.6", "0044-03-15 12:00 BC")),
    "at_far": ("timestamptz", _far(_moment, "infinity", "-infinity", "12026-01-02 03:04:05.6+00", "0044-03-15 BC")),
}  # fmt: skip


def _listed(usual: Draw) -> Draw:
    def values(draw: random.Random) -> str:
        drawn = [None if draw.random() < 0.2 else usual(draw) for _ in range(draw.choice([0, 1, 3]))]
        return "{" + ",".join("NULL" if value is None else _quoted(value) for value in drawn) + "}"

    return values


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _late(draw: random.Random) -> str:
    """Return a timestamp that arrives exact inside an array: older ones are refused."""
    return f"{_day(draw, 1583, 9998)} {_clock(draw)}"


INSIDE: dict[str, Draw] = {"here": _late, "rough": _late}
LISTS = {
    f"{name}_list": (f"{type_}[]", _listed(INSIDE.get(name, usual)))
    for name, (type_, usual) in SCALARS.items()
    if name not in {"clock", "mood"}  # time[] and arrays of enums are refused
}
COLUMNS: dict[str, tuple[str, Draw]] = {**SCALARS, **SINGLE, **LISTS}
TYPES = f"""
CREATE EXTENSION vector;
CREATE TYPE mood AS ENUM ({", ".join("'" + mood + "'" for mood in MOODS)});
CREATE DOMAIN price AS numeric(12, 3);
"""
CREATE = (
    TYPES
    + f"CREATE TABLE {TABLE} (id int8 PRIMARY KEY, "
    + ", ".join(f"{name} {type_}" for name, (type_, _) in COLUMNS.items())
    + f"); ALTER TABLE {TABLE} REPLICA IDENTITY FULL;"
)
_NO_NUMBER = frozenset({"dynamodb", "search"})
_NO_TWINS = _NO_NUMBER  # JSON with a name twice in one object
_IN_DYNAMODB, _IN_SEARCH = frozenset({"dynamodb"}), frozenset({"search"})
EDGES: tuple[tuple[str, str, frozenset[str]], ...] = (
    ("double_", "NaN", _NO_NUMBER), ("double_", "-Infinity", _NO_NUMBER), ("single", "Infinity", _NO_NUMBER),
    ("double__list", "{1,NaN}", _NO_NUMBER), ("num", "NaN", _IN_DYNAMODB), ("num", "-Infinity", _IN_DYNAMODB),
    ("num", "123456789012345678901234567890123456789.25", _IN_DYNAMODB),
    ("written", '{"a": 1, "b": {"c": 2, "c": 3}}', _NO_TWINS), ("doc", "[1]", _IN_SEARCH), ("doc", "null", _IN_SEARCH),
    ("day", "infinity", EVERYONE), ("day", "10000-01-01", EVERYONE), ("day", "0044-03-15 BC", EVERYONE),
    ("clock", "24:00:00", EVERYONE), ("here", "-infinity", EVERYONE), ("here", "12026-01-02 03:04:05", EVERYONE),
    ("at", "infinity", EVERYONE), ("at", "0044-03-15 00:00+00 BC", EVERYONE), ("day_list", "{infinity}", EVERYONE),
)  # fmt: skip


def rows(seed: int, first: int, count: int) -> Iterator[Row]:
    """Yield random rows with the ids from ``first`` on."""
    draw = random.Random(f"{seed}/{first}")
    for number in range(first, first + count):
        drawn = {name: None if draw.random() < 0.1 else usual(draw) for name, (_, usual) in COLUMNS.items()}
        yield {"id": str(number), **drawn}


def insert(row: Row) -> tuple[str, list[str | None]]:
    """Return the statement that writes a row, and its parameters."""
    types = {"id": "int8", **{name: type_ for name, (type_, _) in COLUMNS.items()}}
    values = ", ".join(f"%s::text::{types[name]}" for name in row)
    return f"INSERT INTO {TABLE} ({', '.join(row)}) VALUES ({values})", list(row.values())
