"""What the subcommands share: options, a session from its first run to the report, its files."""

from __future__ import annotations

import argparse
import datetime
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from . import plots
from .errors import BenchError
from .machine import TMPFS, is_in_memory, require_root, separate_mounts, swap_is_on, this_machine
from .report import Header, Subject, write_report
from .runs import Run, RunFile
from .sources import Contents
from .tools import CHECKOUT, Programs, find_programs
from .volume import MKFS, work_directory

DEFAULT_OUT = CHECKOUT / "docs" / "bench"


class Measuring(Protocol):
    """Measure cases, hand on runs; `Session` of copy_cases and of resync_cases."""

    contents: dict[str, Contents]
    failures: list[str]

    def measure(self) -> None:
        """Measure all cases."""


@dataclass(frozen=True)
class Plan:
    """Say what a command measures.

    Attributes:
        remarks: said in the report, beside what every session says.
    """

    subject: Subject
    filesystem: str
    is_quick: bool
    make_session: Callable[[Programs, Path, Callable[[Run], None]], Measuring]
    remarks: Callable[[Mapping[str, Contents]], list[str]]


def add_options(
    parser: argparse.ArgumentParser, groups: Sequence[str], tree: str, filesystem: str
) -> None:
    """Add the options that every command has.

    Args:
        groups: what --cases takes.
        tree: help of --tree.
        filesystem: help of --fs.
    """

    def some_groups(text: str) -> Sequence[str]:
        chosen = text.split(",")
        unknown = [group for group in chosen if group not in groups]
        if unknown:
            raise argparse.ArgumentTypeError(f"no case '{unknown[0]}' among {','.join(groups)}")
        return chosen

    parser.add_argument("--tree", type=Path, metavar="DIR", help=tree)
    parser.add_argument(
        "--rounds",
        type=_at_least_one,
        default=5,
        metavar="N",
        help="rounds that count, beside the first that does not (default: 5)",
    )
    parser.add_argument(
        "--cases",
        type=some_groups,
        default=groups,
        metavar="LIST",
        help=f"some of {','.join(groups)} (default: all)",
    )
    parser.add_argument("--fs", choices=sorted(MKFS), default="ext4", help=filesystem)
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
    parser.add_argument(
        "--images",
        type=Path,
        default=TMPFS,
        metavar="DIR",
        help=f"where the filesystems' images are made (default: {TMPFS}); on a disk its own speed "
        "is measured, too",
    )
    parser.add_argument("--no-plots", action="store_true", help="write no plots")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="small sources, to try the benchmark out; its figures say nothing",
    )


def run_plan(plan: Plan, arguments: argparse.Namespace) -> int:
    """Measure, write the files, print the table.

    Returns:
        The exit status: 1 when a tool failed; 0 also when a target is missed, which the table says.
    """
    require_root()
    separate_mounts()
    for directory in (arguments.out, arguments.images):
        if not directory.is_dir():
            raise BenchError(f"'{directory}' is not a directory")
    with (
        tempfile.TemporaryDirectory(prefix="arsync-bench-") as build,
        work_directory(arguments.images.resolve()) as work,
    ):
        programs = find_programs(Path(build), arguments.arsync)
        return _Command(plan, programs, arguments.out).run(work, with_plots=not arguments.no_plots)


class _Command:
    """One session from the first run to the written report."""

    def __init__(self, plan: Plan, programs: Programs, out: Path) -> None:
        self._plan = plan
        self._programs = programs
        self._out = out
        self._today = datetime.date.today().isoformat()
        name = f"{plan.subject.command}-{self._today}-{plan.filesystem}"
        self._in_memory = True
        self._stem = _unused_stem(out, name + ("-quick" if plan.is_quick else ""))
        self._machine = this_machine()
        self._versions = programs.versions()
        self._runs: list[Run] = []
        self._contents: dict[str, Contents] = {}
        self._failures: list[str] = []

    def run(self, work: Path, *, with_plots: bool) -> int:
        self._in_memory = is_in_memory(work)
        facts = {**asdict(self._machine), "versions": self._versions}
        with RunFile(self._out / f"{self._stem}.jsonl", facts) as file:

            def keep(run: Run) -> None:
                self._runs.append(run)
                file.append(run)

            session = self._plan.make_session(self._programs, work, keep)
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
        text = write_report(
            self._plan.subject, header, self._runs, [Path(picture.name) for picture in pictures]
        )
        (self._out / f"{self._stem}.md").write_text(text)
        print(write_report(self._plan.subject, header, self._runs))
        say(f"kept: {self._out / self._stem}.jsonl, .md" + (", .svg" if pictures else ""))

    def _draw(self) -> Sequence[Path]:
        if not plots.have_matplotlib():
            say("no plots: matplotlib is not installed (the extra 'bench')")
            return []
        drawings = {"times": plots.draw_times, "memory": plots.draw_memory}
        paths = {self._out / f"{self._stem}-{name}.svg": draw for name, draw in drawings.items()}
        cases = self._plan.subject.cases
        return [path for path, draw in paths.items() if draw(cases, self._runs, path)]

    def _remarks(self) -> list[str]:
        remarks = self._plan.remarks(self._contents)
        if self._plan.is_quick:
            remarks.append("Made with --quick: too small and too short for any of the targets.")
        if not self._in_memory:
            remarks.append("The images lay on a disk, not on tmpfs (--images).")
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


def say(line: str) -> None:
    """Print a line of progress."""
    print(line, file=sys.stderr, flush=True)


def _at_least_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("at least one round must count")
    return value
