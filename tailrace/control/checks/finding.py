"""What ``check`` says: one finding, for people and machines."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong (error), risky (warning) or worth knowing (note), and the SQL or edit that mends it."""

    severity: Severity
    what: str
    detail: str = ""
    sql: str = ""
    hint: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return it as ``--json`` prints it."""
        return asdict(self)


def error(what: str, detail: str = "", *, sql: str = "", hint: str = "") -> Finding:
    """Return a finding that makes ``check`` fail."""
    return Finding("error", what, detail, sql, hint)


def warning(what: str, detail: str = "", *, sql: str = "", hint: str = "") -> Finding:
    """Return a finding that a person should weigh."""
    return Finding("warning", what, detail, sql, hint)


def note(what: str, detail: str = "", *, sql: str = "", hint: str = "") -> Finding:
    """Return a finding that is only worth knowing."""
    return Finding("note", what, detail, sql, hint)
