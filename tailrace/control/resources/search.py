"""Search indexes: ``<alias>-000001`` with an explicit mapping, behind an alias that hides delete markers.

Where the alias already points at another index, that one is compared. What OpenSearch can change in place is a change:
new fields, subfields and properties, replicas, the refresh interval. What it cannot (a type, an analyzer, shards) is a
conflict, whose way out is `tailrace search rebuild`.
"""

from __future__ import annotations

from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from opensearchpy.exceptions import ConnectionError as NoConnection
from opensearchpy.exceptions import NotFoundError, TransportError

from tailrace.errors import ProjectError, Refused, Unreachable
from tailrace.resource import Step
from tailrace.sink import mapping
from tailrace.targets import SearchIndex

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tailrace.control.services import Services
    from tailrace.project import Project

KIND = "search index"
NOTHING: Mapping[str, str] = MappingProxyType({})


@contextmanager
def asking(alias: str) -> Iterator[None]:
    """Turn the search client's errors into ours."""
    try:
        yield
    except NoConnection as error:
        raise Unreachable("OpenSearch does not answer.", detail=type(error).__name__) from error
    except TransportError as error:
        raise Refused(
            f"OpenSearch refuses the index of {alias}.", detail=f"{error.status_code}: {error.error}"
        ) from error


def declared(project: Project) -> list[SearchIndex]:
    """Return the declared indexes; ProjectError when two share an alias."""
    found: dict[str, SearchIndex] = {}
    for targets in project.sinks.values():
        for target in targets:
            if not isinstance(target, SearchIndex):
                continue
            if found.setdefault(target.alias, target) != target:
                raise ProjectError(
                    f"Two sinks write the search alias {target.alias}.",
                    hint="Give each record an alias of its own: ids of two records may be the same.",
                )
    return list(found.values())


class SearchIndexResource:
    """One index with its alias."""

    def __init__(self, services: Services, target: SearchIndex) -> None:
        self._services, self._target = services, target
        contract = services.project.contract(target.record)
        self._body, self._narrow = mapping.index_body(target, contract), mapping.narrower(contract)
        self._load = None if target.load_refresh_seconds is None else mapping.interval(target.load_refresh_seconds)

    def inspect(self) -> Step:
        """Compare the mapping behind the alias with the contract."""
        return compare(self._target.alias, self._body, *self._found(), narrow=self._narrow, load=self._load)

    def apply(self) -> None:
        """Create index and alias, or add the new fields and set the alias's filter."""
        index, found = self._found()
        with asking(self._target.alias):
            if found is None:
                self._services.search.indices.create(index=index, body=self._body)
                return
            there = found.get("mappings", {}).get("properties", {})
            wanted = self._body["mappings"]["properties"]
            lacking = {
                name: shape
                for name, shape in wanted.items()
                if name not in there or (not same(there[name], shape) and additions(there[name], shape))
            }
            mappings = {**self._body["mappings"], "properties": lacking}
            self._services.search.indices.put_mapping(index=index, body=mappings)
            moved = {
                name: self._body["settings"]["index"][name]
                for name in movable(self._body, found.get("settings"), self._load)
            }
            if moved:
                self._services.search.indices.put_settings(index=index, body={"index": moved})
            alias = self._body["aliases"][self._target.alias]
            self._services.search.indices.put_alias(index=index, name=self._target.alias, body=alias)

    def _found(self) -> tuple[str, Mapping[str, Any] | None]:
        """Return the index behind the alias (or its name to be) and what is known of it, None when it is not there."""
        alias, indices = self._target.alias, self._services.search.indices
        name = mapping.index_name(self._target)
        with asking(alias):
            for wanted in (alias, name):
                try:
                    answer = indices.get(index=wanted)
                except NotFoundError:
                    continue
                index = next(iter(sorted(answer)))
                return index, answer[index]
        return name, None


def compare(
    alias: str,
    body: Mapping[str, Any],
    index: str,
    found: Mapping[str, Any] | None,
    *,
    narrow: Mapping[str, str] = NOTHING,
    load: str | None = None,
) -> Step:
    """Return the step that an index calls for; ``narrow`` are types, by field, that do as well as the wanted ones.

    ``load`` is the refresh interval that a worker sets, and sets back, while it is far behind.
    """
    wanted = body["mappings"]["properties"]
    if found is None:
        return Step(
            KIND, index, "create", (f"alias {alias}", *(f"field {name}: {_type(wanted[name])}" for name in wanted))
        )
    if index == alias:
        return Step(
            KIND, index, "conflict", ("an index has the name of the alias: remove it, or choose another alias",)
        )
    there = found.get("mappings", {}).get("properties", {})
    wrong, lines = list(fixed(body.get("settings", {}), found.get("settings"))), []
    for name, shape in wanted.items():
        if name not in there:
            lines.append(f"+ field {name}: {_type(shape)}")
        elif not same(there[name], shape) and _type(there[name]) != narrow.get(name):
            more = additions(there[name], shape)
            lines += [f"field {name}: + {each}; documents have it once they are written again" for each in more]
            if not more:
                wrong.append(f"field {name}: {_differing(there[name], shape)}")
    if wrong:
        way = f"`tailrace search rebuild {alias}` builds a new index beside this one"
        return Step(KIND, index, "conflict", tuple(f"{each} cannot be done in place; {way}" for each in wrong))
    if str(found.get("mappings", {}).get("dynamic")) != "strict":
        lines.append("dynamic: strict")
    lines += [f"{name}: {was} -> {now}" for name, (was, now) in movable(body, found.get("settings"), load).items()]
    if found.get("aliases", {}).get(alias, {}).get("filter") != body["aliases"][alias]["filter"]:
        lines.append(f"alias {alias}: hide delete markers")
    return Step(KIND, index, "change" if lines else "none", tuple(lines))


def fixed(wanted: Mapping[str, Any], found: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield what is another setting than was declared, of those that an index keeps for its life."""
    if found is None:
        return
    was, now = found.get("index", {}), wanted.get("index", {})
    if str(was.get("number_of_shards", "1")) != str(now.get("number_of_shards", "1")):
        yield f"shards: {was.get('number_of_shards')} -> {now.get('number_of_shards')}"
    if not _equal_text(was.get("analysis", {}), now.get("analysis", {})):
        yield "analysis: other analyzers"


def movable(body: Mapping[str, Any], found: Mapping[str, Any] | None, load: str | None) -> dict[str, tuple[str, str]]:
    """Return the settings that differ and can be changed in place: what they are, and what they are to be."""
    if found is None:
        return {}
    now, was = body["settings"]["index"], found.get("index", {})
    names = [name for name in now if name not in ("number_of_shards", "analysis")]
    moved = {name: (str(was.get(name)), str(now[name])) for name in names if str(was.get(name)) != str(now[name])}
    if was.get("refresh_interval") == load:
        moved.pop("refresh_interval", None)
    return moved


def additions(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Return what a field gains, when that is all that differs and OpenSearch can do it in place; else nothing."""
    groups = ("fields", "properties")
    rest = {name: value for name, value in wanted.items() if name not in groups}
    if not same(found, rest) or any(name in found and name not in wanted for name in ("analyzer", "type")):
        return []
    kept = all(same(found.get(group, {}), _common(found.get(group, {}), wanted.get(group, {}))) for group in groups)
    if not kept:
        return []
    return [f"{group[:-1] if group == 'fields' else 'property'} {name}" for group in groups
            for name in wanted.get(group, {}) if name not in found.get(group, {})]  # fmt: skip


def _common(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    return {name: shape for name, shape in wanted.items() if name in found}


def _differing(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    if _type(found) != _type(wanted):
        return f"{_type(found)} -> {_type(wanted)}"
    names = [name for name in sorted({*found, *wanted}) if name != "fields" and found.get(name) != wanted.get(name)]
    return f"another {', '.join(names) or 'subfield'}"


def same(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Say whether a field is mapped as wanted; what OpenSearch shows besides is its default, but for an analyzer."""
    if wanted.get("type") == "text" and "analyzer" in found and "analyzer" not in wanted:
        return False
    return all(_equal(found.get(name), value) for name, value in wanted.items())


def _equal(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return isinstance(found, dict) and same(found, wanted)
    if isinstance(wanted, int | float) and isinstance(found, int | float):
        return float(found) == float(wanted)
    return bool(found == wanted)


def _equal_text(found: Any, wanted: Any) -> bool:
    """Compare settings, which OpenSearch shows as text."""
    if isinstance(wanted, dict):
        return (
            isinstance(found, dict)
            and found.keys() == wanted.keys()
            and all(_equal_text(found[name], wanted[name]) for name in wanted)
        )
    if isinstance(wanted, list | tuple):
        return isinstance(found, list) and list(map(str, found)) == list(map(str, wanted))
    return str(found).lower() == str(wanted).lower()


def _type(shape: Mapping[str, Any]) -> str:
    return str(shape.get("type", "object"))
