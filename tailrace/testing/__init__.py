"""For tests of sinks, users' own included: a sink in memory, faults on demand, and the promises every sink keeps.

    from tailrace.testing import SinkContract, Store

    class TestMySink(SinkContract):          # with a fixture `store` that returns a Store
        ...

It needs no server and no test framework; the contract suite is a plain class that pytest collects when subclassed.
"""

from tailrace.testing.behind import DoorContract
from tailrace.testing.door import Answer, Door, Spoil
from tailrace.testing.faults import FailAfter, FailBefore, Faults, Hold
from tailrace.testing.memory import MemorySink
from tailrace.testing.parcels import PARCEL, Tape, parcel
from tailrace.testing.promises import SinkContract
from tailrace.testing.proxy import Proxy
from tailrace.testing.stores import Store

__all__ = [
    "PARCEL",
    "Answer",
    "Door",
    "DoorContract",
    "FailAfter",
    "FailBefore",
    "Faults",
    "Hold",
    "MemorySink",
    "Proxy",
    "SinkContract",
    "Spoil",
    "Store",
    "Tape",
    "parcel",
]
