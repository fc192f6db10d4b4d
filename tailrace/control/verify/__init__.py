"""The proof: every row of every captured table against every store, by key and by value.

The expected side is read from Postgres (``source``), goes through the user's own conform function (``expected``) and is
rendered here a second time, independently of the writers: nothing in this package imports ``tailrace.sink`` or
``tailrace.stream``, so a mistake of theirs cannot hide. Each store is read by its own client (``dynamodb``, ``search``,
``lake``). ``compare`` holds the pure part, ``run`` puts it together.
"""

from tailrace.control.verify.report import Check, Difference, Report
from tailrace.control.verify.run import verify

__all__ = ["Check", "Difference", "Report", "verify"]
