"""Search indexes: ``<alias>-000001`` with an explicit mapping, behind an alias that hides delete markers.

Where the alias already points at another index, that one is compared. New fields are added in place; a field's type
cannot be changed in place, so it is a conflict.
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

    def inspect(self) -> Step:
        """Compare the mapping behind the alias with the contract."""
        return compare(self._target.alias, self._body, *self._found(), narrow=self._narrow)

    def apply(self) -> None:
        """Create index and alias, or add the new fields and set the alias's filter."""
        index, found = self._found()
        with asking(self._target.alias):
            if found is None:
                self._services.search.indices.create(index=index, body=self._body)
                return
            there = found.get("mappings", {}).get("properties", {})
            lacking = {name: shape for name, shape in self._body["mappings"]["properties"].items() if name not in there}
            mappings = {**self._body["mappings"], "properties": lacking}
            self._services.search.indices.put_mapping(index=index, body=mappings)
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
) -> Step:
    """Return the step that an index calls for; ``narrow`` are types, by field, that do as well as the wanted ones."""
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
    wrong = [
        f"field {name}: {_type(there[name])} -> {_type(shape)} cannot be done in place; use another alias and replay"
        for name, shape in wanted.items()
        if name in there and not same(there[name], shape) and _type(there[name]) != narrow.get(name)
    ]
    if wrong:
        return Step(KIND, index, "conflict", tuple(wrong))
    lines = [f"+ field {name}: {_type(shape)}" for name, shape in wanted.items() if name not in there]
    if str(found.get("mappings", {}).get("dynamic")) != "strict":
        lines.append("dynamic: strict")
    if found.get("aliases", {}).get(alias, {}).get("filter") != body["aliases"][alias]["filter"]:
        lines.append(f"alias {alias}: hide delete markers")
    return Step(KIND, index, "change" if lines else "none", tuple(lines))


def same(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Say whether a field is mapped as wanted; what OpenSearch shows besides is its default."""
    return all(_equal(found.get(name), value) for name, value in wanted.items())


def _equal(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return isinstance(found, dict) and same(found, wanted)
    if isinstance(wanted, int | float) and isinstance(found, int | float):
        return float(found) == float(wanted)
    return bool(found == wanted)


def _type(shape: Mapping[str, Any]) -> str:
    return str(shape.get("type", "object"))
