"""The subcommand `start`: what a call costs before it does anything, and what names cost."""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from .errors import BenchError, ToolFailedError
from .machine import TMPFS
from .tools import CHECKOUT

ROUNDS = 5
NAMES = 100_000
# Seconds that each line may show.
VERSION_S = 0.15
SCRIPT_S = 0.05
NAMES_S = 1.0


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `start` to the commands."""
    parser = commands.add_parser(
        "start", help="the start of arsync, and 10^5 names told", description=__doc__
    )
    parser.set_defaults(run=run)


def run(_arguments: argparse.Namespace) -> int:
    """Print a line a figure; return 1 where one is above its limit."""
    program, script = CHECKOUT / ".venv" / "bin" / "arsync", CHECKOUT / "tools" / "arsync"
    if not program.exists():
        raise BenchError(f"'{program}' is missing: call tools/arsync once before")
    version_s = _fastest([program, "--version"])
    found = [
        _tell("arsync --version", version_s, VERSION_S),
        _tell("tools/arsync beyond it", _fastest([script, "--version"]) - version_s, SCRIPT_S),
        _tell(f"-i of {NAMES:,} names", _names_s(program), NAMES_S),
    ]
    return 0 if all(found) else 1


def _tell(what: str, seconds: float, limit_s: float) -> bool:
    fits = seconds <= limit_s
    print(
        f"{what:24}{seconds:8.3f} s   limit {limit_s:.2f}{'' if fits else '   missed'}", flush=True
    )
    return fits


def _names_s(program: Path) -> float:
    """Return what a dry run takes longer when it tells each entry."""
    with tempfile.TemporaryDirectory(prefix="arsync-bench-start-", dir=TMPFS) as place:
        for directory in range(NAMES // 1000):
            where = Path(place, "src", f"dir-{directory}")
            where.mkdir(parents=True)
            for file in range(1000):
                (where / f"file-{file:06}").touch()
        command = [program, "-an", "--no-manifest", f"{place}/src/", f"{place}/dst"]
        return _fastest([*command, "-i"]) - _fastest(command)


def _fastest(command: Sequence[str | Path]) -> float:
    """Return the seconds of the fastest of some calls."""
    return min(_seconds(command) for _ in range(ROUNDS))


def _seconds(command: Sequence[str | Path]) -> float:
    started = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C"})
    seconds = time.monotonic() - started
    if done.returncode:
        raise ToolFailedError(f"'{command[0]}' ended with status {done.returncode}")
    return seconds
