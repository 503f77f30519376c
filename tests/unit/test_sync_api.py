"""arsync as a library: what `sync` takes, returns, tells and raises, and what it leaves behind."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import arsync
import arsync.sync
from arsync import Interrupted, Listener, Progress, Report, Stop, SyncOptions
from arsync.errors import FileError, SelectionError, UsageError
from arsync.execute import Worker, join_all
from arsync.model import Change, Method, Op, Problem, ProblemKind
from arsync.options import Preserve, WritePolicy
from arsync.uring.faults import FOREVER, fault
from tests.kit import Dir, File, Pattern, Tree, assert_same, make
from tests.kit.filesystems import Filesystems
from tests.kit.syncing import interrupted_at, litter, open_descriptors, options_of
from tests.requirements import need_root, need_unprivileged

MIB = 1 << 20
CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """Fail when a test leaves a thread, a descriptor or a temporary name."""
    descriptors, threads = open_descriptors(), threading.active_count()
    yield
    assert litter(tmp_path) == []
    assert (open_descriptors(), threading.active_count()) == (descriptors, threads)


@pytest.fixture
def src(tmp_path: Path) -> Path:
    """Make a small tree: 3 files and 2 directories below the root, 13 bytes."""
    files = {"b": File(b"12345"), "c": Dir({"d": File(b"1234567")})}
    make(Tree({"a": File(b"1"), "dir": Dir(files)}), tmp_path / "src")
    return tmp_path / "src"


def many(root: Path, count: int = 3000) -> Path:
    """Make enough directories with a file that a run has many batches."""
    for number in range(count):
        path = root / f"{number % 50:02d}" / f"{number:05d}"
        path.mkdir(parents=True)
        (path / "file").write_bytes(b"x")
    return root


# ------------------------------------------------------------------ the name


def test_sync_is_the_function() -> None:
    """Whoever imports the module of that name does not take the function away."""
    assert callable(arsync.sync)
    assert sys.modules["arsync.sync"].sync is arsync.sync
    fresh = "import arsync.sync as m, arsync, arsync.sync; assert callable(arsync.sync); print(m)"
    done = subprocess.run(
        [sys.executable, "-c", fresh], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert "function sync" in done.stdout


def test_every_public_name_is_there() -> None:
    """And any other is an AttributeError."""
    assert all(getattr(arsync, name) for name in arsync.__all__)
    assert dir(arsync) == sorted(arsync.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = arsync.nothing


# ---------------------------------------------------------------- the report


def test_the_report_says_what_was_done(src: Path, tmp_path: Path) -> None:
    """Counts, bytes, phases, engine and methods."""
    report = arsync.sync(f"{src}/", tmp_path / "dst", SyncOptions())
    assert isinstance(report, Report)
    counts = report.counts
    assert (counts.found_files, counts.found_dirs, counts.found) == (3, 3, 6)
    assert (report.copied_files, report.copied_bytes) == (3, 13)
    assert (counts.new_files, counts.done_dirs, counts.in_flight, counts.failed) == (3, 3, 0, 0)
    assert [phase.name for phase in report.phases] == ["walk and copy", "directory times"]
    assert report.elapsed_s >= max(phase.seconds for phase in report.phases)
    assert report.engine in ("uring", "sync")
    assert report.lanes >= 1
    assert sum(use.files for use in report.methods) == 3
    assert all(isinstance(use.method, Method) for use in report.methods)
    assert (report.exit_code, report.failures, report.warnings, report.stopped) == (0, (), (), "")
    assert not report.interrupted
    assert not report.dry_run
    assert_same(src, tmp_path / "dst")


def test_a_second_run_in_one_process_does_nothing(src: Path, tmp_path: Path) -> None:
    """Nothing of the first one is left that could disturb it."""
    first, second = (arsync.sync(f"{src}/", tmp_path / "dst") for _ in range(2))
    assert (first.counts.done_files, second.counts.done_files) == (3, 0)
    assert second.counts.found == first.counts.found
    assert second.counts.done_metas == second.counts.done_dirs == 0


def test_two_runs_at_the_same_time(src: Path, tmp_path: Path) -> None:
    """Each has its own lanes and its own numbers."""
    reports: list[Report] = []
    threads = [
        Worker(lambda at=at: reports.append(arsync.sync(f"{src}/", tmp_path / at)))
        for at in ("one", "two")
    ]
    for thread in threads:
        thread.start()
    join_all(threads)
    assert [report.copied_files for report in reports] == [3, 3]
    assert_same(tmp_path / "one", tmp_path / "two")


def test_a_dry_run_changes_nothing(src: Path, tmp_path: Path) -> None:
    """The planned numbers stand for what a run would do; the new root is among the changes."""
    told: list[Change] = []
    options = SyncOptions(write=WritePolicy(dry_run=True))
    listener = Listener(changes=lambda changes, _: told.extend(changes))
    report = arsync.sync(f"{src}/", tmp_path / "dst", options, listener=listener)
    assert (report.dry_run, report.copied_files, report.copied_bytes) == (True, 3, 13)
    assert not (tmp_path / "dst").exists()
    assert sorted(change.path for change in told) == [
        b"",
        b"a",
        b"dir",
        b"dir/b",
        b"dir/c",
        b"dir/c/d",
    ]


def test_a_dry_run_of_hard_links_tells_them(tmp_path: Path) -> None:
    """What waits for the link phase is told as well."""
    make(Tree({"a": File(b"x")}), tmp_path / "src")
    os.link(tmp_path / "src/a", tmp_path / "src/b")
    told: list[Change] = []
    options = options_of(dry_run=True)
    listener = Listener(changes=lambda changes, _: told.extend(changes))
    arsync.sync(f"{tmp_path}/src/", tmp_path / "dst", options, listener=listener)
    assert sorted(change.path for change in told) == [b"", b"a", b"b"]


# ----------------------------------------------------------------- arguments


def test_paths_of_every_type(src: Path, tmp_path: Path) -> None:
    """Str, bytes and PathLike, one source or several."""
    dst = tmp_path / "dst"
    assert arsync.sync(src, dst).copied_files == 3
    assert arsync.sync(os.fsencode(src), os.fsencode(dst)).copied_files == 0
    assert arsync.sync(str(src), str(dst)).copied_files == 0
    several = [src / "a", os.fsencode(src / "dir"), f"{src}/dir/b"]
    arsync.sync(several, tmp_path / "other")
    assert sorted(os.listdir(tmp_path / "other")) == ["a", "b", "dir"]


def test_no_source_is_a_usage_error(tmp_path: Path) -> None:
    """An empty list copies nothing and says so; the error has a report."""
    with pytest.raises(UsageError) as caught:
        arsync.sync([], tmp_path / "dst")
    assert isinstance(caught.value.report, Report)


def test_mkpath_makes_what_is_above(src: Path, tmp_path: Path) -> None:
    """All of the missing directories."""
    options = SyncOptions(write=WritePolicy(mkpath=True))
    arsync.sync(f"{src}/", tmp_path / "x/y/z", options)
    assert_same(src, tmp_path / "x/y/z")


# ------------------------------------------------------------------- telling


def test_progress_from_start_to_end(tmp_path: Path) -> None:
    """At most ten calls a second and one at the end; nothing ever goes back."""
    make(Tree({"big": File(Pattern(3 * MIB)), "small": File(b"x")}), tmp_path / "src")
    seen: list[Progress] = []
    options = options_of(bwlimit_bytes=6 * MIB)
    report = arsync.sync(f"{tmp_path}/src/", tmp_path / "dst", options, progress=seen.append)
    assert 2 <= len(seen) <= 10 * report.elapsed_s + 1
    for key in (
        lambda one: one.elapsed_s,
        lambda one: one.exact,
        lambda one: one.counts.done_bytes,
        lambda one: one.counts.moved_bytes,
        lambda one: one.counts.found,
    ):
        assert list(map(key, seen)) == sorted(map(key, seen))
    assert seen[-1].exact
    assert seen[-1].counts == report.counts


def test_a_short_run_tells_its_end(src: Path, tmp_path: Path) -> None:
    """Also through a listener."""
    seen: list[Progress] = []
    arsync.sync(f"{src}/", tmp_path / "dst", listener=Listener(progress=seen.append))
    assert seen
    assert seen[-1].counts.done_files == 3


def test_a_listener_hears_changes_and_problems(src: Path, tmp_path: Path) -> None:
    """With the roots as they were written; a missing SRC has none."""
    changes: list[tuple[bytes, bytes]] = []
    problems: list[tuple[Problem, bytes, bytes]] = []

    def note(some: Sequence[Problem], *roots: bytes) -> None:
        problems.extend((one, *roots) for one in some)

    listener = Listener(
        changes=lambda some, root: changes.extend((one.path, root) for one in some), problems=note
    )
    root, dst = os.fsencode(f"{src}/"), os.fsencode(tmp_path / "dst")
    with fault(Op.OPEN_FILE, value=errno.EIO):
        report = arsync.sync([root, b"/no/such"], dst, listener=listener)
    assert (b"dir/c/d", root) in changes
    (gone, *no_roots), (unread, *roots) = problems
    assert (gone.path, gone.kind, gone.errno) == (b"/no/such", ProblemKind.FAILED, errno.ENOENT)
    assert no_roots == [b"", b""]
    assert (unread.op, unread.errno, roots) == (Op.OPEN_FILE, errno.EIO, [root, dst])
    assert (report.exit_code, report.failure_count) == (23, 2)


# -------------------------------------------------------------------- errors


def test_an_error_carries_the_report(src: Path) -> None:
    """Its exit code is the error's."""
    with pytest.raises(SelectionError) as caught:
        arsync.sync(f"{src}/", src)
    report = caught.value.report
    assert isinstance(report, Report)
    assert (report.exit_code, report.stopped) == (SelectionError.exit_code, str(caught.value))


def test_a_missing_temporary_directory(src: Path, tmp_path: Path) -> None:
    """It is named, and nothing is made."""
    options = options_of(temp_dir=os.fsencode(tmp_path / "gone"))
    with pytest.raises(UsageError, match=f"--temp-dir: cannot use the directory '{tmp_path}/gone'"):
        arsync.sync(f"{src}/", tmp_path / "dst", options)
    assert not (tmp_path / "dst").exists()


def test_a_temporary_directory_is_used(src: Path, tmp_path: Path) -> None:
    """And its descriptor is given back."""
    (tmp_path / "temp").mkdir()
    options = options_of(temp_dir=os.fsencode(tmp_path / "temp"))
    arsync.sync(f"{src}/", tmp_path / "dst", options)
    assert_same(src, tmp_path / "dst")
    assert os.listdir(tmp_path / "temp") == []


@pytest.mark.parametrize("engine", ["uring", "sync"])
def test_a_full_disk_stops_the_run(tmp_path: Path, engine: str) -> None:
    """Also the walk, which would otherwise look at the rest of the tree for nothing."""
    many(tmp_path / "src")
    full = fault(Op.CREATE, value=errno.ENOSPC, skip=50, count=FOREVER)
    with (
        full,
        pytest.raises(FileError, match="No space left on device: the filesystem of") as caught,
    ):
        arsync.sync(f"{tmp_path}/src/", tmp_path / "dst", options_of(engine=engine))
    report = caught.value.report
    assert isinstance(report, Report)
    assert report.exit_code == FileError.exit_code


@pytest.mark.parametrize("kind", ["changes", "progress"])
@pytest.mark.parametrize("dry_run", [False, True])
def test_what_a_callback_raises_ends_the_run(tmp_path: Path, kind: str, dry_run: bool) -> None:
    """It comes out of `sync`, from whichever thread."""
    many(tmp_path / "src", 200)

    def fail(*_: object) -> None:
        raise ValueError(kind)

    with pytest.raises(ValueError, match=kind):
        arsync.sync(
            f"{tmp_path}/src/",
            tmp_path / "dst",
            options_of(dry_run=dry_run),
            listener=Listener(**{kind: fail}),
        )


def test_an_error_of_the_progress_callback_stops_the_lanes(tmp_path: Path) -> None:
    """A long copy ends at once, and leaves no half file."""
    make(Tree({"big": File(Pattern(20 * MIB))}), tmp_path / "src")
    seen: list[Progress] = []

    def fail(progress: Progress) -> None:
        seen.append(progress)
        raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        arsync.sync(
            f"{tmp_path}/src/", tmp_path / "dst", options_of(bwlimit_bytes=MIB), progress=fail
        )
    assert len(seen) == 1
    assert os.listdir(tmp_path / "dst") == []


# ----------------------------------------------------------------- interrupts


@pytest.mark.parametrize("kind", ["changes", "progress"])
@pytest.mark.parametrize("engine", ["uring", "sync"])
def test_a_signal_ends_the_run(tmp_path: Path, kind: str, engine: str) -> None:
    """Ctrl-C is a KeyboardInterrupt with the report; the fixture sees that nothing is left."""
    many(tmp_path / "src", 500)
    make(Tree({"big": File(Pattern(40 * MIB))}), tmp_path / "src/big")
    sent = threading.Event()

    def interrupt(*_: object) -> None:
        if not sent.is_set():
            sent.set()
            os.kill(os.getpid(), signal.SIGINT)

    options = options_of(engine=engine, bwlimit_bytes=10 * MIB)
    with pytest.raises(KeyboardInterrupt) as caught:
        arsync.sync(
            f"{tmp_path}/src/", tmp_path / "dst", options, listener=Listener(**{kind: interrupt})
        )
    assert isinstance(caught.value, Interrupted)
    report = caught.value.report
    assert isinstance(report, Report)
    assert (report.interrupted, report.exit_code) == (True, 20)
    assert not (tmp_path / "dst/big/big").exists()


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_stop_that_was_asked_for_before_the_run(tmp_path: Path, dry_run: bool) -> None:
    """Nothing is copied, and the handler of SIGINT is what it was."""
    many(tmp_path / "src", 500)
    before = signal.getsignal(signal.SIGINT)
    stop = Stop()
    stop.request()
    with pytest.raises(Interrupted) as caught:
        arsync.sync(f"{tmp_path}/src/", tmp_path / "dst", options_of(dry_run=dry_run), stop=stop)
    assert isinstance(caught.value.report, Report)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_stop_from_another_thread(tmp_path: Path) -> None:
    """A run that another thread makes ends as one of the main thread does."""
    make(Tree({"big": File(Pattern(40 * MIB))}), tmp_path / "src")
    stop = Stop()
    raised: list[BaseException] = []

    def run() -> None:
        try:
            options = options_of(bwlimit_bytes=10 * MIB)
            arsync.sync(f"{tmp_path}/src/", tmp_path / "dst", options, stop=stop)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while not (tmp_path / "dst").exists():
        assert thread.is_alive()
    stop.request()
    thread.join()
    assert [type(error) for error in raised] == [Interrupted]
    assert not (tmp_path / "dst/big").exists()


def test_a_handler_of_the_caller_is_left_alone(tmp_path: Path) -> None:
    """Who has given SIGINT a meaning keeps it; the run goes on."""
    many(tmp_path / "src", 50)
    seen: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: seen.append(number))
    sent = threading.Event()

    def interrupt(*_: object) -> None:
        if not sent.is_set():
            sent.set()
            os.kill(os.getpid(), signal.SIGINT)

    try:
        report = arsync.sync(
            f"{tmp_path}/src/", tmp_path / "dst", listener=Listener(changes=interrupt)
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert (report.exit_code, seen) == (0, [signal.SIGINT])


def test_a_signal_while_the_walk_stands_still(tmp_path: Path) -> None:
    """The walk's threads end before `sync` does."""
    many(tmp_path / "src", 100)
    with interrupted_at(Op.OPEN_DIR, skip=5), pytest.raises(Interrupted):
        arsync.sync(f"{tmp_path}/src/", tmp_path / "dst")


# ------------------------------------------------------------ without rights


@pytest.mark.parametrize("engine", ["uring", "sync"])
@pytest.mark.parametrize("arguments", [[], ["--chmod=Du-x"]])
def test_directories_that_shut_their_owner_out(
    tmp_path: Path, engine: str, arguments: list[str]
) -> None:
    """Modes come deepest first: a directory loses its x bit after those below it are finished."""
    need_root()
    need_unprivileged()
    src, dst = tmp_path / "src", tmp_path / "dst"
    for number in range(1500):
        (src / f"{number % 3}" / f"{number % 30:02d}" / f"{number:04d}" / "d").mkdir(parents=True)
    for path, _, _ in os.walk(src, topdown=False):
        os.chown(path, 65534, 65534)
        os.utime(path, ns=(7, 7))
        os.chmod(path, 0o755 if arguments else 0o500)
    dst.mkdir()
    os.chown(dst, 65534, 65534)
    os.chmod(tmp_path, 0o711)
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    command = [sys.executable, "-m", "arsync", "-a", f"--engine={engine}", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(
        [*nobody, *command, "src/", "dst"],
        cwd=tmp_path,  # what is above is pytest's, and closed
        env=environment,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    expected = 0o655 if arguments else 0o500
    seen = {(os.stat(at).st_mode & 0o777, os.stat(at).st_mtime_ns) for at, _, _ in os.walk(dst)}
    assert seen == {(expected, 7)}
    assert sum(1 for _ in os.walk(dst)) == sum(1 for _ in os.walk(src))


# ------------------------------------------------------------------- memory

_MEASURED = """
import json, re, sys
import arsync
report = arsync.sync(sys.argv[1] + "/", sys.argv[2])
# not ru_maxrss: that begins with what the parent had when it forked
peak_kib = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
print(json.dumps([report.exit_code, report.counts.done_files, report.counts.found_files, peak_kib]))
"""


def test_memory_stays_flat_in_one_wide_directory(filesystems: Filesystems) -> None:
    """200,000 entries in one directory take less than 100 MB, copied and then compared."""
    count = 200_000
    with filesystems.mount("tmpfs").directory() as path:
        (path / "src").mkdir()
        for number in range(count):
            os.mknod(path / "src" / f"{number:06d}")
        for expected in (count, 0):
            done = subprocess.run(
                [sys.executable, "-c", _MEASURED, str(path / "src"), str(path / "dst")],
                cwd=CHECKOUT,
                capture_output=True,
                check=True,
            )
            code, copied, found, peak_kib = json.loads(done.stdout)
            assert (code, copied, found) == (0, expected, count)
            assert peak_kib * 1024 < 100_000_000


def test_nothing_is_kept_without_options(src: Path, tmp_path: Path) -> None:
    """Preserve() alone is no -a: a directory is left out then, and said."""
    report = arsync.sync(f"{src}/", tmp_path / "dst", SyncOptions(preserve=Preserve()))
    assert report.copied_files == 0
    assert [warning.kind.value for warning in report.warnings] == ["skipped"]
