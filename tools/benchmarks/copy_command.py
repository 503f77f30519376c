"""The subcommand `copy`: first copies."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from .copy_cases import GROUPS, CopyOptions, Session
from .report import COPY
from .runs import Run
from .session import Plan, add_options, run_plan, say
from .sources import TREE_BYTES, TREE_FILES, Contents
from .tools import Programs


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `copy` to the commands."""
    parser = commands.add_parser(
        "copy", help="first copies beside rsync -a, cp -a and the floor", description=__doc__
    )
    add_options(
        parser,
        GROUPS,
        tree="real tree to copy (default: directories of this machine, 100,000 files and 2 GB or "
        "more)",
        filesystem="filesystem of source and destination (default: ext4; reflink takes xfs then)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure first copies; return the exit status."""
    options = CopyOptions(
        filesystem=arguments.fs,
        rounds=arguments.rounds,
        groups=arguments.cases,
        tree=arguments.tree,
        is_quick=arguments.quick,
    )

    def make_session(programs: Programs, work: Path, keep: Callable[[Run], None]) -> Session:
        return Session(options, programs, work, keep, say)

    plan = Plan(COPY, options.filesystem, options.is_quick, make_session, _remarks)
    return run_plan(plan, arguments)


def _remarks(contents: Mapping[str, Contents]) -> list[str]:
    tree = contents.get("tree")
    if tree is None or (tree.files >= TREE_FILES and tree.data_bytes >= TREE_BYTES):
        return []
    return ["The real tree is smaller than the 100,000 files and 2 GB of the targets."]
