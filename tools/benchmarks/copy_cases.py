"""The cases of `tools/bench copy`, and the loop that measures them in turn.

For each case: a source volume built once, a destination volume made anew for each run, the tools
one after the other with the order turned round every round, the first round not counted.
The copies of the floor and of arsync are compared with the source once, outside the timed window.
"""

from __future__ import annotations

import datetime
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from . import sources, tools
from .errors import BenchError, ToolFailedError
from .machine import GIB, MIB, drop_caches, require_memory, user_seconds
from .measure import StopWatch, file_exists_below, nested_directory_exists_below
from .runs import Run
from .sources import Source
from .tools import Programs, Tool
from .volume import Volume, require_filesystem

WARM = "warm"
COLD = "cold"
CHECKED_PROGRAMS = ("floor", "arsync")


@dataclass(frozen=True)
class Case:
    """One question to measure.

    Attributes:
        name: its key in the kept runs and in the targets.
        group: what `--cases` calls it.
        source: key of the source it copies.
        references: the tools that the others are divided by in the report.
        statistic: what it is judged by, `median` or `min`.
        rounds: counted rounds where the command line does not decide.
        is_started: what to look for to tell that the first entry was copied.
        is_checked: compare the copies of floor and arsync with the source once.
    """

    name: str
    group: str
    title: str
    source: str
    tools: tuple[Tool, ...]
    references: tuple[str, ...] = ("rsync -a", "cp -a", "floor")
    state: str = WARM
    statistic: str = "median"
    rounds: int | None = None
    is_started: Callable[[Path], bool] | None = None
    is_checked: bool = True


_PEERS = (tools.RSYNC, tools.CP, tools.FLOOR, tools.ARSYNC)
_MEMORY = partial(Case, group="memory", tools=_PEERS, rounds=1, is_checked=False)

CASES = (
    Case(
        "warm",
        "warm",
        "real tree, warm cache",
        "tree",
        (tools.RSYNC, tools.CP, tools.FLOOR, tools.FLOOR_NO_RENAME, tools.ARSYNC),
    ),
    Case(
        "lanes",
        "lanes",
        "one lane against two (real tree, warm cache)",
        "tree",
        (tools.FLOOR_ONE, tools.FLOOR, tools.ARSYNC_ONE, tools.ARSYNC_TWO),
        references=("floor, 1 thread", "arsync, 1 lane"),
    ),
    Case(
        "cold",
        "cold",
        "real tree, cold cache",
        "tree",
        (tools.RSYNC, tools.CP, tools.FLOOR, tools.FLOOR_16, tools.ARSYNC),
        state=COLD,
    ),
    Case("big", "big", "one big file, warm cache", "big", _PEERS, statistic="min"),
    Case("many-big", "many-big", "eight big files, warm cache", "many-big", _PEERS),
    Case(
        "reflink",
        "reflink",
        "one big file, copied within a filesystem that shares blocks",
        "big",
        (tools.CP_REFLINK, tools.ARSYNC_JSON),
        references=("cp --reflink",),
    ),
    _MEMORY(
        "memory-one-dir",
        title="empty files in one directory",
        source="one-directory",
        is_started=file_exists_below,
    ),
    _MEMORY(
        "memory-spread",
        title="empty files in a thousand directories",
        source="spread",
        is_started=file_exists_below,
    ),
    _MEMORY(
        "memory-dirs",
        title="empty directories in one directory",
        source="directories",
        is_started=nested_directory_exists_below,
    ),
)
GROUPS = tuple(dict.fromkeys(case.group for case in CASES))


@dataclass(frozen=True)
class CopyOptions:
    """What the command line decides about a session."""

    filesystem: str = "ext4"
    rounds: int = 5
    groups: Sequence[str] = GROUPS
    tree: Path | None = None
    is_quick: bool = False

    def cases(self) -> list[Case]:
        """Return the cases to measure, those that share a source beside each other."""
        return [case for case in CASES if case.group in self.groups]


@dataclass
class Session:
    """Measure cases; hand each run on as soon as there is one.

    Attributes:
        contents: what each source held that was made so far.
        failures: a sentence for each tool that failed in a case, which went on without it.
    """

    options: CopyOptions
    programs: Programs
    work: Path
    keep: Callable[[Run], None]
    say: Callable[[str], None]
    contents: dict[str, sources.Contents] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    _checked: set[tuple[str, str]] = field(default_factory=set)

    def measure(self) -> None:
        """Measure all cases of the options.

        Raises:
            BenchError: memory is short, or a filesystem cannot be made.
        """
        cases = self.options.cases()
        filesystems = {self._filesystem(case) for case in cases}
        for filesystem in sorted(filesystems):
            require_filesystem(filesystem)
        for key in dict.fromkeys((case.source, case.group == "reflink") for case in cases):
            same = [case for case in cases if (case.source, case.group == "reflink") == key]
            self._measure_source(same)

    def _filesystem(self, case: Case) -> str:
        shares_blocks = self.options.filesystem in ("xfs", "btrfs")
        return "xfs" if case.group == "reflink" and not shares_blocks else self.options.filesystem

    def _measure_source(self, cases: Sequence[Case]) -> None:
        source = self._make_source(cases[0].source)
        self.contents[source.name] = source.contents
        within = cases[0].group == "reflink"
        size = source.image_bytes(self._filesystem(cases[0]))
        images = size if within else 2 * size
        purpose = f"case '{cases[0].name}'"
        require_memory(images, source.contents.data_bytes, purpose, self.work)
        with self._volumes(cases[0], source, size, within=within) as (src, dst):
            for case in cases:
                self._measure_case(case, source, src, dst)

    def _make_source(self, key: str) -> Source:
        quick = self.options.is_quick
        count = 10**4 if quick else 10**6
        makers: dict[str, Callable[[], Source]] = {
            "tree": lambda: sources.real_tree(self.options.tree, quick=quick),
            "big": lambda: sources.one_big_file(256 * MIB if quick else 4 * GIB),
            "many-big": lambda: sources.many_big_files(32 * MIB if quick else 512 * MIB),
            "one-directory": lambda: sources.files_in_one_directory(count),
            "spread": lambda: sources.files_in_many_directories(count),
            "directories": lambda: sources.directories_in_one_directory(count),
        }
        return makers[key]()

    @contextmanager
    def _volumes(
        self, case: Case, source: Source, size: int, *, within: bool
    ) -> Iterator[tuple[Volume, Volume]]:
        """Yield source and destination volume; the same one twice to copy within it."""
        filesystem = self._filesystem(case)
        new_volume = partial(
            Volume,
            self.work,
            filesystem=filesystem,
            size_bytes=size,
            mkfs_options=source.mkfs_options(filesystem),
        )
        with ExitStack() as stack:
            src = stack.enter_context(new_volume("source"))
            self.say(f"making the source: {source.contents.sentence()}")
            src.make_fresh()
            try:
                source.build(src.mount_point / "source")
            except OSError as error:
                raise BenchError(f"cannot make the source '{source.name}': {error}") from error
            if within:
                yield src, src
                return
            src.unmount()
            src.mount(read_only=True)
            yield src, stack.enter_context(new_volume("destination"))

    def _measure_case(self, case: Case, source: Source, src: Volume, dst: Volume) -> None:
        present = [tool for tool in case.tools if self.programs.has(tool)]
        rounds = self.options.rounds if case.rounds is None else case.rounds
        for number in range(rounds + 1):
            order = present if number % 2 == 0 else present[::-1]
            for tool in order:
                try:
                    run = self._measure_run(case, source, tool, number, src, dst)
                    self._check_copy(case, tool, src, dst)
                except ToolFailedError as error:
                    self.failures.append(f"{case.name}: {error}")
                    self.say(self.failures[-1])
                    present = [other for other in present if other is not tool]
                    continue
                self.keep(run)
                self.say(progress_line(run))

    def _measure_run(
        self, case: Case, source: Source, tool: Tool, number: int, src: Volume, dst: Volume
    ) -> Run:
        if dst is not src:
            dst.make_fresh()
        if case.state == COLD:
            drop_caches()
        else:
            os.sync()
        command = self.programs.command(
            tool, src.mount_point / "source", _copy_path(tool, dst, src)
        )
        watch = case.is_started
        read_before = src.read_bytes()
        user_before = user_seconds()
        stop_watch = StopWatch(self.programs.timed, self.work)
        timing = stop_watch.run(
            command, dst.mount_point, None if watch is None else partial(watch, dst.mount_point)
        )
        return Run(
            case=case.name,
            tool=tool.name,
            command=tool.shown(),
            round=number,
            discarded=number == 0,
            state=case.state,
            filesystem=dst.filesystem,
            mkfs=dst.mkfs,
            source=source_facts(source),
            source_read_bytes=src.read_bytes() - read_before,
            others_seconds=max(0.0, user_seconds() - user_before - timing.user_seconds),
            date=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            timing=timing,
        )

    def _check_copy(self, case: Case, tool: Tool, src: Volume, dst: Volume) -> None:
        """Compare one copy of each tool and source."""
        key = (case.source, tool.name)
        is_wanted = case.is_checked and tool.program in CHECKED_PROGRAMS
        if key in self._checked or not is_wanted:
            return
        require_equal(tool, src.mount_point / "source", dst.mount_point / "copy")
        self._checked.add(key)


def require_equal(tool: Tool, src: Path, dst: Path) -> None:
    """Compare a copy with its source by content and metadata, as rsync sees it, both ways.

    Raises:
        ToolFailedError: they differ; the sentence names the first difference.
    """
    slash = "/" if src.is_dir() else ""
    # A window of -1 compares nanoseconds; rsync itself looks at whole seconds otherwise.
    command = ["rsync", "-ain", "--checksum", "--modify-window=-1", *(["--delete"] * bool(slash))]
    command += [f"{src}{slash}", str(dst)]
    result = subprocess.run(command, capture_output=True, text=True, errors="replace")
    differences = (result.stdout + result.stderr).splitlines()
    if differences:
        raise ToolFailedError(
            f"the copy by '{tool.name}' is not equal to its source, "
            f"{len(differences)} differences, the first: {differences[0]}"
        )


def _copy_path(tool: Tool, dst: Volume, src: Volume) -> Path:
    """Name the copy; within the source's own filesystem it gets a name never used before."""
    if dst is not src:
        return dst.mount_point / "copy"
    path = dst.mount_point / "copy"
    if path.exists():
        path.rename(dst.mount_point / f"before-{tool.program}-{path.stat().st_ino}")
    return path


def source_facts(source: Source) -> dict[str, int | str]:
    """Return what kept runs say of their source."""
    contents = source.contents
    return {
        "name": source.name,
        "files": contents.files,
        "entries": contents.entries,
        "bytes": contents.data_bytes,
    }


def progress_line(run: Run) -> str:
    """Say in a line what a run took."""
    note = "  (not counted)" if run.discarded else ""
    return f"{run.case:<12} round {run.round}  {run.tool:<18} {run.timing.seconds:8.3f} s{note}"
