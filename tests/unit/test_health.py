from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tailrace.health import Health, HealthServer, RunFile


@pytest.fixture
def served() -> Iterator[tuple[Health, str]]:
    health = Health("dynamodb")
    server = HealthServer(health)
    yield health, f"http://127.0.0.1:{server.port}"
    server.close()


def test_ready_answers_503_until_the_worker_says_so(served: tuple[Health, str]) -> None:
    health, url = served
    assert httpx.get(f"{url}/ready").status_code == 503
    health.ready = True
    assert httpx.get(f"{url}/ready").json()["ready"] is True


def test_live_fails_when_the_main_loop_stalls(served: tuple[Health, str]) -> None:
    health, url = served
    assert httpx.get(f"{url}/live").status_code == 200
    health.stall_after = 0.0
    assert httpx.get(f"{url}/live").status_code == 503
    health.stall_after = 60.0
    health.beat()
    assert httpx.get(f"{url}/live").status_code == 200


def test_metrics_are_those_of_this_worker_in_prometheus_text(served: tuple[Health, str]) -> None:
    health, url = served
    health.records.labels("dynamodb", "bank.conformed.customer").inc(3)
    text = httpx.get(f"{url}/metrics").text
    assert 'tailrace_records_total{topic="bank.conformed.customer",worker="dynamodb"} 3.0' in text


def test_a_run_file_is_read_back_and_a_missing_or_torn_one_is_nothing(tmp_path: Path) -> None:
    run = RunFile(tmp_path, "lake")
    assert run.read() == {}
    run.write(1234)
    assert run.read()["port"] == 1234
    run.path.write_text('{"pid": 1')
    assert run.read() == {}
    run.remove()
    assert not run.path.exists()
