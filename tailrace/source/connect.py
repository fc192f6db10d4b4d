"""Kafka Connect's REST API, as much of it as Tailrace needs.

Every call has a deadline. A Connect that rebalances (409) is asked again; one that is silent is Unreachable; one that
refuses a config is a ProjectError with Connect's own words. A failed task's trace is summed up to its causes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from tailrace import web
from tailrace.deadline import wait_for
from tailrace.errors import ProjectError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT = 30.0  # one call; PUT config validates against the database
PATIENCE = 60.0  # a rebalance, a restart
_SECRET = re.compile(r"password|secret|token|credential|jaas", re.IGNORECASE)
_IN_TEXT = re.compile(r"((?:password|secret|token)[\w.]*\s*[=:]\s*)[^\s,;&]+|(://[^:/\s]+:)[^@\s]+(?=@)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Status:
    """What Connect says of one connector: RUNNING, PAUSED, STOPPED, FAILED, UNASSIGNED; ``trace`` summed up."""

    connector: str
    tasks: tuple[str, ...]
    trace: str = ""

    @property
    def running(self) -> bool:
        """Whether connector and task both run."""
        return self.connector == "RUNNING" and bool(self.tasks) and set(self.tasks) == {"RUNNING"}

    @property
    def failed(self) -> bool:
        """Whether the connector or a task has failed."""
        return "FAILED" in (self.connector, *self.tasks)

    @property
    def shown(self) -> str:
        """The state in a few words."""
        return f"connector {self.connector}, tasks {', '.join(self.tasks) or 'none'}"


class Connect:
    """A client of one Connect cluster."""

    def __init__(self, url: str) -> None:
        self._http = web.client(url, timeout=TIMEOUT)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def names(self) -> list[str]:
        """Return the connectors that exist."""
        return list(self._call("GET", "/connectors") or ())

    def config(self, name: str) -> dict[str, str] | None:
        """Return a connector's config as Connect holds it, or None."""
        found = self._call("GET", f"/connectors/{name}/config")
        return None if found is None else {str(key): str(value) for key, value in found.items()}

    def create_stopped(self, name: str, config: Mapping[str, str]) -> None:
        """Create the connector without starting it, and wait until it is there."""
        self._call("POST", "/connectors", {"name": name, "config": dict(config), "initial_state": "STOPPED"})
        self._wait_stopped(name)

    def put(self, name: str, config: Mapping[str, str]) -> None:
        """Create the connector, or change its config."""
        self._call("PUT", f"/connectors/{name}/config", dict(config))

    def status(self, name: str) -> Status | None:
        """Return the state of a connector and its tasks, or None when there is no such connector."""
        found = self._call("GET", f"/connectors/{name}/status")
        return None if found is None else parse_status(found)

    def offsets(self, name: str) -> dict[str, Any] | None:
        """Return the committed source offset (lsn_proc and so on), or None when there is none yet."""
        found = self._call("GET", f"/connectors/{name}/offsets")
        entries = (found or {}).get("offsets") or []
        own = [entry for entry in entries if entry.get("partition")]  # notifications leave one without a partition
        return dict(own[0].get("offset") or {}) if own else None

    def lsn(self, name: str) -> int | None:
        """Return the LSN up to which every change is in Kafka (its committed ``lsn_proc``), or None."""
        found = (self.offsets(name) or {}).get("lsn_proc")
        return None if found is None else int(found)

    def stop(self, name: str) -> None:
        """Stop the connector's tasks, offsets kept, and wait until they are gone."""
        self._call("PUT", f"/connectors/{name}/stop")
        self._wait_stopped(name)

    def resume(self, name: str) -> None:
        """Let a stopped or paused connector run again."""
        self._call("PUT", f"/connectors/{name}/resume")

    def restart(self, name: str) -> None:
        """Start again what has failed, connector and tasks."""
        self._call("POST", f"/connectors/{name}/restart?includeTasks=true&onlyFailed=true")

    def reset_offsets(self, name: str) -> None:
        """Forget the source offset of a stopped connector: its next start takes a new snapshot."""
        self._call("DELETE", f"/connectors/{name}/offsets")

    def delete(self, name: str) -> None:
        """Remove the connector; the slot and its offsets stay. No such connector is fine."""
        self._call("DELETE", f"/connectors/{name}")

    def wait_running(self, name: str, *, timeout: float = PATIENCE) -> Status:
        """Wait until connector and task run; Unreachable with the summed-up trace when a task fails."""
        return wait_for(lambda: self._running(name), timeout=timeout, every=0.25, what=f"the connector {name} to run")

    def _running(self, name: str) -> Status | None:
        status = self.status(name)
        if status is not None and status.failed:
            raise Unreachable(
                f"The connector {name} has failed.",
                detail=status.trace or status.shown,
                hint="Mend the cause, then run `tailrace apply` again: it restarts what has failed.",
            )
        return status if status is not None and status.running else None

    def _wait_stopped(self, name: str) -> None:
        def gone() -> bool:
            status = self.status(name)
            return status is not None and status.connector == "STOPPED" and not status.tasks

        wait_for(gone, timeout=PATIENCE, every=0.25, what=f"the connector {name} to stop")

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return the parsed answer, None for 404 and for an empty answer; ask again while Connect rebalances."""
        response = wait_for(
            lambda: self._once(method, path, body),
            timeout=PATIENCE,
            every=0.5,
            what="Kafka Connect to finish a rebalance",
        )
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        if response.is_error:
            raise _refused(response, path)
        return response.json() if response.content else None

    def _once(self, method: str, path: str, body: Mapping[str, Any] | None) -> httpx.Response | None:
        """Return the answer, or None while Connect is rebalancing."""
        try:
            response = self._http.request(method, path, json=body)
        except httpx.TransportError as error:
            raise Unreachable(
                "Kafka Connect does not answer.",
                detail=f"{self._http.base_url}: {type(error).__name__}",
                hint="Is it up? `tailrace stack status` shows the local one.",
            ) from error
        moving = response.is_server_error and "rebalance is expected" in response.text  # 500 in some places, not 409
        return None if moving or response.status_code == httpx.codes.CONFLICT else response


def _refused(response: httpx.Response, path: str) -> ProjectError | Unreachable:
    said = without_secrets(str(_message(response)))
    if response.status_code == httpx.codes.BAD_REQUEST:
        return ProjectError(
            "Kafka Connect refuses the connector's config.", detail=said, hint="`tailrace check` names wrong settings."
        )
    return Unreachable("Kafka Connect is in trouble.", detail=f"{path} answered {response.status_code}: {said}")


def _message(response: httpx.Response) -> Any:
    try:
        return response.json().get("message", "")
    except ValueError:
        return response.text[:300]


def parse_status(found: Mapping[str, Any]) -> Status:
    """Return the status in Connect's answer."""
    tasks = found.get("tasks") or []
    traces = [found["connector"].get("trace", ""), *(task.get("trace", "") for task in tasks)]
    return Status(
        connector=str(found["connector"]["state"]),
        tasks=tuple(str(task["state"]) for task in tasks),
        trace=" | ".join(summary(trace) for trace in traces if trace),
    )


def summary(trace: str, causes: int = 3) -> str:
    """Return a Java trace's first line and its last ``Caused by`` lines, without secrets."""
    lines = [line.strip() for line in trace.splitlines() if line.strip()]
    caused = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    said = caused[-causes:] if caused else lines[:1]
    return without_secrets(" <- ".join(reversed(said)))[:1500]


def without_secrets(text: str) -> str:
    """Return ``text`` with everything that looks like a password's value replaced by ``***``."""
    return _IN_TEXT.sub(lambda match: f"{match[1] or match[2]}***", text)


def masked(key: str, value: str) -> str:
    """Return a config value fit to be printed: secrets as ``***``, except references to the environment."""
    return "***" if _SECRET.search(key) and value and not value.startswith("${") else value
