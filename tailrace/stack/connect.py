"""Kafka Connect with Debezium: one worker, started when Kafka is ready.

Connectors may say ``${env:TAILRACE_PG_HOST}``, ``_PORT``, ``_USER`` and ``_PASSWORD``: the worker gets them in its
environment, and nothing else of ours can be read through that provider.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailrace.stack.home import POSTGRES_USER
from tailrace.stack.kafka import kafka_java
from tailrace.stack.ports import HOST
from tailrace.stack.process import Launch
from tailrace.stack.service import Service, answers

if TYPE_CHECKING:
    from pathlib import Path

    from tailrace.stack.home import Home

PROPERTIES = """\
bootstrap.servers={host}:{broker}
group.id=tailrace-connect
key.converter=org.apache.kafka.connect.json.JsonConverter
value.converter=org.apache.kafka.connect.json.JsonConverter
config.storage.topic=tailrace-connect-configs
config.storage.replication.factor=1
offset.storage.topic=tailrace-connect-offsets
offset.storage.replication.factor=1
offset.storage.partitions=1
status.storage.topic=tailrace-connect-status
status.storage.replication.factor=1
status.storage.partitions=1
offset.flush.interval.ms=1000
listeners=http://{host}:{rest}
rest.advertised.host.name={host}
plugin.path={plugins}
plugin.discovery=service_load
scheduled.rebalance.max.delay.ms=0
topic.creation.enable=true
config.providers=env
config.providers.env.class=org.apache.kafka.common.config.provider.EnvVarConfigProvider
config.providers.env.param.allowlist.pattern=^TAILRACE_.*
"""


def properties(*, broker: int, rest: int, plugins: Path) -> str:
    """Return the text of connect.properties."""
    return PROPERTIES.format(host=HOST, broker=broker, rest=rest, plugins=plugins)


def launch(home: Home) -> Launch:
    """Write connect.properties; return the worker's command."""
    folder = home.folder("connect")
    config = folder / "connect.properties"
    (plugin,) = home.cache.lock.of("connect")
    plugins = home.cache.unpacked(plugin)
    config.write_text(properties(broker=home.port("kafka"), rest=home.port("connect"), plugins=plugins))
    main = "org.apache.kafka.connect.cli.ConnectDistributed"
    environment = {
        "TAILRACE_PG_HOST": HOST,
        "TAILRACE_PG_PORT": str(home.port("postgres")),
        "TAILRACE_PG_USER": POSTGRES_USER,
        "TAILRACE_PG_PASSWORD": home.state.postgres_password,
    }
    return Launch([*kafka_java(home, "connect", "768m"), main, str(config)], cwd=folder, env=environment)


def ready(home: Home) -> bool:
    """List the connectors: answered only by a worker that has joined its group and read its topics."""
    return answers(f"{home.url('connect')}/connectors")


SERVICE = Service("connect", ("connect",), launch, ready, needs=("kafka",))
