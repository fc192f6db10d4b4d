"""Declarations in sinks/*.py against contracts and tables: fields that exist, keys that deletes can find again."""

from __future__ import annotations

import difflib
import re
from functools import cache
from itertools import combinations, pairwise
from string import Formatter
from typing import TYPE_CHECKING

from tailrace.control.checks import keys
from tailrace.control.checks.finding import Finding, error, warning
from tailrace.targets import DynamoDBTable, LakeTable, RawLakeTable, SearchIndex, template_fields

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tailrace.contract import Contract
    from tailrace.project import Project
    from tailrace.source.catalogue import Catalogue
    from tailrace.targets import RecordTarget, Target

FIELD = "\0"  # any text
TIMES = ("timestamp-micros", "local-timestamp-micros", "date")
FREE = {"string", "json"}  # kinds whose values may hold any character
NO_SET = ("boolean", "json")  # kinds of which DynamoDB has no sets
TEXTS = ("string", "json", "uuid", "numeric", "time-micros")


def check(project: Project, seen: Catalogue) -> Iterator[Finding]:
    """Say what of the sinks would go wrong."""
    for module, target in _records(project):
        contract = project.contracts.get(target.record)
        if contract is None:
            continue  # project.load and the contracts' rules have said so
        place = f"sinks/{module}.py: {target.record}"
        if isinstance(target, DynamoDBTable):
            yield from _dynamodb(place, target, contract)
            yield from _identity(project, seen, place, target, contract)
        elif isinstance(target, SearchIndex):
            yield from _fields(place, (*target.fields, *_searched(target)), contract)
            yield from _texts(place, target, contract)
    yield from _collisions(project)


def _records(project: Project) -> Iterator[tuple[str, RecordTarget]]:
    for module, target in _targets(project):
        if not isinstance(target, RawLakeTable):
            yield module, target


def _targets(project: Project) -> Iterator[tuple[str, Target]]:
    for module, declared in project.sinks.items():
        for target in declared:
            if isinstance(target, DynamoDBTable | LakeTable | RawLakeTable | SearchIndex):
                yield module, target


def _taken(target: Target) -> str:
    """Return what a target takes, as people call it."""
    return target.table if isinstance(target, RawLakeTable) else target.record


def _shapes(project: Project) -> Iterator[tuple[str, Target]]:
    """Yield every target, a DynamoDB table once for each key that it writes."""
    for module, target in _targets(project):
        for shape in target.shapes if isinstance(target, DynamoDBTable) else (target,):
            yield module, shape


def _templates(target: DynamoDBTable) -> tuple[str, ...]:
    indexed = (part for index in target.indexes for part in (index.pk, index.sk))
    return (*(part for shape in target.shapes for part in (shape.pk, shape.sk)), *indexed)


def _key_fields(target: DynamoDBTable) -> tuple[str, ...]:
    """Return the fields that the keys of an item are made of, its mirrors' included."""
    return tuple(dict.fromkeys(name for shape in target.shapes for name in shape.key_fields))


def _dynamodb(place: str, target: DynamoDBTable, contract: Contract) -> Iterator[Finding]:
    named: list[str] = []
    for template in _templates(target):
        try:
            named += template_fields(template)
        except ValueError as problem:
            yield error(f"{place}: the key template {template!r} does not parse.", f"{problem}.")
            return
        yield from _ambiguous(place, template, contract)
    named += [index.when for index in target.indexes if index.when]
    yield from _fields(place, named + ([target.ttl] if target.ttl else []) + list(target.sets), contract)
    yield from _sets(place, target, contract)
    for name in _key_fields(target):
        field = contract.by_name.get(name)
        if field is not None and field.kind == "array":
            yield error(f"{place}: the key is made of {name}, which is an array, not one value.")
        elif field is not None and field.nullable:
            yield warning(f"{place}: the key is made of {name}, which may be null.", "Such rows become dead letters.")
    for index in target.indexes:
        when = contract.by_name.get(index.when or "")
        if when is not None and when.kind != "boolean":
            yield error(f"{place}: the index {index.name} depends on {when.name}, which is {when.kind}, not boolean.")
    ttl = contract.by_name.get(target.ttl or "")
    if ttl is not None and ttl.kind not in TIMES:
        yield error(f"{place}: ttl names {ttl.name}, which is {ttl.kind}, not a time.")


def _sets(place: str, target: DynamoDBTable, contract: Contract) -> Iterator[Finding]:
    for name in target.sets:
        field = contract.by_name.get(name)
        if field is not None and (field.item is None or field.item.kind in NO_SET):
            kind = f"an array of {field.item.kind}" if field.item else field.kind
            yield error(
                f"{place}: sets names {name}, which is {kind}.",
                "A set is made of an array of texts, numbers, times or bytes.",
            )


def _ambiguous(place: str, template: str, contract: Contract) -> Iterator[Finding]:
    """Two fields of a key that nothing keeps apart: ab and c would make the same key as a and bc.

    In a text every ``#`` is percent-encoded, so that one between two fields is never a part of either.
    """
    parts = list(Formatter().parse(template))
    for (_, name, _, _), (literal, follower, _, _) in pairwise(parts):
        if name and follower and "#" not in literal:
            kinds = {contract.by_name[field].kind for field in (name, follower) if field in contract.by_name}
            say = error if not literal or kinds & FREE else warning
            yield say(
                f"{place}: the key template {template!r} does not keep {name} and {follower} apart.",
                "Two rows may get the same key, and one would overwrite the other.",
                hint=f"Put a # between them: {{{name}}}#{{{follower}}}.",
            )


def _fields(place: str, named: Iterable[str], contract: Contract) -> Iterator[Finding]:
    for name in dict.fromkeys(named):
        if name not in contract.by_name:
            near = difflib.get_close_matches(name, list(contract.by_name), n=1)
            hint = f"Did you mean {near[0]}?" if near else f"Fields: {', '.join(contract.by_name)}."
            yield error(f"{place} has no field {name}.", hint=hint)


def _searched(target: SearchIndex) -> tuple[str, ...]:
    """Return the fields of an index that are searched by words."""
    return tuple(text if isinstance(text, str) else text.field for text in target.text)


def _texts(place: str, target: SearchIndex, contract: Contract) -> Iterator[Finding]:
    for name in _searched(target):
        field = contract.by_name.get(name)
        if field is not None and (field.item or field).kind not in TEXTS:
            yield error(f"{place}: {name} is {field.kind}; only text can be searched by words.")


def _identity(
    project: Project, seen: Catalogue, place: str, target: DynamoDBTable, contract: Contract
) -> Iterator[Finding]:
    """Find keys that a delete cannot make: it carries the primary key alone, unless the replica identity is FULL."""
    table = seen.tables.get(project.table_of(target.record))
    try:
        moving = [name for name in _key_fields(target) if name not in contract.key]
    except ValueError:
        return  # the template does not parse: said above
    if table is not None and moving and table.identity != "FULL":
        yield error(
            f"{place}: the key is made of {', '.join(moving)}, which is not in the primary key.",
            f"Deletes of {table.name} would not say which item to delete, and a move would leave the old item behind.",
            sql=keys.full(table),
        )
    missing = [name for name in contract.key if name not in target.key_fields]
    if missing and set(target.key_fields) <= set(contract.by_name):
        yield error(
            f"{place}: {', '.join(missing)} of the primary key is not in the item's key.",
            "Several rows may share an item, and nothing orders the changes of one against those of another:"
            " what deletes one may take away the other.",
            hint=f"Add {' and '.join('{' + name + '}' for name in missing)} to pk or sk.",
        )


def _collisions(project: Project) -> Iterator[Finding]:
    """Two declarations that write to the same place."""
    yield from _nested(project)
    places: dict[tuple[str, ...], str] = {}
    for module, target in _shapes(project):
        where = _place(target)
        here = f"sinks/{module}.py: {_taken(target)}"
        if where in places:
            yield error(
                f"{here} and {places[where]} write to the same keys.",
                f"Both write to {' '.join(where)}.",
                hint="Give them different keys or places: they would overwrite each other.",
            )
        places.setdefault(where, here)
    yield from _meetings(places)


def _meetings(places: Mapping[tuple[str, ...], str]) -> Iterator[Finding]:
    """Two shapes of keys in one table of DynamoDB that may make the same key of different rows."""
    items = [where for where in places if where[0] == "table"]
    for one, other in combinations(items, 2):
        if one[1] == other[1] and _meet(one[2], other[2]) and _meet(one[3], other[3]):
            yield warning(
                f"{places[other]} and {places[one]} may write to the same keys.",
                f"In {one[1]}, {' / '.join(one[2:])} and {' / '.join(other[2:])} can be the same text.",
                hint="Begin each with a word of its own and a #: ORDER#{id}.",
            )


def _meet(one: str, other: str) -> bool:
    """Say whether two shapes of keys, fields as ``{}``, have a text in common; the text of a field holds no #."""
    pieces = [shape.replace("{}", FIELD).split("#") for shape in (one, other)]
    return len(pieces[0]) == len(pieces[1]) and all(_overlap(*pair) for pair in zip(*pieces, strict=True))


@cache
def _overlap(one: str, other: str) -> bool:
    if not one or not other:
        return not (one + other).strip(FIELD)
    if FIELD in (one[0], other[0]):  # a field takes nothing more, or the next letter of the other shape
        wild, plain = (one, other) if one[0] == FIELD else (other, one)
        return _overlap(wild[1:], plain) or _overlap(wild, plain[1:])
    return one[0] == other[0] and _overlap(one[1:], other[1:])


def _nested(project: Project) -> Iterator[Finding]:
    """Two tables of the lake of which one lies inside the other: who reads the outer one finds both."""
    kinds = (LakeTable, RawLakeTable)
    lake = [(target.folder, target) for _, target in _targets(project) if isinstance(target, kinds)]
    for outer, _ in lake:
        for inner, target in lake:
            if inner.startswith(f"{outer}/"):
                yield error(
                    f"The lake's table {inner} lies inside the table {outer}.",
                    f"What reads {outer} would read the objects of {_taken(target)} too.",
                    hint="Give one of them another zone or name.",
                )


def _place(target: Target) -> tuple[str, ...]:
    if isinstance(target, DynamoDBTable):
        return ("table", target.table, *(re.sub(r"\{[^}]*\}", "{}", part) for part in (target.pk, target.sk)))
    if isinstance(target, LakeTable | RawLakeTable):
        return ("lake", target.folder)
    return ("search alias", target.alias)
