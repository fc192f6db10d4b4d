"""The schema registry (Apicurio), with its schemas in a file, so that ids outlive a restart as Kafka's records do.

It is asked rarely, so its Java compiles quickly rather than well: half the processor time of a start [measured].
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailrace.stack.java import java
from tailrace.stack.ports import HOST
from tailrace.stack.process import Launch
from tailrace.stack.service import Service, answers

if TYPE_CHECKING:
    from tailrace.stack.home import Home


def launch(home: Home) -> Launch:
    """Return the server's command."""
    folder = home.folder("registry")
    (archive,) = home.cache.lock.of("registry")
    settings = {
        "quarkus.http.host": HOST,
        "quarkus.http.port": home.port("registry"),
        "quarkus.management.host": HOST,
        "quarkus.management.port": home.port("registry_management"),
        "apicurio.datasource.url": f"jdbc:h2:file:{folder / 'schemas'};WRITE_DELAY=0",
        "apicurio.datasource.jdbc.initial-size": 2,
        "apicurio.datasource.jdbc.min-size": 2,
        "apicurio.datasource.jdbc.max-size": 10,
    }
    options = ["-XX:TieredStopAtLevel=1", *(f"-D{name}={value}" for name, value in settings.items())]
    jar = home.cache.unpacked(archive) / "quarkus-run.jar"
    return Launch([*java(home, "registry", heap="384m", options=options), "-jar", str(jar)], cwd=folder)


def ready(home: Home) -> bool:
    """Ask for the list of subjects, as a client would."""
    return answers(f"{home.url('registry')}/apis/ccompat/v7/subjects")


SERVICE = Service("registry", ("registry", "registry_management"), launch, ready)
