"""The command `arsync plan SRC... DST [-o FILE]`.

Owns what is told of a plan and where it goes. What stands in FILE is planfile's.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from arsync.cli.fold import Folded
from arsync.cli.operands import check_operands
from arsync.cli.parser import WordsCommand
from arsync.cli.preliminaries import answered, folded_here
from arsync.cli.table import OPTIONS, PLAN_FILE
from arsync.cli.words import CommandLine
from arsync.errors import UsageError, quoted
from arsync.options import OutputOptions

if TYPE_CHECKING:
    from arsync.planfile.header import Header

__all__ = ["command"]


def run_plan(line: CommandLine) -> int:
    """Run one command line.

    Returns: the exit code of the dry run.
    Raises: ArsyncError.
    """
    if answered(line, _help):
        return 0
    sources, dst = check_operands(line.operands, {})
    files = [item.value for item in line.given if item.option is PLAN_FILE]
    folded = folded_here([item for item in line.given if item.option is not PLAN_FILE])
    from arsync import __version__
    from arsync.planfile.header import as_dry_run, header_of, told_as

    header = header_of(__version__, list(map(os.fsencode, sources)), os.fsencode(dst), folded.sync)
    dry = replace(folded, sync=told_as(as_dry_run(header.options), folded.sync))
    if files:
        return _write(sources, dst, dry, header, files[-1])
    from arsync.cli.transfer import transfer

    return transfer(sources, dst, replace(dry, output=_itemized(dry.output)), removals=True)


def _write(sources: Sequence[str], dst: str, dry: Folded, header: Header, path: str) -> int:
    """Write the plan to a file, and tell of it what was asked for."""
    from arsync.cli.state import writer_to
    from arsync.cli.tellers import PlanTeller
    from arsync.cli.transfer import transfer
    from arsync.planfile.lines import PlanWriter

    if not path:
        raise UsageError("--output: the name of the file is empty")
    if path != "-" and path.startswith("-"):
        raise UsageError(
            f"--output: {quoted(path)} looks like an option (write {quoted('./' + path)} for a "
            "file of that name; -o is not --owner here)"
        )
    if path == "-":
        dry = replace(dry, output=_silent(dry.output))
    else:
        _warn_of_place(sources, dst, dry, path)
    with writer_to(path) as write:
        return transfer(sources, dst, dry, PlanTeller(PlanWriter(write, header)), removals=True)


def _silent(output: OutputOptions) -> OutputOptions:
    """Return options that leave standard output to the plan."""
    if output.json:
        raise UsageError("--json cannot be used with -o -: both are standard output")
    return replace(output, quiet=True)


def _itemized(output: OutputOptions) -> OutputOptions:
    """Return options that show what is planned as -i does, where no other format was given."""
    from arsync.itemize import ITEMIZE_FORMAT, NAME_FORMAT

    output = replace(output, removals=True)
    if output.out_format not in (None, NAME_FORMAT):
        return output
    return replace(output, itemize=max(1, output.itemize), out_format=ITEMIZE_FORMAT)


def _warn_of_place(sources: Sequence[str], dst: str, dry: Folded, path: str) -> None:
    """Say so where the plan would be a part of what it plans."""
    from arsync.cli.messages import say
    from arsync.mounts import walk_would_enter

    holder = os.fsencode(os.path.dirname(os.path.realpath(path)))
    stays = dry.sync.one_file_system > 0
    for operand in (*sources, dst):
        root = os.fsencode(operand)
        if os.path.isdir(root) and walk_would_enter(root, holder, one_file_system=stays):
            say(
                f"the plan {quoted(path)} is inside {quoted(operand)}: 'arsync apply' will "
                "find that this has changed (write it elsewhere)"
            )


def _help() -> str:
    from arsync.cli.help import plan_help

    return plan_help()


command = WordsCommand("plan", run_plan, _help, (PLAN_FILE, *OPTIONS))
