"""Items that lie where a row was and is no more, though the row lives: what makes a sink leave such a place.

DynamoDB knows items by keys that are made of any columns, so a row that moved may have left an item behind. A sink
takes one away when a change says that the row was there before. This module makes that row: the newest one, with the
columns that the item's key is made of as its place says. Pure; columns whose text cannot be read back make none.
"""

from __future__ import annotations

import re
from datetime import date, datetime, time
from decimal import Decimal
from functools import lru_cache
from string import Formatter
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tailrace.control.verify.dynamodb import SEPARATOR, place_of
from tailrace.control.verify.dynamodb_values import render

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tailrace.contract import Contract
    from tailrace.targets import DynamoDBTable


def _text(part: str) -> str:
    return part.replace("%23", "#").replace("%25", "%")


_BOOLEANS = {"true": True, "false": False}
READERS: Mapping[str, Callable[[str], Any]] = {
    "boolean": _BOOLEANS.__getitem__, "int": int, "long": int, "string": _text, "json": _text, "bytes": bytes.fromhex,
    "decimal": Decimal, "numeric": Decimal, "date": date.fromisoformat, "time-micros": time.fromisoformat,
    "timestamp-micros": datetime.fromisoformat, "local-timestamp-micros": datetime.fromisoformat, "uuid": UUID,
}  # fmt: skip


def row_before(
    target: DynamoDBTable, contract: Contract, identity: str, row: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return a row as it was when its item lay at a place, which ``verify`` names; None where it cannot be known."""
    if SEPARATOR not in identity:  # another store of the same sink names it
        return None
    place = place_of(identity)
    for shape in target.shapes:
        templates = (shape.pk, shape.sk)
        parts = [found for pair in zip(templates, place, strict=True) for found in _parts(*pair)]
        try:
            before = {**row, **{name: READERS[contract.by_name[name].kind](text) for name, text in parts}}
        except (KeyError, ValueError, ArithmeticError):
            continue
        if tuple(render(template, before) for template in templates) == place:
            return before
    return None


def _parts(template: str, text: str) -> list[tuple[str, str]]:
    """Return the columns of a template with what a text has in their places; nothing where it is not of its shape."""
    names, pattern = _pattern(template)
    found = pattern.fullmatch(text)
    return [] if found is None else list(zip(names, found.groups(), strict=True))


@lru_cache
def _pattern(template: str) -> tuple[tuple[str, ...], re.Pattern[str]]:
    parts = [(literal, name) for literal, name, _, _ in Formatter().parse(template)]
    names = tuple(name for _, name in parts if name)
    return names, re.compile("".join(re.escape(literal) + ("([^#]*)" if name else "") for literal, name in parts))
