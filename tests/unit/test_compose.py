"""docker-compose.yml cannot run where there is no engine; everything that can be known without one is checked here."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator  # type: ignore[import-untyped]  # it publishes no types
from ruamel.yaml import YAML

from tailrace import project
from tailrace.stack import artifacts, connect
from tests.providers import COMPOSE_SERVICES, ROOT

LOCK = artifacts.load()
ONE_SHOT = {"seed", "apply"}
WORKER_IMAGE = "tailrace:0.1.0"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    content: dict[str, Any] = YAML(typ="safe").load(ROOT / "docker-compose.yml")
    return content


@pytest.fixture
def services(compose: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = compose["services"]
    return found


def builtin_schema() -> Any:
    """Return the compose specification that check-jsonschema ships (its command needs a newer click than Faust)."""
    package = find_spec("check_jsonschema")
    assert package is not None
    assert package.origin is not None
    path = Path(package.origin).parent / "builtin_schemas" / "vendor" / "compose-spec.json"
    return json.loads(path.read_text())


def test_the_file_follows_the_compose_specification(compose: dict[str, Any]) -> None:
    broken = [error.message for error in Draft7Validator(builtin_schema()).iter_errors(compose)]

    assert broken == []


def test_servers_are_the_services_of_the_embedded_stack_in_the_versions_of_the_lock_file(
    services: dict[str, Any],
) -> None:
    images = {name: services[name]["image"] for name in COMPOSE_SERVICES}

    assert images == {name: LOCK.components[name].image for name in COMPOSE_SERVICES}


def test_every_image_tag_of_the_lock_file_is_pinned_to_the_version_of_the_component() -> None:
    for component in LOCK.components.values():
        if component.image:
            assert component.image.endswith(f":{component.version}"), component


def test_no_service_uses_a_floating_tag(services: dict[str, Any]) -> None:
    tags = [service["image"].rpartition(":")[2] for service in services.values()]

    assert all(any(letter.isdigit() for letter in tag) for tag in tags)


def test_every_dependency_exists_and_can_say_when_it_is_fulfilled(services: dict[str, Any]) -> None:
    for name, service in services.items():
        for needed, terms in service.get("depends_on", {}).items():
            if terms["condition"] == "service_healthy":
                assert "healthcheck" in services[needed], (name, needed)
            else:
                assert terms["condition"] == "service_completed_successfully", (name, needed)
                assert services[needed]["restart"] == "no", (name, needed)


def test_every_lasting_service_but_the_traffic_has_a_healthcheck(services: dict[str, Any]) -> None:
    without = {name for name, service in services.items() if "healthcheck" not in service}

    assert without == {*ONE_SHOT, "traffic"}


def test_every_published_port_is_bound_to_this_machine_alone(services: dict[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]

    assert len(published) == len(COMPOSE_SERVICES)
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_every_named_volume_is_declared_and_used(compose: dict[str, Any], services: dict[str, Any]) -> None:
    used = {mount.partition(":")[0] for service in services.values() for mount in service.get("volumes", [])}

    assert used == set(compose["volumes"])


def test_workers_are_exactly_the_processors_and_sinks_of_the_project(services: dict[str, Any]) -> None:
    loaded = project.load(ROOT)
    commands = {tuple(service["command"][:3]) for service in services.values() if service["image"] == WORKER_IMAGE}
    workers = {command[1:] for command in commands if command[0] == "run"}

    assert workers == {("processor", name) for name in loaded.processors} | {("sink", name) for name in loaded.sinks}
    assert {("demo", "seed"), ("demo", "traffic", "--rate"), ("apply", "--yes")} <= commands


def test_workers_get_every_address_from_the_environment(services: dict[str, Any]) -> None:
    wanted = {f"TAILRACE_{name.upper()}" for name in COMPOSE_SERVICES}

    for service in services.values():
        if service["image"] == WORKER_IMAGE:
            assert wanted <= set(service["environment"])
            assert service["environment"]["TAILRACE_REGISTRY"].endswith("/apis/ccompat/v7")


def test_workers_are_built_from_the_dockerfile_which_installs_the_hashed_lock(services: dict[str, Any]) -> None:
    built = [service["build"]["dockerfile"] for service in services.values() if "build" in service]
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()

    assert set(built) == {"deploy/Dockerfile"}
    assert "--require-hashes -r requirements/lock.txt" in dockerfile


def test_everything_the_dockerfile_copies_is_there() -> None:
    lines = (ROOT / "deploy" / "Dockerfile").read_text().splitlines()
    copies = [line.split()[1:] for line in lines if line.startswith("COPY") and "--from" not in line]
    sources = [word for words in copies for word in words[:-1] if not word.startswith("--")]

    assert len(sources) > 5
    assert all((ROOT / source).exists() for source in sources)


def test_connect_gives_connectors_the_same_variables_and_settings_as_the_embedded_stack(
    services: dict[str, Any], tmp_path: Path
) -> None:
    environment = services["connect"]["environment"]
    embedded = dict(
        line.split("=", 1) for line in connect.properties(broker=1, rest=2, plugins=tmp_path).splitlines() if line
    )
    shared = [name for name in embedded if f"CONNECT_{name.upper().replace('.', '_')}" in environment]

    assert {name for name in environment if name.startswith("TAILRACE_PG_")} == {
        f"TAILRACE_PG_{part}" for part in ("HOST", "PORT", "USER", "PASSWORD")
    }
    assert len(shared) > 8
    for name in shared:
        assert str(environment[f"CONNECT_{name.upper().replace('.', '_')}"]) == embedded[name], name
