"""Benchmarks: ratios against bare clients, never timed tests."""
