"""The exceptions that the benchmarks raise on purpose."""

from __future__ import annotations


class BenchError(Exception):
    """Say in one sentence why the benchmark cannot go on; the command prints it and exits."""


class ToolFailedError(BenchError):
    """Say which tool failed: its case goes on without it, and the benchmark ends with status 1."""
