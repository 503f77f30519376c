"""The cases of `tools/bench resync`, and the loop that measures them in turn.

Each tool keeps a destination of its own, made by a first run of the same tool that is not timed.
Before each round the source is edited once, then the tools follow one after the other, the order
turned round every round, the first round not counted. Where a run leaves something behind that
would help the next one (`renewed` cases), each run begins with a fresh filesystem, a first run and
an edit of its own.
"""

from __future__ import annotations

import datetime
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from . import edits, sources, tools
from .copy_cases import CHECKED_PROGRAMS, Case, progress_line, require_equal, source_facts
from .edits import Edit
from .errors import BenchError, ToolFailedError
from .machine import GIB, MIB, require_memory, user_seconds
from .measure import StopWatch, Timing
from .runs import Run
from .sources import Contents, Source
from .tools import Programs, Tool
from .volume import Volume, require_filesystem


@dataclass(frozen=True)
class ResyncCase(Case):
    """One question about a second run.

    Attributes:
        edit: what happens to the source before it; None for nothing.
        is_renewed: each run has a fresh destination.
        is_first: there is no run before the one that is measured.
        copies: of the source that a destination must have room for.
        shares_blocks: it takes a filesystem that does.
    """

    edit: Edit | None = None
    is_renewed: bool = False
    is_first: bool = False
    copies: int = 1
    shares_blocks: bool = False


_NOOP = (tools.RSYNC, tools.ARSYNC, tools.ARSYNC_TRUST)

CASES = (
    ResyncCase("noop", "noop", "nothing changed, a real tree", "small-files", _NOOP, ("rsync -a",)),
    ResyncCase(
        "changed",
        "changed",
        "1 % of the files changed",
        "small-files",
        _NOOP,
        ("rsync -a",),
        edit=edits.change_one_percent,
    ),
    ResyncCase(
        "one",
        "one",
        "one file changed",
        "small-files",
        _NOOP,
        ("rsync -a",),
        edit=edits.change_one,
    ),
    ResyncCase(
        "checksum",
        "checksum",
        "-c, hashes known (nothing changed), a real tree, whole",
        "tree",
        (tools.RSYNC_CHECKSUM, tools.ARSYNC_CHECKSUM),
        ("rsync -ac",),
    ),
    ResyncCase(
        "first",
        "first",
        "first run, with the manifest and without",
        "small-files",
        (tools.ARSYNC_NO_MANIFEST, tools.ARSYNC),
        ("arsync --no-manifest",),
        is_renewed=True,
        is_first=True,
    ),
    ResyncCase(
        "noop-million",
        "noop-million",
        "nothing changed, empty files in a thousand directories",
        "spread",
        _NOOP,
        ("rsync -a",),
    ),
    ResyncCase(
        "renamed",
        "renamed",
        "a directory renamed",
        "directory",
        (tools.RSYNC_DELETE, tools.ARSYNC_DELETE),
        ("rsync -a --delete",),
        edit=edits.rename_directory,
        is_renewed=True,
        copies=2,
    ),
    ResyncCase(
        "block",
        "block",
        "64 KiB changed in a big file",
        "big-file",
        (tools.RSYNC, tools.RSYNC_INPLACE, tools.ARSYNC, tools.ARSYNC_INPLACE),
        ("rsync -a", "rsync --inplace"),
        edit=edits.change_block,
        is_renewed=True,
        copies=2,
        shares_blocks=True,
    ),
)
GROUPS = tuple(case.group for case in CASES)


@dataclass(frozen=True)
class ResyncOptions:
    """What the command line decides about a session."""

    filesystem: str = "ext4"
    rounds: int = 5
    groups: Sequence[str] = GROUPS
    tree: Path | None = None
    is_quick: bool = False

    def cases(self) -> list[ResyncCase]:
        """Return the cases to measure, those that share a source beside each other."""
        return [case for case in CASES if case.group in self.groups]


@dataclass
class Session:
    """Measure cases; hand each run on as soon as there is one.

    Attributes:
        contents: what each source held that was made so far.
        failures: a sentence for each tool that failed in a case, which went on without it, and for
            each case that there was no room for.
        watch: runs the tools, and keeps what arsync remembers.
    """

    options: ResyncOptions
    programs: Programs
    work: Path
    keep: Callable[[Run], None]
    say: Callable[[str], None]
    contents: dict[str, Contents] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    watch: StopWatch = field(init=False)
    _edits: int = 0

    def __post_init__(self) -> None:
        self.watch = StopWatch(self.programs.timed, self.work, keeps_state=True)

    def measure(self) -> None:
        """Measure all cases of the options.

        Raises:
            BenchError: a filesystem cannot be made.
        """
        cases = self.options.cases()
        for filesystem in sorted({self._filesystem(case) for case in cases}):
            require_filesystem(filesystem)
        for key in dict.fromkeys(case.source for case in cases):
            self._measure_source([case for case in cases if case.source == key])

    def _filesystem(self, case: ResyncCase) -> str:
        fits = not case.shares_blocks or self.options.filesystem in ("xfs", "btrfs")
        return self.options.filesystem if fits else "xfs"

    def _measure_source(self, cases: Sequence[ResyncCase]) -> None:
        source = self._make_source(cases[0].source)
        filesystem = self._filesystem(cases[0])
        most = max(map(self._copies, cases))
        room = replace(source, contents=sum([source.contents] * most, Contents()))
        sizes = source.image_bytes(filesystem), room.image_bytes(filesystem)
        purpose = f"case '{cases[0].name}'"
        try:
            require_memory(sum(sizes), source.contents.data_bytes, purpose, self.work)
        except BenchError as error:
            self._fail(str(error))
            return
        self.contents[source.name] = source.contents
        with self._volumes(filesystem, source, room, sizes) as (src, dst):
            for case in cases:
                self._measure_case(case, source, src, dst)

    def _copies(self, case: ResyncCase) -> int:
        return case.copies * (1 if case.is_renewed else len(self._present(case)))

    def _present(self, case: ResyncCase) -> list[Tool]:
        return [tool for tool in case.tools if self.programs.has(tool)]

    def _make_source(self, key: str) -> Source:
        quick = self.options.is_quick
        makers: dict[str, Callable[[], Source]] = {
            "small-files": lambda: sources.small_tree(self.options.tree, quick=quick),
            "tree": lambda: sources.real_tree(self.options.tree, quick=quick),
            "spread": lambda: sources.files_in_many_directories(10**4 if quick else 10**6),
            "directory": lambda: sources.one_directory_of_files(64 if quick else 2048, MIB),
            "big-file": lambda: sources.big_file_in_directory(128 * MIB if quick else 8 * GIB),
        }
        return makers[key]()

    @contextmanager
    def _volumes(
        self, filesystem: str, source: Source, room: Source, sizes: tuple[int, int]
    ) -> Iterator[tuple[Volume, Volume]]:
        """Yield the volume of the source, built, and one for destinations."""
        new_volume = partial(Volume, self.work, filesystem=filesystem)
        with ExitStack() as stack:
            src_options, dst_options = (one.mkfs_options(filesystem) for one in (source, room))
            src = stack.enter_context(
                new_volume("source", size_bytes=sizes[0], mkfs_options=src_options)
            )
            self.say(f"making the source: {source.contents.sentence()}")
            src.make_fresh()
            try:
                source.build(src.mount_point / "source")
            except OSError as error:
                raise BenchError(f"cannot make the source '{source.name}': {error}") from error
            src.unmount()
            src.mount(access_times=False)
            yield (
                src,
                stack.enter_context(
                    new_volume("destination", size_bytes=sizes[1], mkfs_options=dst_options)
                ),
            )

    # ------------------------------------------------------------------- a case

    def _measure_case(self, case: ResyncCase, source: Source, src: Volume, dst: Volume) -> None:
        measuring = _Measuring(self, case, source, src, dst)
        present = self._present(case)
        if not case.is_renewed:
            self._renew(dst)
            present = [tool for tool in present if self._try(case, tool, measuring.copy_first)]
        for number in range(self.options.rounds + 1):
            if not case.is_renewed:
                self.edit(case, src)
            for tool in present if number % 2 == 0 else present[::-1]:
                run = partial(self._measure_run, measuring, number)
                if not self._try(case, tool, run):
                    present = [other for other in present if other is not tool]
        if not case.is_renewed:
            for tool in present:
                self._try(case, tool, measuring.check)

    def _try(self, case: ResyncCase, tool: Tool, work: Callable[[Tool], None]) -> bool:
        """Do something with a tool; note it where the tool fails, and say whether it did not."""
        try:
            work(tool)
        except ToolFailedError as error:
            self._fail(f"{case.name}: {error}")
            return False
        return True

    def _fail(self, sentence: str) -> None:
        self.failures.append(sentence)
        self.say(sentence)

    def _renew(self, dst: Volume) -> None:
        dst.make_fresh()
        self.watch.forget()

    def edit(self, case: ResyncCase, src: Volume) -> None:
        """Edit the source as the case says."""
        self._edits += 1
        if case.edit:
            case.edit(src.mount_point / "source", self._edits)

    def _measure_run(self, measuring: _Measuring, number: int, tool: Tool) -> None:
        case = measuring.case
        if case.is_renewed:
            self._renew(measuring.dst)
            if not case.is_first:
                measuring.copy_first(tool)
                self.edit(case, measuring.src)
        os.sync()
        run = measuring.measure(tool, number)
        if case.is_renewed and number == 0:
            measuring.check(tool)
        self.keep(run)
        self.say(progress_line(run))


@dataclass
class _Measuring:
    """Run the tools of one case."""

    session: Session
    case: ResyncCase
    source: Source
    src: Volume
    dst: Volume

    def copy_first(self, tool: Tool) -> None:
        """Make a tool's destination, untimed."""
        self.session.say(f"{self.case.name:<12} first run  {tool.name}")
        self._run(tool)

    def measure(self, tool: Tool, number: int) -> Run:
        """Run a tool once more and return what it took."""
        read_before = self.src.read_bytes()
        user_before = user_seconds()
        timing = self._run(tool)
        others = user_seconds() - user_before - timing.user_seconds
        return Run(
            case=self.case.name,
            tool=tool.name,
            command=tool.shown(),
            round=number,
            discarded=number == 0,
            state=self.case.state,
            filesystem=self.dst.filesystem,
            mkfs=self.dst.mkfs,
            source=source_facts(self.source),
            source_read_bytes=self.src.read_bytes() - read_before,
            others_seconds=max(0.0, others),
            date=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            timing=self._with_manifest(tool, timing),
        )

    def check(self, tool: Tool) -> None:
        """Compare a destination with the source; rsync's own may differ by parts of a second."""
        if tool.program in CHECKED_PROGRAMS:
            require_equal(tool, self.src.mount_point / "source", self._copy(tool))

    def _run(self, tool: Tool) -> Timing:
        programs, watch = self.session.programs, self.session.watch
        command = programs.command(tool, self.src.mount_point / "source", self._copy(tool))
        return watch.run(command, self.dst.mount_point)

    def _copy(self, tool: Tool) -> Path:
        return self.dst.mount_point / tool.name.replace(" ", "_")

    def _with_manifest(self, tool: Tool, timing: Timing) -> Timing:
        """Add how large the manifest is, where the tool has one."""
        if tool.program != "arsync" or tool is tools.ARSYNC_NO_MANIFEST:
            return timing
        command = [*self.session.programs.commands["arsync"], "manifest", "stat", "--json"]
        command += ["--state-dir", str(self.session.watch.state), str(self._copy(tool))]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            raise ToolFailedError(f"'arsync manifest stat' failed: {result.stderr.strip()}")
        stat = json.loads(result.stdout)
        rows = max(1, stat["rows"])
        return replace(
            timing, row_bytes=stat["page_bytes"] / rows, row_file_bytes=stat["file_bytes"] / rows
        )
