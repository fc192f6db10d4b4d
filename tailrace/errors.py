"""Errors named by what happens next.

Every error carries a problem (one sentence), a detail (what was seen) and a hint (what to do); the cause is
attached with ``raise ... from``, never pasted in. Secrets and row values never go into any of the three.

TailraceError            a person has to act; the command ends with ``exit_code``
├── UsageError           2   the command line is wrong
├── ProjectError         3   a project file is wrong (tailrace.toml, .avsc, connector, processors/, sinks/)
├── Unreachable          4   a service does not answer, or a deadline passed
├── Refused              5   a precondition does not hold; nothing was changed
├── Fatal                70  a worker stops: unknown failure, or going on could lose or corrupt
├── Retryable            75  the same batch may succeed later (``after`` seconds)
└── Rejected             65  this one record can never succeed; it goes to the dead-letter topic

Exit codes besides these: 0 success, 1 ``check`` or ``verify`` found something, 130 interrupted.
Numbers from 64 up follow BSD sysexits.h (EX_DATAERR 65, EX_SOFTWARE 70, EX_TEMPFAIL 75).
"""

from __future__ import annotations


class TailraceError(Exception):
    """The root of all errors that Tailrace raises on purpose."""

    exit_code = 1

    def __init__(self, problem: str, *, detail: str = "", hint: str = "") -> None:
        super().__init__(problem)
        self.problem, self.detail, self.hint = problem, detail, hint

    def __str__(self) -> str:
        return " · ".join(part for part in (self.problem, self.detail, self.hint) if part)

    def as_dict(self) -> dict[str, str]:
        """Return the error as the JSON object that ``--json`` prints."""
        return {
            "error": type(self).__name__,
            "problem": self.problem,
            "detail": self.detail,
            "hint": self.hint,
        }


class UsageError(TailraceError):
    """The command line asks for something that does not exist."""

    exit_code = 2


class ProjectError(TailraceError):
    """A file of the project is wrong; the detail names file and place."""

    exit_code = 3


class Unreachable(TailraceError):
    """A service did not answer in time, or a wait passed its deadline."""

    exit_code = 4


class Refused(TailraceError):
    """A precondition does not hold and nothing was changed."""

    exit_code = 5


class Fatal(TailraceError):
    """The worker must stop; its offsets stay where they are."""

    exit_code = 70


class Retryable(TailraceError):
    """The same batch may succeed later: keep it, pause, try again after ``after`` seconds."""

    exit_code = 75

    def __init__(self, problem: str, *, after: float = 1.0, detail: str = "", hint: str = "") -> None:
        super().__init__(problem, detail=detail, hint=hint)
        self.after = after


class Rejected(TailraceError):
    """One record can never succeed; ``stage`` says where (decode, conform, encode, write)."""

    exit_code = 65

    def __init__(self, problem: str, *, stage: str, detail: str = "", hint: str = "") -> None:
        super().__init__(problem, detail=detail, hint=hint)
        self.stage = stage
