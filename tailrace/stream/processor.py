"""The conform processor: one Faust app of one processors/ module, from raw topics to conformed topics.

``run`` waits for Kafka and the registry, then hands every batch to a background thread: conform, send, flush, and only
then is the offset free to be committed (tailrace.stream.bridge). A broker that goes away means the same batch again; a
record that can never be conformed is in the dead-letter topic before its offset moves; anything else ends the process
with 70. It creates no topic and registers no schema: ``tailrace apply`` does.
"""

from __future__ import annotations

import asyncio
import gc
import signal
from typing import TYPE_CHECKING, Any

import faust
import structlog
import uvloop
from yarl import URL

from tailrace import epoch, evolution, membership, topics
from tailrace.endpoints import STATE_FOLDER
from tailrace.errors import Fatal, Refused, TailraceError, Unreachable
from tailrace.health import Health, HealthServer, RunFile
from tailrace.kafka import KafkaAdmin, Outbox
from tailrace.registry import Registry, canonical
from tailrace.source import unchanged
from tailrace.stream.background import Background
from tailrace.stream.bridge import BatchTransport, check_pins
from tailrace.stream.conform import Conformer, TablePlan
from tailrace.stream.effect import DELIVERY_MS
from tailrace.stream.events import EventPlan
from tailrace.stream.handler import ConformHandler
from tailrace.stream.library import Disk
from tailrace.stream.mending import PATIENCE, Mender
from tailrace.stream.state import States

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tailrace.project import Project
    from tailrace.stream.conform import Plan

BATCH_ROWS = 4000
START_PAUSES = (0.5, 1.0, 2.0, 5.0)
COLLECT = (100_000, 20, 100)  # gc thresholds: a batch of records is a hundred thousand objects and no cycle

log = structlog.get_logger()


class ConformApp(faust.App):
    """A Faust app without agents; its consumer hands batches to ``handler``."""

    def __init__(self, name: str, *, handler: ConformHandler, **options: Any) -> None:
        self.handler = handler
        super().__init__(name, **options)

    def _new_transport(self) -> BatchTransport:
        return BatchTransport(self.conf.broker_consumer, self)


def collect_seldom() -> None:
    """Keep the garbage collector from walking through batches again and again: their objects go by their counts."""
    gc.collect()
    gc.freeze()  # modules, schemas and the app stay for good
    gc.set_threshold(*COLLECT)


def run(project: Project, name: str, *, health_port: int = 0) -> int:
    """Run the processor until SIGTERM or SIGINT; return 0, or the exit code of what stopped it."""
    check_pins()
    project.tables_of(name)
    health = Health(name)
    server, run_file = HealthServer(health, port=health_port), RunFile(project.folder, name)
    run_file.write(server.port)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(project, name, health))
    except TailraceError as error:
        log.error("the processor stops", **error.as_dict(), exc_info=error.__cause__)  # noqa: TRY400 - its cause says more
        return error.exit_code
    finally:
        health.ready = False
        server.close()
        run_file.remove()
    log.info("the processor has stopped", worker=name)
    return 0


async def _serve(project: Project, name: str, health: Health) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    conformer = await _prepared(project, name, health, stop)
    if conformer is None:
        return
    handler = _handler(project, name, conformer, health=health, stop=stop)
    app = _app(project, name, handler)
    collect_seldom()
    try:
        await _until_stopped(app, stop)
    finally:
        await handler.close()


async def _prepared(project: Project, name: str, health: Health, stop: asyncio.Event) -> Conformer | None:
    """Return the conformer once Kafka and the registry answer; None when a stop came first."""
    background = Background("start")
    attempt = 0
    while not stop.is_set():
        asking = asyncio.ensure_future(background.run(lambda: prepare(project, name)))
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait([asking, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not asking.done():
            asking.cancel()
            break
        try:
            return asking.result()
        except Unreachable as trouble:
            health.doing = f"waiting: {trouble.problem}"
            log.warning("waiting for a service", problem=trouble.problem, detail=trouble.detail)
        health.beat()
        try:
            await asyncio.wait_for(stop.wait(), START_PAUSES[min(attempt, len(START_PAUSES) - 1)])
        except TimeoutError:
            attempt += 1
    return None


def prepare(project: Project, name: str) -> Conformer:
    """Check epoch and contracts against Kafka and the registry; Unreachable, or Refused with what to do."""
    admin = KafkaAdmin(project.endpoints.kafka)
    found = epoch.need(admin, project.name)
    registry = Registry(project.endpoints.registry)
    try:
        counts = admin.partitions()
        logs = {table: _changelog(project, name, table, counts) for table in project.tables_of(name)}
        plans = [_plan(project, table, registry, changelog) for table, changelog in logs.items()]
    finally:
        registry.close()
    ages = {plan.raw: found.ages(plan.raw) for plan in plans}
    return Conformer(plans, epoch=found.epoch, worker=name, ages=ages)


def _changelog(project: Project, name: str, table: str, counts: Mapping[str, int]) -> str:
    """Return the changelog of a table's images, where ``apply`` made one."""
    raw, changelog = topics.raw(project.name, table), topics.changelog(project.name, name, table)
    if changelog in counts and counts[changelog] != counts.get(raw):
        raise Refused(
            f"The topic {changelog} has not the partitions of its table's.",
            detail=f"It has {counts[changelog]}, {raw} has {counts.get(raw)}.",
            hint="Remove it while the processor is stopped, then `tailrace apply`.",
        )
    return changelog if changelog in counts else ""


def _plan(project: Project, table: str, registry: Registry, changelog: str) -> Plan:
    if table in project.outboxes:
        return EventPlan(topics.raw(project.name, table), project.name, project.outboxes[table])
    record = project.record_of(table)
    contract, topic = project.contract(record), topics.conformed(project.name, record)
    registered = registry.latest(topic)
    later = evolution.newer(contract, registered[1]) if registered else None
    contract = later or contract
    if registered is None or canonical(registered[1]) != canonical(contract.schema):
        state = "is not registered" if registered is None else "is another one in the registry"
        raise Refused(
            f"The contract of {record} {state}.", detail=f"Subject {topic}-value.", hint="Run `tailrace apply`."
        )
    return TablePlan(
        raw=topics.raw(project.name, table),
        topic=topic,
        contract=contract,
        schema_id=registered[0],
        function=project.functions.get(table),
        placeholder=unchanged.of(project.connector.config),
        changelog=changelog,
        table=table,
        policy=project.settings.table(table).unknown_columns,
        emptied=project.settings.table(table).truncate == "propagate",
    )


def _handler(
    project: Project, name: str, conformer: Conformer, *, health: Health, stop: asyncio.Event
) -> ConformHandler:
    outbox = Outbox(project.endpoints.kafka, topics.group(project.name, name), **{"delivery.timeout.ms": DELIVERY_MS})
    letters_to = topics.dead_letters(project.name, name)
    admin = KafkaAdmin(project.endpoints.kafka)

    def confirm() -> None:
        epoch.confirm(admin, project.name, conformer.epoch)

    states = None
    if conformer.changelogs:
        disk = Disk(project.folder / STATE_FOLDER / "state" / name, project.endpoints.kafka, conformer.changelogs)
        states = States(conformer.changelogs, disk, outbox, health.beat)
    mender = Mender(conformer, Registry(project.endpoints.registry, patience=PATIENCE))
    return ConformHandler(
        conformer,
        outbox,
        health=health,
        letters_to=letters_to,
        stop=stop,
        confirm=confirm,
        states=states,
        mend=mender.mend,
    )


def _app(project: Project, name: str, handler: ConformHandler) -> ConformApp:
    rows = project.settings.worker(name).batch_rows or BATCH_ROWS
    folder = project.folder / STATE_FOLDER / "faust"
    folder.mkdir(parents=True, exist_ok=True)
    app = ConformApp(
        topics.group(project.name, name),
        handler=handler,
        broker=[URL(f"kafka://{address.strip()}") for address in project.endpoints.kafka.split(",")],
        datadir=str(folder / name),
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=membership.member(name),
        consumer_max_fetch_size=4 << 20,
        broker_max_poll_records=rows,
        broker_commit_interval=0.5,
        broker_session_timeout=10.0,
        broker_heartbeat_interval=3.0,
        broker_rebalance_timeout=60.0,
        table_standby_replicas=0,
    )
    for table in project.tables_of(name):
        app.topics.add(app.topic(topics.raw(project.name, table), key_type=bytes, value_type=bytes))
    return app


async def _until_stopped(app: ConformApp, stop: asyncio.Event) -> None:
    """Run the app until it is asked to stop or crashes; what crashed it is raised."""
    app.boot_strategy.enable_kafka_producer = False
    asked = asyncio.ensure_future(stop.wait())
    crashed = asyncio.ensure_future(app._crashed.wait())  # noqa: SLF001 - mode offers no other way to hear of a crash
    starting = asyncio.ensure_future(app.start())
    await asyncio.wait([asked, crashed, starting], return_when=asyncio.FIRST_COMPLETED)
    if starting.done() and not starting.cancelled() and starting.exception() is None:
        await asyncio.wait([asked, crashed], return_when=asyncio.FIRST_COMPLETED)
    await app.stop()
    for task in (asked, crashed, starting):
        task.cancel()
    reason = app.crash_reason or (starting.exception() if starting.done() and not starting.cancelled() else None)
    if reason is not None:
        raise _as_fatal(reason)


def _as_fatal(reason: BaseException) -> TailraceError:
    if isinstance(reason, TailraceError):
        return reason
    fatal = Fatal(
        "The processor met an unknown failure.",
        detail=type(reason).__name__,
        hint="Its offsets stay where they are; the traceback is in the log above. Start it again.",
    )
    fatal.__cause__ = reason
    return fatal
