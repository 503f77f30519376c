"""Run `arsync.sync` for a test and keep all that it says: report, changes, problems, exit code."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Thread
from typing import Any

import xxhash

from arsync import sync
from arsync.errors import ArsyncError
from arsync.listener import Listener
from arsync.model import Change, ChangeFlag, Op, Problem, ProblemKind, Report
from arsync.options import ARCHIVE, EngineOptions, Preserve, SyncOptions, UpdatePolicy, WritePolicy
from arsync.uring.faults import passes, paused_at

CHUNK = 4 << 20
BIG = 32 << 20

FULL = replace(ARCHIVE, hard_links=True, acls=True, xattrs=True)
"""-aHAX"""

_ENGINE_FIELDS = frozenset(EngineOptions.__dataclass_fields__)
_WRITE_FIELDS = frozenset(WritePolicy.__dataclass_fields__)
_UPDATE_FIELDS = frozenset(UpdatePolicy.__dataclass_fields__)


@dataclass
class Ran:
    """Hold what one run said.

    `error` is what ended it early, None where nothing did.
    """

    report: Report
    changes: dict[bytes, Change] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    error: BaseException | None = None

    @property
    def code(self) -> int:
        """Return the exit code that the command would end with."""
        return self.report.exit_code

    def of(self, kind: ProblemKind) -> list[tuple[bytes, Op, int]]:
        """Return (path, operation, errno) of each problem of a kind."""
        return [(one.path, Op(one.op), one.errno) for one in self.problems if one.kind == kind]

    @property
    def failed(self) -> list[tuple[bytes, Op, int]]:
        """Return (path, operation, errno) of what was not transferred."""
        return self.of(ProblemKind.FAILED)


def options_of(preserve: Preserve = FULL, **settings: Any) -> SyncOptions:
    """Make options from fields of SyncOptions and of the policies in it, all in one."""
    engine = {name: settings.pop(name) for name in [*settings] if name in _ENGINE_FIELDS}
    write = {name: settings.pop(name) for name in [*settings] if name in _WRITE_FIELDS}
    update = {name: settings.pop(name) for name in [*settings] if name in _UPDATE_FIELDS}
    return SyncOptions(
        preserve=preserve,
        engine=EngineOptions(**engine),
        write=WritePolicy(**write),
        update=UpdatePolicy(**update),
        **settings,
    )


def single(engine: str) -> dict[str, Any]:
    """Return the settings of a run with one thread a stage: it meets failpoints in order."""
    return {"engine": engine, "cpu_count": 1, "scan_threads": 1}


def run(src: Path, dst: Path, preserve: Preserve = FULL, **settings: Any) -> Ran:
    """Make `dst` equal to the whole of `src`; what ends the run early is kept as `error`."""
    ran = Ran(Report())

    def note_changes(changes: Iterator[Change], *_: object) -> None:
        ran.changes.update((change.path, change) for change in changes)

    def note_problems(problems: Sequence[Problem], _src: bytes, _dst: bytes) -> None:
        ran.problems.extend(problems)

    listener = Listener(changes=note_changes, problems=note_problems)
    options = options_of(preserve, **settings)
    try:
        ran.report = sync(f"{src}/", dst, options, listener=listener)
    except (ArsyncError, KeyboardInterrupt) as error:
        ran.error = error
        report = getattr(error, "report", None)
        if not isinstance(report, Report):
            raise
        ran.report = report
    return ran


@contextmanager
def running(src: Path, dst: Path, preserve: Preserve = FULL, **settings: Any) -> Iterator[Ran]:
    """Run in a thread of its own beside the block, which ends when the run has ended.

    What the block is given is filled in by then.
    """
    ran = Ran(Report())
    raised: list[BaseException] = []

    def work() -> None:
        try:
            ended = run(src, dst, preserve, **settings)
            ran.report, ran.error = ended.report, ended.error
            ran.changes, ran.problems = ended.changes, ended.problems
        except BaseException as error:
            raised.append(error)

    thread = Thread(target=work)
    thread.start()
    try:
        yield ran
    finally:
        thread.join()
    if raised:
        raise raised[0]


@contextmanager
def interrupted_at(op: Op, *, skip: int = 0) -> Iterator[None]:
    """Send Ctrl-C to this process when one of its threads comes to an operation, for a block.

    Args:
        skip: so many passes happen as usual before.
    """
    with paused_at(op, skip=skip) as pause:

        def interrupt() -> None:
            pause.wait()
            os.kill(os.getpid(), signal.SIGINT)
            pause.resume()

        thread = Thread(target=interrupt)
        thread.start()
        try:
            yield
        finally:
            thread.join()


def wait_for_passes(op: Op, count: int, thread: Thread) -> None:
    """Wait until an operation has been passed so often; a thread that passes it must go on."""
    while passes(op) < count:
        thread.join(0.001)
        assert thread.is_alive(), f"it ended after {passes(op)} times {op.name}, not {count}"


def litter(directory: Path) -> list[bytes]:
    """Return the paths of arsync's temporary names below a directory."""
    return [
        os.path.join(where, name)
        for where, dirs, files in os.walk(os.fsencode(directory))
        for name in dirs + files
        if name.startswith(b".arsync.")
    ]


def open_descriptors() -> int:
    """Count the descriptors of this process, but for those that keep a test's loop device."""
    links = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            links.append(os.readlink(f"/proc/self/fd/{name}"))
    return sum(not link.startswith("/dev/loop") for link in links)


def hash_of(content: bytes) -> bytes:
    """Return the hash that arsync gives to a file of this content.

    Source: docs/formats.md; xxhash is another implementation than the one that arsync links.
    """
    if len(content) <= CHUNK:
        return xxhash.xxh3_128_digest(content)
    chunks = (content[at : at + CHUNK] for at in range(0, len(content), CHUNK))
    return xxhash.xxh3_128_digest(b"".join(map(xxhash.xxh3_128_digest, chunks)))


def assert_hashed(change: Change, content: bytes) -> None:
    """Fail unless a change holds the hash of this content."""
    assert change.flags & ChangeFlag.HASHED, f"{change.path!r} has no hash"
    assert change.hash == hash_of(content), f"{change.path!r} has another content's hash"
