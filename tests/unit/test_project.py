import json
from pathlib import Path

import pytest

from tailrace import project
from tailrace.errors import ProjectError, UsageError

TOML = '[pipeline]\nname = "shop"\nconnector = "shop"\n'
CONNECTOR = {
    "topic.prefix": "shop.raw",
    "database.dbname": "shop",
    "slot.name": "shop",
    "publication.name": "shop",
    "table.include.list": "public.orders,public.items,tailrace.heartbeat",
}
CONFORM = (
    "from tailrace import Row, conform\n\n\n"
    '@conform("public.orders", to="order")\ndef order(row: Row) -> Row:\n    return row\n'
)
SINK = (
    "from tailrace import DynamoDBTable\n\n"
    'orders = DynamoDBTable("shop", record="order", pk="ORDER#{id}", sk="-")\n'
    'items = DynamoDBTable("shop", record="items", pk="ITEM#{id}", sk="-")\n'
)
RAW = 'from tailrace import RawLakeTable\n\nraw = RawLakeTable("items", table="public.items")\n'


def avsc(name: str) -> str:
    return json.dumps({"type": "record", "name": name, "key": ["id"], "fields": [{"name": "id", "type": "long"}]})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("connectors", "schemas", "processors", "sinks"):
        (tmp_path / name).mkdir()
    (tmp_path / "tailrace.toml").write_text(TOML)
    (tmp_path / "connectors" / "shop.json").write_text(json.dumps(CONNECTOR))
    (tmp_path / "schemas" / "order.avsc").write_text(avsc("order"))
    (tmp_path / "schemas" / "items.avsc").write_text(avsc("items"))
    (tmp_path / "processors" / "orders.py").write_text(CONFORM)
    (tmp_path / "sinks" / "dynamodb.py").write_text(SINK)
    return tmp_path


def test_a_table_without_a_function_belongs_to_the_processor_conform(folder: Path) -> None:
    loaded = project.load(folder)
    assert loaded.tables_of("orders") == ("public.orders",)
    assert loaded.tables_of("conform") == ("public.items",)
    assert (loaded.record_of("public.orders"), loaded.record_of("public.items")) == ("order", "items")
    assert loaded.table_of("order") == "public.orders"


def test_the_heartbeat_table_is_published_but_is_no_table_of_the_user(folder: Path) -> None:
    loaded = project.load(folder)
    assert "tailrace.heartbeat" in loaded.connector.published
    assert loaded.connector.tables == ("public.orders", "public.items")


def test_a_sink_module_takes_every_record_it_declares_once(folder: Path) -> None:
    assert project.load(folder).records_of("dynamodb") == ("order", "items")


def test_a_sink_module_reads_the_topics_of_its_records_and_the_raw_topics_that_it_takes_as_they_are(
    folder: Path,
) -> None:
    (folder / "sinks" / "dynamodb.py").write_text(SINK + RAW)
    loaded = project.load(folder)
    assert loaded.records_of("dynamodb") == ("order", "items")
    assert loaded.raw_tables_of("dynamodb") == ("public.items",)
    assert loaded.topics_of("dynamodb") == {
        "shop.conformed.order": "public.orders",
        "shop.conformed.items": "public.items",
        "shop.raw.public.items": "public.items",
    }


def test_an_unknown_worker_is_refused_with_the_known_names(folder: Path) -> None:
    with pytest.raises(UsageError) as caught:
        project.load(folder).sink("dynamo")
    assert "dynamodb" in caught.value.hint


@pytest.mark.parametrize(
    ("path", "text", "problem"),
    [
        ("processors/orders.py", "import nothing_like_this\n", "processors/orders.py cannot be imported"),
        (
            "processors/orders.py",
            CONFORM.replace("public.orders", "public.oders"),
            "public.oders, which is not captured",
        ),
        ("sinks/dynamodb.py", SINK.replace('"items"', '"item"'), "no contract for the record item"),
        ("sinks/dynamodb.py", SINK + RAW.replace("items", "item"), "the raw topic of public.item, which is not"),
        (
            "tailrace.toml",
            '[pipeline]\nname = "shop"\nconnector = "shop"\n[tables."public.oders"]\n',
            "settings for the table public.oders",
        ),
        ("connectors/shop.json", "[]", "not a flat object"),
        ("connectors/shop.json", "{", "not valid JSON"),
        ("connectors/shop.json", json.dumps({**CONNECTOR, "topic.prefix": "other"}), "another topic.prefix"),
    ],
)
def test_files_that_contradict_each_other_are_refused(folder: Path, path: str, text: str, problem: str) -> None:
    (folder / path).write_text(text)
    with pytest.raises(ProjectError) as caught:
        project.load(folder)
    assert problem in caught.value.problem


def test_every_worker_is_known_with_its_kind(folder: Path) -> None:
    assert project.load(folder).workers == {"conform": "processor", "orders": "processor", "dynamodb": "sink"}
