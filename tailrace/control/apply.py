"""``tailrace apply``: make the outside what the project says, in order, each step told as it is taken.

Conflicts are refused before anything is changed. A step that fails ends the run; what was done before it stays, and
the next run goes on from there, because every step compares first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailrace.control.plan import plan, resources
from tailrace.control.services import Services
from tailrace.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from tailrace.control.plan import Plan
    from tailrace.project import Project
    from tailrace.resource import Step

    Report = Callable[[str, Step], None]  # "begin" or "end", and the step


def refuse_conflicts(found: Plan) -> None:
    """Raise Refused when the plan has a conflict."""
    if found.conflicts:
        said = [f"{step.kind} {step.name}: {'; '.join(step.lines)}" for step in found.conflicts]
        raise Refused(
            f"{len(said)} of the project's resources cannot be made what they should be; nothing was changed.",
            detail=" | ".join(said),
            hint="`tailrace plan` shows them, `tailrace check` the SQL that mends what is wrong in the source.",
        )


def take(found: Plan, report: Report = lambda *_: None) -> int:
    """Take the plan's steps and return how many there were."""
    refuse_conflicts(found)
    for resource, step in found.pending:
        report("begin", step)
        resource.apply()
        report("end", step)
    return len(found.pending)


def apply(project: Project, report: Report = lambda *_: None) -> int:
    """Plan and take every step; return how many resources were changed (0 the second time)."""
    with Services(project) as services:
        return take(plan(resources(services)), report)
