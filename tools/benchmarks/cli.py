"""The command line of tools/bench: one module a subcommand, errors as one sentence."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from . import copy_command, resync_command, rows_command, start_command
from .errors import BenchError

COMMANDS = (copy_command, resync_command, rows_command, start_command)
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str]) -> int:
    """Run one subcommand and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="tools/bench",
        description="Measure arsync beside other tools; docs/bench/README.md explains the cases.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(commands)
    parsed = parser.parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        return int(parsed.run(parsed))
    except BenchError as error:
        print(f"tools/bench: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("tools/bench: interrupted; images, mounts and loop devices removed", file=sys.stderr)
        return EXIT_INTERRUPTED


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Unwind once, which cleans up; a second signal must not interrupt the cleaning."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
