"""The command `arsync [sync] SRC... DST`.

Owns what happens between the words and the run: help and version, the operands, the fold, what
-v says first. The run itself and all it prints is transfer.py's.
"""

from __future__ import annotations

import os

from arsync.cli.draft import info_levels
from arsync.cli.fold import fold
from arsync.cli.messages import say, show, show_version
from arsync.cli.operands import check_operands
from arsync.cli.parser import SyncCommand
from arsync.cli.run import COMMANDS
from arsync.cli.words import CommandLine, Given

__all__ = ["command"]


def run_sync(line: CommandLine) -> int:
    """Run one command line.

    Returns: the exit code.
    Raises: ArsyncError for everything that keeps the run from being what was asked for.
    """
    if _wants_help(line):
        from arsync.cli.help import sync_help

        show(sync_help())
        return 0
    if line.ends_with:
        return show_version()
    if any(_asks_what_info_has(item) for item in line.given):
        from arsync.cli.help import info_help

        show(info_help())
        return 0
    sources, dst = check_operands(line.operands, COMMANDS)
    folded = fold(line.given, _umask())
    if folded.output.verbosity and not folded.output.quiet:
        for note in folded.notes:
            say(note)
    from arsync.cli.transfer import transfer

    return transfer(sources, dst, folded)


def _wants_help(line: CommandLine) -> bool:
    if line.ends_with:
        return line.ends_with.key == "--help"
    alone = not line.operands and len(line.given) > 0
    return alone and all(item.spelled == "-h" for item in line.given)


def _asks_what_info_has(item: Given) -> bool:
    is_info = item.option.key == "--info"
    return is_info and any(name == "help" for name, _ in info_levels(item.value))


def _umask() -> int:
    umask = os.umask(0o022)
    os.umask(umask)
    return umask


command = SyncCommand(run_sync)
