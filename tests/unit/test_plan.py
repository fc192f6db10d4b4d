"""What `plan` says of each kind of resource, over values that a service would answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tailrace import topics
from tailrace.connector import HEARTBEAT, SIGNAL
from tailrace.control.apply import take
from tailrace.control.epochs import Reason
from tailrace.control.plan import Plan
from tailrace.control.resources import changelog, connector, control, dynamodb, publication, schemas, search
from tailrace.control.resources import topics as topic_kind
from tailrace.epoch import Epoch
from tailrace.errors import ProjectError, Refused
from tailrace.resource import Step
from tailrace.sink import mapping
from tailrace.source.connect import Status
from tailrace.targets import DynamoDBTable, Index, SearchIndex
from tests.shop import CONFIG, ORDERS, PUBLISHED, avsc, seen, shop

NOW = Epoch(epoch=1, slot="s", system_identifier="7", topics={"raw": "id"}, partitions={"raw": 3})
RUNNING = Status("RUNNING", ("RUNNING",))


def test_the_publication_is_created_with_exactly_the_captured_tables() -> None:
    step = publication.compare(shop().connector, seen())
    assert (step.action, step.lines) == ("create", ("table public.orders", f"table {HEARTBEAT}", f"table {SIGNAL}"))
    (sql,) = publication.statements("p", ['public.or"ders'], exists=False)
    assert sql.startswith('CREATE PUBLICATION "p" FOR TABLE "public"."or""ders" WITH (publish = ')


def test_a_publication_that_differs_is_changed_and_one_for_all_tables_a_conflict() -> None:
    made = shop().connector
    other = replace(PUBLISHED, tables=("public.orders", "public.old"), via_root=False, filtered=("public.orders",))
    step = publication.compare(made, seen(publications={"tailrace_shop": other}))
    assert step.action == "change"
    assert step.lines[:3] == (f"+ table {HEARTBEAT}", f"+ table {SIGNAL}", "- table public.old")
    assert len(step.lines) == 5
    wide = replace(PUBLISHED, all_tables=True)
    assert publication.compare(made, seen(publications={"tailrace_shop": wide})).action == "conflict"
    same = publication.compare(made, seen(publications={"tailrace_shop": PUBLISHED}))
    assert (same.action, same.lines) == ("none", ())


def test_a_missing_table_is_a_conflict_that_names_the_nearest() -> None:
    step = publication.compare(shop(config={"table.include.list": "public.order"}).connector, seen())
    assert step.action == "conflict"
    assert step.lines == ("the table public.order does not exist; did you mean public.orders?",)


def test_raw_and_conformed_topics_have_the_same_partition_count_and_their_policies() -> None:
    found = {topic.name: topic for topic in topic_kind.declared(shop())}
    raw, conformed = found["shop.raw.public.orders"], found["shop.conformed.orders"]
    assert raw.partitions == conformed.partitions == 3
    assert (raw.config["cleanup.policy"], conformed.config["cleanup.policy"]) == ("delete", "compact")
    assert raw.config["retention.ms"] == str(168 * 3600 * 1000)
    assert found[topics.control("shop")].partitions == 1
    assert {"shop.dlq.conform", "shop.dlq.stores", topics.heartbeat("shop")} <= set(found)


def test_a_changelog_is_made_for_tables_whose_long_values_are_restored_and_grows_with_a_new_epoch() -> None:
    assert changelog.declared(shop(), seen()) == []  # its table has REPLICA IDENTITY FULL
    (topic,) = changelog.declared(shop(), seen(replace(ORDERS, identity="DEFAULT")))
    assert (topic.name, topic.partitions) == ("shop.conform.changelog.public.orders", 3)
    assert topic.config["cleanup.policy"] == "compact"
    fewer = changelog.allowed(topic_kind.compare(topic, 2, topic.config), topic, 2)
    assert (fewer.action, fewer.lines) == ("change", ("partitions: 2 -> 3",))
    assert changelog.allowed(topic_kind.compare(topic, 4, topic.config), topic, 4).action == "conflict"
    assert changelog.allowed(topic_kind.compare(topic, 3, topic.config), topic, 3).action == "none"


def test_a_topic_with_another_partition_count_is_a_conflict() -> None:
    topic = topic_kind.Declared("t", 3, config={"cleanup.policy": "compact"})
    assert topic_kind.compare(topic, None, {}).action == "create"
    assert topic_kind.compare(topic, 3, {"cleanup.policy": "compact", "retention.ms": "1"}).action == "none"
    changed = topic_kind.compare(topic, 3, {"cleanup.policy": "delete"})
    assert (changed.action, changed.lines) == ("change", ("cleanup.policy: delete -> compact",))
    assert topic_kind.compare(topic, 4, {}).action == "conflict"


def test_a_changed_contract_is_shown_field_by_field() -> None:
    old, new = avsc().schema, dict(avsc().schema)
    new["fields"] = [
        *old["fields"][1:-1],
        {**old["fields"][-1], "doc": "when"},
        {"name": "city", "type": ["null", "string"], "default": None},
    ]
    lines = schemas.differences(old, new)
    assert lines[:2] == ("+ field city", "- field id")
    assert lines[2].startswith("~ field placed_at: ")


def described(**changes: Any) -> dict[str, Any]:
    indexes = [{**dynamodb.index_body("preferred"), "IndexStatus": "ACTIVE"}]
    body = {"KeySchema": dynamodb.keys("pk", "sk"), "TableStatus": "ACTIVE", "GlobalSecondaryIndexes": indexes}
    return {**body, **changes}


def test_a_dynamodb_table_is_compared_by_keys_indexes_and_time_to_live() -> None:
    assert dynamodb.compare("t", ("preferred",), None, expires=False).action == "create"
    assert dynamodb.compare("t", ("preferred",), described(), expires=True).action == "none"
    more = dynamodb.compare("t", ("preferred", "late"), described(), expires=False)
    assert (more.action, more.lines) == ("change", ("+ index late", "time to live: off -> _ttl"))
    foreign = described(KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}])
    assert dynamodb.compare("t", (), foreign, expires=True).action == "conflict"


def test_records_that_share_a_table_share_its_indexes() -> None:
    index = Index("preferred", pk="P", sk="{id}")
    made = shop(
        sinks={
            "a": (DynamoDBTable("t", record="orders", pk="A#{id}", sk="-", indexes=(index,)),),
            "b": (DynamoDBTable("t", record="orders", pk="B#{id}", sk="-"),),
        }
    )
    assert dynamodb.declared(made) == {"t": ("preferred",)}


def answered(target: SearchIndex, **changes: Any) -> dict[str, Any]:
    body = mapping.index_body(target, avsc())
    properties = {**body["mappings"]["properties"], **changes}
    return {**body, "mappings": {"dynamic": "strict", "properties": properties}}


def test_a_search_index_takes_new_fields_in_place_and_no_other_type() -> None:
    target = SearchIndex("orders", record="orders", text=("note",))
    body, name = mapping.index_body(target, avsc()), "orders-000001"
    assert search.compare("orders", body, name, None).action == "create"
    assert search.compare("orders", body, name, answered(target, old={"type": "long"})).action == "none"
    missing = answered(target)
    del missing["mappings"]["properties"]["note"]
    assert search.compare("orders", body, name, missing).lines == ("+ field note: text",)
    assert search.compare("orders", body, name, answered(target, note={"type": "long"})).action == "conflict"
    bare = {**answered(target), "aliases": {"orders": {}}}
    assert search.compare("orders", body, name, bare).lines == ("alias orders: hide delete markers",)
    assert search.compare("orders", body, "orders", answered(target)).action == "conflict"


def test_two_declarations_of_one_alias_are_refused() -> None:
    twice = (SearchIndex("a", record="orders"), SearchIndex("a", record="orders", text=("note",)))
    with pytest.raises(ProjectError, match="Two sinks write the search alias a"):
        search.declared(shop(sinks={"search": twice}))


def test_an_epoch_that_ended_is_a_conflict_that_names_the_command_and_one_in_doubt_is_not() -> None:
    assert control.compare("c", None, NOW, ["raw"]).action == "create"
    assert control.compare("c", NOW, NOW, ["raw"]).action == "none"
    ended = control.compare("c", NOW, NOW, ["raw"], [Reason("the slot is gone"), Reason("doubt", hard=False)])
    assert (ended.action, ended.lines[0]) == ("conflict", "the slot is gone")
    assert "`tailrace epoch bump`" in ended.lines[1]
    assert control.compare("c", NOW, NOW, ["raw"], [Reason("doubt", hard=False)]).action == "none"


def test_a_topic_that_joins_or_leaves_the_project_changes_the_record() -> None:
    more = replace(NOW, topics={"raw": "id", "new": "n"}, partitions={"raw": 3, "new": 3})
    assert control.compare("c", NOW, more, ["raw", "new"]).lines == ("+ new",)
    fewer = control.compare("c", more, NOW, ["raw"])
    assert (fewer.action, fewer.lines) == ("change", ("- new",))


def test_the_connector_is_compared_setting_by_setting_with_secrets_masked() -> None:
    same = connector.compare("shop", CONFIG, {"name": "shop", **CONFIG}, RUNNING)
    assert (same.action, same.lines) == ("none", ())
    other = {"name": "shop", **CONFIG, "database.password": "hunter2", "poll.interval.ms": "1"}
    lines = connector.compare("shop", {**CONFIG, "tasks.max": "1"}, other, RUNNING).lines
    assert lines == (
        "database.password: *** -> ${env:PASSWORD}",
        "poll.interval.ms: 1 -> (unset)",
        "tasks.max: (unset) -> 1",
    )


def test_the_placeholder_of_a_running_connector_is_not_changed() -> None:
    step = connector.compare("shop", {**CONFIG, "unavailable.value.placeholder": "another"}, CONFIG, RUNNING)
    assert step.action == "conflict"
    without = {key: value for key, value in CONFIG.items() if key != "unavailable.value.placeholder"}
    assert connector.compare("shop", CONFIG, without, RUNNING).action == "conflict"
    named = {**without, "unavailable.value.placeholder": "__debezium_unavailable_value"}
    assert connector.compare("shop", named, without, RUNNING).action == "change"


def test_a_connector_that_failed_or_was_stopped_is_started_again() -> None:
    failed = Status("RUNNING", ("FAILED",), "PSQLException: no such slot")
    step = connector.compare("shop", CONFIG, CONFIG, failed)
    assert step.lines == ("state: connector RUNNING, tasks FAILED -> RUNNING (PSQLException: no such slot)",)
    assert connector.compare("shop", CONFIG, CONFIG, Status("STOPPED", ())).action == "change"


class Recorded:
    """A resource that remembers whether it was applied."""

    def __init__(self, step: Step) -> None:
        self.step, self.applied = step, 0

    def inspect(self) -> Step:
        return self.step

    def apply(self) -> None:
        self.applied += 1


def test_apply_takes_what_differs_and_leaves_the_rest() -> None:
    same, new = Recorded(Step("topic", "a", "none")), Recorded(Step("topic", "b", "create"))
    heard: list[str] = []
    count = take(Plan(((same, same.step), (new, new.step))), lambda moment, step: heard.append(f"{moment} {step.name}"))
    assert (count, same.applied, new.applied, heard) == (1, 0, 1, ["begin b", "end b"])


def test_a_conflict_is_refused_before_anything_is_changed() -> None:
    new = Recorded(Step("topic", "a", "create"))
    wrong = Recorded(Step("topic", "b", "conflict", ("it has 4 partitions",)))
    with pytest.raises(Refused, match="it has 4 partitions"):
        take(Plan(((new, new.step), (wrong, wrong.step))))
    assert new.applied == 0
