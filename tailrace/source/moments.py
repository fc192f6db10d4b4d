"""Dates, times and intervals as Postgres itself writes them (ISO style, time zone UTC), also those Python cannot hold.

Python ends at year 1, at year 9999 and before 24:00:00. A value beyond that is its text: ``infinity``, ``24:00:00``,
``0044-03-15 BC``, ``12026-01-02 03:04:05``. The calendar is the proleptic Gregorian one, as in Postgres. Pure.
"""

from __future__ import annotations

import re
from datetime import date, datetime, time

DAY_US = 86_400_000_000
_SECOND = 1_000_000
_CYCLE_DAYS, _CYCLE_YEARS = 146_097, 400  # after so many days the calendar repeats
_EPOCH_DAY = date(1970, 1, 1).toordinal()
# What Debezium 3.7.0 makes of infinity, measured: a date's when streamed, a date's in a snapshot and in an array, a
# timestamp's in microseconds, a timestamp(3)'s in milliseconds.
INFINITE_DAYS = {2146033979: "infinity", -2147472691: "-infinity", -622191234: "infinity", -625821272: "-infinity"}
INFINITE_US = {2**63 - 1: "infinity", -(2**63): "-infinity"}
INFINITE_MS = {9223372036825200000: "infinity", -9223372036832400000: "-infinity"}
_FIRST_DAY, _LAST_DAY = -2_440_588, 2_145_042_905  # 4714-11-24 BC, where Postgres begins, and 5874897-12-31
_FAR = re.compile(r"([+-]?)(\d{4,6})(-\d\d-\d\d)T(\d\d:\d\d)(:\d\d)?(?:\.(\d{1,6})0*)?Z")
_INTERVAL = re.compile(
    r"P(?:(-?\d+)Y)?(?:(-?\d+)M)?(?:(-?\d+)D)?(?:T(?:(-?\d+)H)?(?:(-?\d+)M)?(?:(-?)(\d+)(?:\.(\d{1,6})0*)?S)?)?"
)


def shown(value: object) -> str | None:
    """Return a date or time as Postgres writes it, None for anything else."""
    if isinstance(value, datetime):
        zone = "" if value.tzinfo is None else "+00" if not value.utcoffset() else None
        return None if zone is None else _trimmed(value.replace(tzinfo=None).isoformat(" ")) + zone
    if isinstance(value, time) and value.tzinfo is None:
        return _trimmed(value.isoformat())
    return value.isoformat() if isinstance(value, date) else None


def _trimmed(text: str) -> str:
    return text.rstrip("0") if "." in text else text


def of_days(days: int) -> str:
    """Return the date that lies so many days after 1970-01-01."""
    if days in INFINITE_DAYS:
        return INFINITE_DAYS[days]
    if not _FIRST_DAY <= days <= _LAST_DAY:
        raise ValueError("no date of Postgres")
    year, rest = _civil(days)
    return _dated(year, rest)


def of_microseconds(microseconds: int) -> str:
    """Return the timestamp that lies so far after 1970; ValueError for one that overflowed at the source."""
    if microseconds in INFINITE_US:
        return INFINITE_US[microseconds]
    days, clock = divmod(microseconds, DAY_US)
    if days < _FIRST_DAY:
        raise ValueError("no timestamp of Postgres")
    year, rest = _civil(days)
    return _dated(year, f"{rest} {of_clock(clock)}")


def of_clock(microseconds: int) -> str:
    """Return a time of day, 24:00:00 included."""
    seconds, fraction = divmod(microseconds, _SECOND)
    minutes, second = divmod(seconds, 60)
    text = f"{minutes // 60:02}:{minutes % 60:02}:{second:02}"
    return f"{text}.{fraction:06}".rstrip("0") if fraction else text


def of_instant(text: str) -> str:
    """Return a timestamp with time zone, from Java's ISO text in UTC; ValueError when it is none."""
    if text in ("infinity", "-infinity"):
        return text
    found = _FAR.fullmatch(text)
    if not found:
        raise ValueError("not an instant in UTC, or finer than a microsecond")
    sign, digits, day, clock, seconds, fraction = found.groups()
    point = f".{fraction.rstrip('0')}" if fraction and fraction.strip("0") else ""
    return _dated(int(sign + digits), f"{day} {clock}{seconds or ':00'}{point}+00")


def of_interval(text: str) -> str:
    """Return an interval as ``SET intervalstyle = iso_8601`` shows it, from Debezium's ISO text, field by field."""
    found = _INTERVAL.fullmatch(text)
    if not found:
        raise ValueError("not an interval")
    *whole, sign, seconds, fraction = found.groups()
    years, months, days, hours, minutes = (f"{int(part)}" if part and int(part) else "" for part in whole)
    part = (fraction or "").rstrip("0")
    last = f"{sign}{int(seconds or 0)}" + (f".{part}" if part else "")
    shown_days = "".join(f"{number}{unit}" for number, unit in zip((years, months, days), "YMD", strict=True) if number)
    clock = "".join(f"{number}{unit}" for number, unit in zip((hours, minutes), "HM", strict=True) if number)
    if last.strip("-") != "0":
        clock += f"{last}S"
    return f"P{shown_days}" + (f"T{clock}" if clock else "") if shown_days or clock else "PT0S"


def _civil(days: int) -> tuple[int, str]:
    """Return year (0 is 1 BC) and ``-MM-DD`` of a day after 1970."""
    cycles, inside = divmod(days + _EPOCH_DAY - 1, _CYCLE_DAYS)
    found = date.fromordinal(inside + 1)
    return found.year + cycles * _CYCLE_YEARS, f"-{found.month:02}-{found.day:02}"


def _dated(year: int, rest: str) -> str:
    return f"{year:04}{rest}" if year > 0 else f"{1 - year:04}{rest} BC"
