"""The subcommand `resync`: what a second run takes."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from .report import RESYNC
from .resync_cases import GROUPS, ResyncOptions, Session
from .runs import Run
from .session import Plan, add_options, run_plan, say
from .sources import SMALL_TREE_FILES, Contents
from .tools import Programs


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `resync` to the commands."""
    parser = commands.add_parser(
        "resync", help="second runs beside rsync -a, with the manifest", description=__doc__
    )
    add_options(
        parser,
        GROUPS,
        tree="real tree whose files up to 64 KiB are synced (default: directories of this machine, "
        "112,000 such files or more)",
        filesystem="filesystem of source and destination (default: ext4; block takes xfs then)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure second runs; return the exit status."""
    options = ResyncOptions(
        filesystem=arguments.fs,
        rounds=arguments.rounds,
        groups=arguments.cases,
        tree=arguments.tree,
        is_quick=arguments.quick,
    )

    def make_session(programs: Programs, work: Path, keep: Callable[[Run], None]) -> Session:
        return Session(options, programs, work, keep, say)

    plan = Plan(RESYNC, options.filesystem, options.is_quick, make_session, _remarks)
    return run_plan(plan, arguments)


def _remarks(contents: Mapping[str, Contents]) -> list[str]:
    tree = contents.get("small-files")
    if tree is None or tree.files >= SMALL_TREE_FILES:
        return []
    return [f"The real tree has fewer than {SMALL_TREE_FILES:,} files."]
