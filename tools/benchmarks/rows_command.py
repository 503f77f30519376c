"""The subcommand `rows`: how the memory of a run grows with its manifest; it must not."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import BenchError
from .machine import MIB, TMPFS
from .tools import CHECKOUT, HERE

DEFAULT_ROWS = (10**5, 10**6, 10**7)
LIMIT_BYTES = 150 * 10**6
# What the largest may take beyond the smallest: four groups of 8 MiB wait for their commit at most,
# and LMDB holds the pages of one.
GROWTH_BYTES = 48 * MIB
MEMORY = ("commit_bytes", "open_bytes", "recall_bytes")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `rows` to the commands."""
    parser = commands.add_parser(
        "rows", help="memory of synthetic manifests of 10^5 to 10^7 rows", description=__doc__
    )
    parser.add_argument(
        "--rows",
        type=_numbers,
        default=DEFAULT_ROWS,
        metavar="LIST",
        help="how many, rising (default: 100000,1000000,10000000; the last takes 1.5 GB)",
    )
    parser.add_argument(
        "--dir", type=Path, default=TMPFS, help=f"where the stores are made (default: {TMPFS})"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print a line a manifest; return 1 where the memory grows or is above the limit."""
    print("      rows   commit     open   recall MB file MB   commit s  recall s")
    found = []
    for rows in arguments.rows:
        facts = _measure(rows, arguments.dir)
        found.append(facts)
        print(_line(facts), flush=True)
    peaks = [max(one[key] for key in MEMORY) for one in found]
    is_flat = max(peaks) <= min(peaks) + GROWTH_BYTES and max(peaks) <= LIMIT_BYTES
    print("flat" if is_flat else "not flat, or above 150 MB")
    return 0 if is_flat else 1


def _measure(rows: int, place: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="arsync-bench-rows-", dir=place) as store:
        command = [sys.executable, str(HERE / "rows_child.py"), str(rows), f"{store}/store"]
        result = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT)
    if result.returncode:
        raise BenchError(f"cannot measure {rows} rows: {result.stderr.strip()[-300:]}")
    facts: dict[str, Any] = json.loads(result.stdout)
    return facts


def _line(facts: dict[str, Any]) -> str:
    memory = "".join(f"{facts[key] / 1e6:9.1f}" for key in MEMORY)
    size = f"{facts['file_bytes'] / 1e6:7.0f}"
    return f"{facts['rows']:>10,}{memory}    {size}{facts['commit_s']:11}{facts['recall_s']:10}"


def _numbers(text: str) -> Sequence[int]:
    numbers = [int(one) for one in text.split(",")]
    if min(numbers) < 10**4:
        raise argparse.ArgumentTypeError("at least 10000 rows")
    return numbers
