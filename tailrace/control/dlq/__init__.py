"""Dead letters, read back and brought to an end: counted, shown, edited, put back where they failed, dropped.

``letters`` reads the topics, ``selection`` says which letters are meant, ``editing`` is what a person sees and changes,
``returning`` puts letters back, ``ledger`` writes down what became of them. Nothing is ever removed from a topic.
"""

from tailrace.control.dlq.letters import (
    Heap,
    Parked,
    by_source,
    chosen,
    heaps,
    letters,
    moment,
    readable,
    show,
)
from tailrace.control.dlq.selection import Selection

__all__ = [
    "Heap",
    "Parked",
    "Selection",
    "by_source",
    "chosen",
    "heaps",
    "letters",
    "moment",
    "readable",
    "show",
]
