"""What comes before a run on every command line with rsync's options.

Owns the answers to what is asked about the program (help, version, --info=help), the fold with the
process's umask, and what -v says first.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from arsync.cli.draft import info_levels
from arsync.cli.fold import Folded, fold
from arsync.cli.messages import say, show, show_version
from arsync.cli.words import CommandLine, Given

__all__ = ["answered", "folded_here"]


def answered(line: CommandLine, text: Callable[[], str]) -> bool:
    """Answer a command line that asks for help or the version, and tell whether it did.

    Args:
        text: returns the help.
    """
    if _wants_help(line):
        show(text())
    elif line.ends_with:
        show_version()
    elif any(_asks_what_info_has(item) for item in line.given):
        from arsync.cli.help import info_help

        show(info_help())
    else:
        return False
    return True


def folded_here(given: Sequence[Given]) -> Folded:
    """Fold options, and say which have no effect where -v asks for it.

    Raises: as `fold` does.
    """
    folded = fold(given, _umask())
    if folded.output.verbosity and not folded.output.quiet:
        for note in folded.notes:
            say(note)
    return folded


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
