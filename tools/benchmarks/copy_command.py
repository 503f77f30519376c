"""The subcommand `copy`: options, session, and what is written where."""

from __future__ import annotations

import argparse
import datetime
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from . import plots
from .copy_cases import GROUPS, CopyOptions, Session
from .errors import BenchError
from .machine import require_root, separate_mounts, swap_is_on, this_machine
from .report import Header, copy_report
from .runs import Run, RunFile
from .sources import TREE_BYTES, TREE_FILES, Contents
from .tools import CHECKOUT, Programs, find_programs
from .volume import MKFS, work_directory

DEFAULT_OUT = CHECKOUT / "docs" / "bench"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `copy` to the commands."""
    parser = commands.add_parser(
        "copy", help="first copies beside rsync -a, cp -a and the floor", description=__doc__
    )
    parser.add_argument(
        "--tree",
        type=Path,
        metavar="DIR",
        help="real tree to copy (default: "
        "directories of this machine, 100,000 files and 2 GB or more)",
    )
    parser.add_argument(
        "--rounds",
        type=_at_least_one,
        default=5,
        metavar="N",
        help="rounds that count, beside the first that does not (default: 5)",
    )
    parser.add_argument(
        "--cases",
        type=_case_groups,
        default=GROUPS,
        metavar="LIST",
        help=f"some of {','.join(GROUPS)} (default: all)",
    )
    parser.add_argument(
        "--fs",
        choices=sorted(MKFS),
        default="ext4",
        help="filesystem of source and destination (default: ext4; reflink takes xfs then)",
    )
    parser.add_argument(
        "--arsync",
        metavar="CMD",
        help="the arsync to measure (default: the checkout's .venv/bin/arsync)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=DEFAULT_OUT,
        metavar="DIR",
        help="where runs, table and plots go (default: docs/bench)",
    )
    parser.add_argument("--no-plots", action="store_true", help="write no plots")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="small sources, to try the benchmark out; its figures say nothing",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure, write the files, print the table.

    Returns:
        The exit status: 1 when a tool failed; 0 also when a target is missed, which the table says.
    """
    require_root()
    separate_mounts()
    if not arguments.out.is_dir():
        raise BenchError(f"'{arguments.out}' is not a directory")
    options = CopyOptions(
        filesystem=arguments.fs,
        rounds=arguments.rounds,
        groups=arguments.cases,
        tree=arguments.tree,
        is_quick=arguments.quick,
    )
    today = datetime.date.today().isoformat()
    name = f"copy-{today}-{options.filesystem}" + ("-quick" if options.is_quick else "")
    stem = _unused_stem(arguments.out, name)
    with tempfile.TemporaryDirectory(prefix="arsync-bench-") as build, work_directory() as work:
        programs = find_programs(Path(build), arguments.arsync)
        return _Command(options, programs, arguments.out, stem, today).run(
            work, with_plots=not arguments.no_plots
        )


class _Command:
    """One session from the first run to the written report."""

    def __init__(
        self, options: CopyOptions, programs: Programs, out: Path, stem: str, today: str
    ) -> None:
        self._options = options
        self._programs = programs
        self._out = out
        self._stem = stem
        self._today = today
        self._machine = this_machine()
        self._versions = programs.versions()
        self._runs: list[Run] = []
        self._contents: dict[str, Contents] = {}
        self._failures: list[str] = []

    def run(self, work: Path, *, with_plots: bool) -> int:
        facts = {**asdict(self._machine), "versions": self._versions}
        with RunFile(self._out / f"{self._stem}.jsonl", facts) as file:

            def keep(run: Run) -> None:
                self._runs.append(run)
                file.append(run)

            session = Session(self._options, self._programs, work, keep, _say)
            try:
                session.measure()
            finally:
                self._contents, self._failures = session.contents, session.failures
                if any(not run.discarded for run in self._runs):
                    self._report(with_plots=with_plots)
        return 1 if self._failures else 0

    def _report(self, *, with_plots: bool) -> None:
        pictures = self._draw() if with_plots else []
        header = Header(self._machine, self._versions, self._today, self._remarks())
        text = copy_report(header, self._runs, [Path(picture.name) for picture in pictures])
        (self._out / f"{self._stem}.md").write_text(text)
        print(copy_report(header, self._runs))
        _say(f"kept: {self._out / self._stem}.jsonl, .md" + (", .svg" if pictures else ""))

    def _draw(self) -> Sequence[Path]:
        if not plots.have_matplotlib():
            _say("no plots: matplotlib is not installed (the extra 'bench')")
            return []
        drawings = {"times": plots.draw_times, "memory": plots.draw_memory}
        paths = {self._out / f"{self._stem}-{name}.svg": draw for name, draw in drawings.items()}
        return [path for path, draw in paths.items() if draw(self._runs, path)]

    def _remarks(self) -> list[str]:
        remarks = []
        if self._options.is_quick:
            remarks.append("Made with --quick: too small and too short for any of the targets.")
        tree = self._contents.get("tree")
        if tree is not None and (tree.files < TREE_FILES or tree.data_bytes < TREE_BYTES):
            remarks.append(
                "The real tree is smaller than the 100,000 files and 2 GB of the targets."
            )
        if "arsync" not in self._programs.commands:
            remarks.append("arsync was not there to be measured: 'tools/arsync' sets it up.")
        remarks += [f"Failed and left out: {failure}." for failure in self._failures]
        if swap_is_on():
            remarks.append("Swap is on: parts of an image may have been swapped out.")
        return remarks


def _unused_stem(out: Path, name: str) -> str:
    """Number the sessions of a day: kept runs are never written over."""
    stem, number = name, 1
    while (out / f"{stem}.jsonl").exists():
        number += 1
        stem = f"{name}-{number}"
    return stem


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _at_least_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("at least one round must count")
    return value


def _case_groups(text: str) -> Sequence[str]:
    groups = text.split(",")
    unknown = [group for group in groups if group not in GROUPS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no case '{unknown[0]}' among {','.join(GROUPS)}")
    return groups
