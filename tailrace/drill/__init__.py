"""The drill: a seeded workload on the reference bank, faults at random while it runs, and the proof at the end.

It works on a copy of the project in a folder and on an embedded stack of its own, so nothing that runs is touched.
``schedule`` draws what happens when, ``faults`` does it, ``workload`` changes the database, ``watch`` looks at the lag,
``balances`` adds up money in every store, ``run`` puts it together, ``report`` and ``page`` show it.
"""
