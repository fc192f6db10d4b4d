"""Kafka 4.3: one node that is broker and controller, its log formatted at the first start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tailrace.errors import Fatal
from tailrace.stack.java import java
from tailrace.stack.ports import HOST
from tailrace.stack.process import Launch, run_tool
from tailrace.stack.service import Service

if TYPE_CHECKING:
    from pathlib import Path

    from tailrace.stack.home import Home

FORMAT_SECONDS = 60
LOGGING = """\
appenders=console
appender.console.type=Console
appender.console.name=STDOUT
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d{ISO8601} %p %c: %m%n
rootLogger.level=INFO
rootLogger.appenderRefs=console
rootLogger.appenderRef.console.ref=STDOUT
"""
PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers={host}:{controller}
listeners=PLAINTEXT://{host}:{broker},PROXIED://{host}:{behind},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{broker},PROXIED://{host}:{proxy}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
num.network.threads=2
num.io.threads=4
num.partitions=1
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=2097152
metadata.max.idle.interval.ms=5000
auto.create.topics.enable=false
"""


def properties(*, data: Path, broker: int, controller: int, behind: int, proxy: int) -> str:
    """Return the text of server.properties.

    Who comes in at ``behind`` is sent on to ``proxy``: a proxy may be put there that forwards to ``behind``.
    """
    return PROPERTIES.format(host=HOST, data=data, broker=broker, controller=controller, behind=behind, proxy=proxy)


def kafka_java(home: Home, name: str, heap: str, *, tool: bool = False) -> list[str]:
    """Return a Java command line with Kafka's jars and logging to standard output."""
    logging = home.folder(name) / "log4j2.properties"
    logging.write_text(LOGGING)
    options = [f"-Dlog4j2.configurationFile={logging}", "-cp", home.cache.class_path("kafka")]
    return java(home, name, heap=heap, options=options, tool=tool)


def launch(home: Home) -> Launch:
    """Write server.properties, format the log folder the first time; return the server's command."""
    folder = home.folder("kafka")
    config = folder / "server.properties"
    ports = {name: home.port(f"kafka_{name}") for name in ("controller", "behind", "proxy")}
    config.write_text(properties(data=folder / "data", broker=home.port("kafka"), **ports))
    if not (folder / "data" / "meta.properties").exists():
        _format(home, config)
    return Launch([*kafka_java(home, "kafka", "512m"), "kafka.Kafka", str(config)], cwd=folder)


def _format(home: Home, config: Path) -> None:
    tool = ["kafka.tools.StorageTool", "format", "--standalone", "--ignore-formatted"]
    arguments = ["--config", str(config), f"--cluster-id={home.state.cluster_id}"]
    command = [*kafka_java(home, "kafka", "256m", tool=True), *tool, *arguments]
    status = run_tool(Launch(command, cwd=config.parent), log=home.log("kafka"), mark=home.mark, timeout=FORMAT_SECONDS)
    if status:
        raise Fatal(
            "Kafka's log folder could not be formatted.",
            detail=f"The tool ended with {status}; its words are in {home.log('kafka')}.",
            hint="Is the disk full, or the folder not writable?",
        )


def ready(home: Home) -> bool:
    """List the topics."""
    client = AdminClient(
        {"bootstrap.servers": f"{HOST}:{home.port('kafka')}", "log_level": 0, "socket.timeout.ms": 3000}
    )
    try:
        return bool(client.list_topics(timeout=2).brokers)
    except KafkaException:
        return False


SERVICE = Service("kafka", ("kafka", "kafka_controller", "kafka_behind"), launch, ready)
