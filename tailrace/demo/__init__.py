"""The reference bank brought to life: migrations, seed rows, traffic, the live demo and its measurements.

It is the product's workload for the demo, the tests and the drills, and shares no code with the workers.
"""
