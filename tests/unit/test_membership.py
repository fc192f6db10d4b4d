"""What a worker is called in its group, and that no two supervisors of one folder give the same name."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import pytest

from tailrace import membership
from tailrace.cli.run import child
from tailrace.sink.worker import consumer_config
from tests.shop import shop

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("environment", "name"), [({}, None), ({membership.INSTANCE: ""}, None), ({membership.INSTANCE: "2"}, "stores-2")]
)
def test_a_worker_is_a_static_member_where_it_has_an_instance(environment: dict[str, str], name: str | None) -> None:
    assert membership.member("stores", environment) == name


def test_one_folder_on_one_machine_gives_its_name_to_one_supervisor_at_a_time(tmp_path: Path) -> None:
    with membership.claimed(tmp_path) as first:
        with membership.claimed(tmp_path) as second, membership.claimed(tmp_path / "other") as other:
            assert second == ""
        assert first.startswith(socket.gethostname())
        assert other.startswith(socket.gethostname())
        assert other != first
    with membership.claimed(tmp_path) as again:
        assert again == first


def test_a_supervised_worker_is_told_the_name_and_keeps_it_when_it_is_started_again(tmp_path: Path) -> None:
    made = child(tmp_path, "stores", "sink", {membership.INSTANCE: "here"})
    made = type(made)(made.name, ["/usr/bin/env", "printenv", membership.INSTANCE], tmp_path / "log", made.environment)
    for _ in range(2):
        made.start()
        assert made.process is not None
        assert made.process.wait(10) == 0
    assert made.log_path.read_text().split() == ["here", "here"]


def test_a_static_member_is_waited_for_longer_than_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_KAFKA", "127.0.0.1:1")
    for name in ("POSTGRES", "CONNECT", "REGISTRY", "DYNAMODB", "S3", "OPENSEARCH"):
        monkeypatch.setenv(f"TAILRACE_{name}", "http://127.0.0.1:1")
    monkeypatch.delenv(membership.INSTANCE, raising=False)
    dynamic = consumer_config(shop(), "stores")
    monkeypatch.setenv(membership.INSTANCE, "7")
    static = consumer_config(shop(), "stores")
    assert json.dumps(dynamic).count("instance") == 0
    assert static["group.instance.id"] == "stores-7"
    assert static["session.timeout.ms"] > dynamic["session.timeout.ms"]
