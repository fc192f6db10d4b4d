"""Keys of DynamoDB items: what a template makes of a record. Pure.

Text values are percent-encoded where they hold ``%`` or ``#``, so that two different records never make the same key.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from string import Formatter
from typing import TYPE_CHECKING, Any

from tailrace.errors import Rejected
from tailrace.sink.dynamodb_values import instant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tailrace.sink.dynamodb_values import Attribute
    from tailrace.targets import Index

    Record = Mapping[str, Any]

KEY_BYTES = {"pk": 2048, "sk": 1024}
Template = tuple[tuple[str, str | None], ...]


def template(text: str) -> Template:
    """Return a key template as pairs of literal text and the field that follows it."""
    return tuple((literal, name) for literal, name, _, _ in Formatter().parse(text))


def render(parts: Template, record: Record) -> str | None:
    """Return the key that a template makes of a record; None when a field of it is null."""
    found = []
    for literal, name in parts:
        found.append(literal)
        if name is not None:
            value = record[name]
            if value is None:
                return None
            found.append(key_part(value))
    return "".join(found)


def valid(text: str | None, attribute: str) -> bool:
    """Say whether DynamoDB takes a text as a key of the table."""
    return bool(text) and len((text or "").encode()) <= KEY_BYTES[attribute]


def key_text(parts: Template, record: Record, attribute: str) -> str:
    """Return a key of the table itself, or raise Rejected."""
    text = render(parts, record)
    if text is None or not valid(text, attribute):
        size = len((text or "").encode())
        names = ", ".join(name for _, name in parts if name)
        raise Rejected(
            f"The item has no valid {attribute}.",
            stage="write",
            detail=f"made of {names}: " + (f"{size} bytes" if text else "null or empty"),
        )
    return text


def index_keys(index: Index, pk: Template, sk: Template, record: Record) -> dict[str, Attribute]:
    """Return an index's attributes; none where ``when`` is not true or a part of the key is null."""
    if index.when is not None and not record[index.when]:
        return {}
    first, second = render(pk, record), render(sk, record)
    if not first or not second:
        return {}
    for text, attribute in ((first, "pk"), (second, "sk")):
        if len(text.encode()) > KEY_BYTES[attribute]:
            raise Rejected(f"The {attribute} of the index {index.name} is too long.", stage="write")
    return {f"{index.name}_pk": {"S": first}, f"{index.name}_sk": {"S": second}}


def key_part(value: Any) -> str:
    """Return a value as part of a key; texts with ``%`` and ``#`` percent-encoded."""
    if isinstance(value, str):
        return value.replace("%", "%25").replace("#", "%23")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return instant(value)
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, bytes):
        return value.hex()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
