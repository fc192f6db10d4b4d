"""The embedded stack on real servers: what clients can do with it, its faults and its budget."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING, Any

import boto3
import httpx
import psutil
import psycopg2
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tailrace.errors import Refused
from tailrace.stack import Stack, javacache
from tailrace.stack.embedded import RECORDED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tailrace.endpoints import Endpoints

SECONDS = 20


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of this module's own, beside the one the other tests share."""
    stack = Stack(tmp_path_factory.mktemp("own"))
    stack.up(print, bound=True)
    yield stack
    stack.wipe()


@pytest.fixture
def at(own: Stack) -> Endpoints:
    """The addresses of the own stack."""
    return own.up()


def cli(own: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tailrace", "stack", *arguments, "--project", str(own.folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def pids(own: Stack) -> dict[str, int | None]:
    return {service.name: service.pid for service in own.status()}


def aws(service: Any, url: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="tailrace",
        aws_secret_access_key="tailrace",
    )


def store_in_postgres(at: Endpoints, word: str) -> None:
    connection = psycopg2.connect(at.database("postgres"))
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS kept (word text)")
        cursor.execute("INSERT INTO kept VALUES (%s)", (word,))
    connection.close()


def find_in_postgres(at: Endpoints, word: str) -> bool:
    connection = psycopg2.connect(at.database("postgres"))
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM kept WHERE word = %s", (word,))
        rows = cursor.fetchall()
    connection.close()
    return rows == [(1,)]


def store_in_kafka(at: Endpoints, word: str) -> None:
    admin = AdminClient({"bootstrap.servers": at.kafka})
    admin.create_topics([NewTopic(f"kept-{word}", 1)])[f"kept-{word}"].result(SECONDS)
    producer = Producer({"bootstrap.servers": at.kafka, "compression.type": "zstd", "acks": "all"})
    producer.produce(f"kept-{word}", word)
    assert producer.flush(SECONDS) == 0


def find_in_kafka(at: Endpoints, word: str) -> bool:
    consumer = Consumer({"bootstrap.servers": at.kafka, "group.id": word, "enable.auto.commit": False})
    consumer.assign([TopicPartition(f"kept-{word}", 0, 0)])
    message = consumer.poll(SECONDS)
    consumer.close()
    return message is not None and message.value() == word.encode()


def store_in_dynamodb(at: Endpoints, word: str) -> None:
    client = aws("dynamodb", at.dynamodb)
    client.create_table(
        TableName=word,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    client.put_item(TableName=word, Item={"pk": {"S": word}})


def find_in_dynamodb(at: Endpoints, word: str) -> bool:
    return "Item" in aws("dynamodb", at.dynamodb).get_item(TableName=word, Key={"pk": {"S": word}})


def subject(at: Endpoints, word: str) -> str:
    return f"{at.registry}/subjects/{word}"


def store_in_registry(at: Endpoints, word: str) -> None:
    body = {"schema": json.dumps({"type": "record", "name": "Kept", "namespace": word, "fields": []})}
    httpx.post(f"{subject(at, word)}/versions", json=body, timeout=SECONDS).raise_for_status()


def find_in_registry(at: Endpoints, word: str) -> bool:
    found = httpx.get(f"{subject(at, word)}/versions/latest", timeout=SECONDS)
    return found.status_code == 200 and word in found.json()["schema"]


def store_in_opensearch(at: Endpoints, word: str) -> None:
    text = {"type": "text", "analyzer": "thai"}  # an analyzer that needs the locales we add
    index = {"mappings": {"properties": {"word": text}}}
    httpx.put(f"{at.opensearch}/{word}", json=index, timeout=SECONDS).raise_for_status()
    url = f"{at.opensearch}/{word}/_doc/1?refresh=true"
    httpx.put(url, json={"word": word}, timeout=SECONDS).raise_for_status()


def find_in_opensearch(at: Endpoints, word: str) -> bool:
    return httpx.get(f"{at.opensearch}/{word}/_doc/1", timeout=SECONDS).status_code == 200


def store_in_s3(at: Endpoints, word: str) -> None:
    client = aws("s3", at.s3)
    client.create_bucket(Bucket=word)
    client.put_object(Bucket=word, Key=f"table/dt=2026-01-02/{word}", Body=word.encode())


def find_in_s3(at: Endpoints, word: str) -> bool:
    found = aws("s3", at.s3).get_object(Bucket=word, Key=f"table/dt=2026-01-02/{word}")
    return bool(found["Body"].read() == word.encode())


STORES: dict[str, tuple[Callable[[Endpoints, str], None], Callable[[Endpoints, str], bool]]] = {
    "postgres": (store_in_postgres, find_in_postgres),
    "kafka": (store_in_kafka, find_in_kafka),
    "dynamodb": (store_in_dynamodb, find_in_dynamodb),
    "registry": (store_in_registry, find_in_registry),
    "s3": (store_in_s3, find_in_s3),
    "opensearch": (store_in_opensearch, find_in_opensearch),
}


@pytest.mark.parametrize("name", STORES)
def test_a_store_killed_at_once_and_started_again_has_its_data_on_its_old_port(
    own: Stack, at: Endpoints, name: str
) -> None:
    store, find = STORES[name]
    word = f"w{uuid.uuid4().hex}"
    store(at, word)
    before = pids(own)

    own.kill(name)
    own.start(name)

    after = pids(own)
    assert find(at, word)
    assert {service for service in before if before[service] != after[service]} == {name}


def test_connect_has_the_postgres_connector_and_the_address_of_postgres_in_its_environment(
    own: Stack, at: Endpoints
) -> None:
    plugins = httpx.get(f"{at.connect}/connector-plugins", timeout=SECONDS).json()
    environment = psutil.Process(pids(own)["connect"]).environ()

    assert "io.debezium.connector.postgresql.PostgresConnector" in {plugin["class"] for plugin in plugins}
    assert at.postgres.endswith(f"{environment['TAILRACE_PG_HOST']}:{environment['TAILRACE_PG_PORT']}")


def test_s3_refuses_a_conditional_write_of_an_object_that_exists(at: Endpoints) -> None:
    client = aws("s3", at.s3)
    client.create_bucket(Bucket="kept")
    client.put_object(Bucket="kept", Key="one", Body=b"first", IfNoneMatch="*")

    with pytest.raises(client.exceptions.ClientError, match="PreconditionFailed"):
        client.put_object(Bucket="kept", Key="one", Body=b"second", IfNoneMatch="*")


def test_s3_pages_through_keys_with_signs_that_urls_escape(at: Endpoints) -> None:
    client = aws("s3", at.s3)
    client.create_bucket(Bucket="paged")
    keys = [f"a b/dt=2026-01-{day:02d}/p0+{day}.parquet" for day in range(1, 12)]
    for key in keys:
        client.put_object(Bucket="paged", Key=key, Body=b"")

    pages = client.get_paginator("list_objects_v2").paginate(Bucket="paged", PaginationConfig={"PageSize": 3})
    assert [found["Key"] for page in pages for found in page["Contents"]] == keys


def test_a_wrong_password_does_not_open_postgres(at: Endpoints) -> None:
    address = at.postgres.rpartition("@")[2]

    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(f"postgresql://tailrace:wrong@{address}/postgres")


def test_postgres_decodes_its_log_logically(at: Endpoints) -> None:
    connection = psycopg2.connect(at.database("postgres"))
    with connection, connection.cursor() as cursor:
        cursor.execute("SHOW wal_level")
        level = cursor.fetchall()
    connection.close()

    assert level == [("logical",)]


def test_up_a_second_time_changes_nothing(own: Stack, at: Endpoints) -> None:
    before = pids(own)

    again = cli(own, "up", "--json")

    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == at.public()
    assert pids(own) == before


def test_java_starts_from_the_caches_that_were_prepared(own: Stack) -> None:
    for name in RECORDED:
        mapped = {found.path for found in psutil.Process(pids(own)[name]).memory_maps()}

        assert str(javacache.folder(own.cache) / f"{name}.aot") in mapped, own.logs(name).read_text()[:2000]


def test_status_prints_how_long_the_start_took_and_memory_within_3_gib(own: Stack) -> None:
    """The 40 seconds that a start may take are a bound of `make bench`: here others start at the same time."""
    status = cli(own, "status", "--json")
    seen = json.loads(status.stdout)

    assert status.returncode == 0, status.stdout
    assert seen["ready"]
    assert seen["start_seconds"] == own.start_seconds()
    assert seen["start_seconds"] > 0
    assert 0 < seen["memory_mb"] <= 3072


def test_status_shows_a_stopped_service_and_exits_with_1(own: Stack) -> None:
    own.stop("s3")
    status = cli(own, "status", "--json")
    own.start("s3")

    states = {service["name"]: service["state"] for service in json.loads(status.stdout)["services"]}
    assert status.returncode == 1
    assert {name for name, state in states.items() if state == "stopped"} == {"s3"}


def test_logs_prints_the_last_lines_of_a_service(own: Stack) -> None:
    logs = cli(own, "logs", "kafka", "-n", "3")

    assert len(logs.stdout.splitlines()) == 3


def test_no_output_of_the_stack_holds_the_password_of_postgres(own: Stack, at: Endpoints) -> None:
    password = at.postgres.split(":")[2].partition("@")[0]
    printed = [cli(own, *words) for words in (["up"], ["status"], ["status", "--json"])]
    written = [own.logs(service.name).read_text(errors="replace") for service in own.status()]

    assert all(password not in done.stdout + done.stderr for done in printed)
    assert all(password not in text for text in written)


def test_a_taken_port_is_named_with_its_owner_and_nothing_is_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        stack = Stack(tmp_path, ports={"kafka": port})

        with pytest.raises(Refused) as refusal:
            stack.up()

    assert str(port) in refusal.value.problem
    assert f"pid {psutil.Process().pid}" in refusal.value.detail
    assert {service.state for service in stack.status()} == {"stopped"}
