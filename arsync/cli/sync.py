"""The command `arsync [sync] SRC... DST`.

Owns what happens between the words and the run. The run itself and all it prints is transfer.py's.
"""

from __future__ import annotations

from arsync.cli.operands import check_operands
from arsync.cli.parser import WordsCommand
from arsync.cli.preliminaries import answered, folded_here
from arsync.cli.run import COMMANDS
from arsync.cli.words import CommandLine

__all__ = ["command"]


def run_sync(line: CommandLine) -> int:
    """Run one command line.

    Returns: the exit code.
    Raises: ArsyncError for everything that keeps the run from being what was asked for.
    """
    if answered(line, _help):
        return 0
    sources, dst = check_operands(line.operands, COMMANDS)
    folded = folded_here(line.given)
    from arsync.cli.transfer import transfer

    return transfer(sources, dst, folded)


def _help() -> str:
    from arsync.cli.help import sync_help

    return sync_help()


command = WordsCommand("sync", run_sync, _help)
