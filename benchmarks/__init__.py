"""Benchmarks against the project's speed and memory targets: `python -m benchmarks`."""
