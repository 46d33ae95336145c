"""Benchmarks: one module per promise, each against its floor in the same run. `python -m benchmarks` prints a table."""
