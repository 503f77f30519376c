"""How options and two filesystems become the settings of a run."""

from __future__ import annotations

import errno
import os
import re
import resource
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from arsync.errors import FileError, NotSupportedError
from arsync.model import Method
from arsync.options import EngineOptions
from arsync.settings import (
    EngineChoice,
    choose_run_engine,
    explain_refusal,
    find_ctime_granule_ns,
    find_granule_ns,
    make_settings,
)
from arsync.uring.executor import ExecutorSettings
from arsync.uring.scanner import Root
from tests.kit.children import forbid_call, in_child
from tests.kit.filesystems import Filesystems, filesystem
from tests.kit.syncing import options_of
from tests.requirements import (
    SEARCH_PATH,
    SYS_IO_URING_SETUP,
    need_command,
    need_loop,
    need_uring,
    skip_without,
)

RING = EngineChoice(ring=True, note="", lanes=2, scan_threads=8)
PLAIN = EngineChoice(ring=False, note="", lanes=8, scan_threads=8)


def settle(
    src: Path, dst: Path | None = None, engine: EngineChoice = RING, **settings: Any
) -> ExecutorSettings:
    """Make settings between two directories."""
    options = options_of(**settings)
    with Root(os.fsencode(src)) as src_root, Root(os.fsencode(dst or src)) as dst_root:
        return make_settings(options, engine, src_root, dst_root, -1)


def methods(made: ExecutorSettings) -> tuple[Method, Method, bool, bool]:
    """Return what moves content."""
    return made.method, made.big_method, made.reflink, made.reflink_always


# -------------------------------------------------------------------- engine


def test_the_ring_has_one_lane_a_core() -> None:
    """Several threads a core walk, because each of them waits for the disk."""
    need_uring()
    cores = len(os.sched_getaffinity(0))
    assert choose_run_engine(EngineOptions()) == EngineChoice(True, "", cores, 4 * cores)


def test_plain_calls_have_several_lanes_a_core() -> None:
    """Threads are the only depth there; what was asked for needs no explanation."""
    cores = len(os.sched_getaffinity(0))
    chosen = choose_run_engine(EngineOptions(engine="sync"))
    assert chosen == EngineChoice(False, "", 4 * cores, 4 * cores)


def test_numbers_of_threads_that_are_given_are_taken() -> None:
    """Both, on whichever engine."""
    options = EngineOptions(engine="sync", cpu_count=3, scan_threads=5)
    assert choose_run_engine(options) == EngineChoice(False, "", 3, 5)


@pytest.mark.parametrize("engine", ["auto", "sync"])
def test_few_descriptors_make_few_threads(engine: str) -> None:
    """Threads that hold some while they wait for more would wait for each other."""

    def choose() -> list[list[int]]:
        chosen = []
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        for free in (15, 60):
            limit = len(os.listdir("/proc/self/fd")) + free
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))
            one = choose_run_engine(EngineOptions(engine=engine))
            chosen.append([one.lanes, one.scan_threads])
        return chosen

    cores = len(os.sched_getaffinity(0))
    few, more = in_child(choose)
    assert few == [1, 1]
    assert more == [2 if engine == "sync" else min(2, cores), min(6, 4 * cores)]


def test_too_few_descriptors_end_the_run_at_once() -> None:
    """Else every file would fail, or the walk wait for what nobody gives back."""

    def choose() -> str:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        limit = len(os.listdir("/proc/self/fd")) + 12
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))
        with pytest.raises(FileError) as caught:
            choose_run_engine(EngineOptions())
        return str(caught.value)

    said = in_child(choose)
    assert re.fullmatch(
        r"cannot work with 1[123] free descriptors: 14 are needed \(see ulimit -n\)", said
    )


def test_without_a_ring_auto_takes_plain_calls_and_says_why() -> None:
    """The same refusal ends a run that insists on the ring."""

    def choose() -> list[Any]:
        forbid_call(SYS_IO_URING_SETUP, errno.EPERM)
        chosen = choose_run_engine(EngineOptions())
        with pytest.raises(NotSupportedError, match="--engine=uring: "):
            choose_run_engine(EngineOptions(engine="uring"))
        return [chosen.ring, chosen.note]

    ring, note = in_child(choose)
    assert not ring
    assert "seccomp" in note


def test_each_refusal_has_words() -> None:
    """They differ by errno."""
    assert explain_refusal(errno.ENOSYS) != explain_refusal(errno.ENOMEM)


# ------------------------------------------------------------------ settings


def test_defaults(tmp_path: Path) -> None:
    """What nobody says has a measured value; memory is shared by the lanes."""
    made = settle(tmp_path)
    assert (made.ring, made.queue_depth, made.files_in_flight) == (True, 512, 256)
    assert (made.buffer_bytes, made.memory_bytes) == (128 << 10, 32 << 20)
    assert (made.bytes_per_s, made.temp_dir_fd) == (0, -1)
    assert (made.inplace, made.sparse, made.preallocate) == (False, False, False)


def test_what_is_said_is_taken(tmp_path: Path) -> None:
    """Buffers are cut to whole pages, and there is memory for one at least."""
    made = settle(
        tmp_path,
        queue_depth=7,
        files_in_flight=9,
        buffer_bytes=(12 << 20) + 100,
        memory_bytes=16 << 20,
        bwlimit_bytes=5,
        sparse=True,
        preallocate=True,
    )
    assert (made.queue_depth, made.files_in_flight) == (7, 9)
    assert (made.buffer_bytes, made.memory_bytes) == (12 << 20, 12 << 20)
    assert (made.bytes_per_s, made.sparse, made.preallocate) == (5, True, True)
    assert settle(tmp_path, inplace=True).inplace


def test_each_run_has_a_name_of_its_own(tmp_path: Path) -> None:
    """Two runs into one directory never make the same temporary name."""
    assert settle(tmp_path).run != settle(tmp_path).run


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("copy_file_range", (Method.COPY_RANGE, Method.COPY_RANGE, False, False)),
        ("splice", (Method.SPLICE, Method.SPLICE, False, False)),
        ("read_write", (Method.READ_WRITE, Method.READ_WRITE, False, False)),
        ("direct", (Method.READ_WRITE, Method.DIRECT, False, False)),
        ("reflink", (Method.REFLINK, Method.REFLINK, True, True)),
    ],
)
def test_a_forced_method(
    tmp_path: Path, name: str, expected: tuple[Method, Method, bool, bool]
) -> None:
    """It is taken for all files, but O_DIRECT only for big ones."""
    assert methods(settle(tmp_path, copy_method=name)) == expected


def test_methods_by_filesystem(filesystems: Filesystems) -> None:
    """Btrfs to itself is tried by reflink, ext4 is written past the page cache where it is big."""
    with filesystems.mount("btrfs").directory() as btrfs:
        assert methods(settle(btrfs)) == (Method.READ_WRITE, Method.READ_WRITE, True, False)
        assert not settle(btrfs, reflink="never").reflink
    with filesystems.mount("ext4").directory() as ext4:
        assert methods(settle(ext4)) == (Method.READ_WRITE, Method.DIRECT, False, False)
        assert settle(ext4, engine=PLAIN).big_method == Method.READ_WRITE
        assert methods(settle(ext4, reflink="always"))[2:] == (True, True)


# ------------------------------------------------------------------- granule


def granule(path: Path, *, may_write: bool = True) -> int:
    """Ask how finely a directory's filesystem keeps times."""
    with Root(os.fsencode(path)) as root:
        return find_granule_ns(root, may_write=may_write)


def ctime_granule(*paths: Path) -> int:
    """Ask how long two changes may have the same ctime in one of several directories."""
    with ExitStack() as stack:
        roots = [stack.enter_context(Root(os.fsencode(path))) for path in paths]
        return find_ctime_granule_ns(*roots)


def test_linux_filesystems_keep_nanoseconds(each_filesystem: Path) -> None:
    """A file without a name shows it, and nothing is left."""
    assert granule(each_filesystem) == 1
    assert os.listdir(each_filesystem) == []


def test_a_dry_run_writes_nothing_to_find_out(filesystems: Filesystems) -> None:
    """The directory's change time stands still."""
    with filesystems.mount("ext4").directory() as path:
        before = os.stat(path)
        assert granule(path, may_write=False) == 1
        assert os.stat(path) == before


def test_vfat_keeps_two_seconds() -> None:
    """What a fresh inode shows is finer than what the disk keeps, so its name decides."""
    need_loop()
    need_command("mkfs.vfat")
    skip_without("vfat" in Path("/proc/filesystems").read_text(), "needs a kernel with vfat")
    with filesystem("vfat", size_bytes=16 << 20, options="") as mount:
        assert granule(mount.path) == granule(mount.path, may_write=False) == 2_000_000_000


def test_an_ext4_of_small_inodes_keeps_seconds() -> None:
    """Inodes of 128 bytes have no room for nanoseconds."""
    need_loop()
    with filesystem("ext4", size_bytes=16 << 20) as mount:
        mount.unmount()
        make = ["mkfs.ext4", "-q", "-F", "-I", "128", str(mount.device)]
        subprocess.run(make, env={"PATH": SEARCH_PATH}, check=True, capture_output=True)
        mount.mount()
        assert granule(mount.path) == granule(mount.path, may_write=False) == 1_000_000_000
        assert ctime_granule(mount.path) == 1_000_000_000


@pytest.mark.parametrize(("release", "ns"), [("6.12.9", 10_000_000), ("6.13.0-rc1", 0)])
def test_ctimes_that_tell_changes_apart(
    filesystems: Filesystems, monkeypatch: pytest.MonkeyPatch, release: str, ns: int
) -> None:
    """A kernel with multigrain timestamps never gives one twice, an older one for a tick."""
    system = os.uname()
    known = (system.sysname, system.nodename, release, system.version, system.machine)
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(known))
    with filesystems.mount("ext4").directory() as path:
        assert ctime_granule(path) == ns
        assert ctime_granule(path, Path("/proc")) == 1_000_000_000


def test_where_no_file_can_be_made_nanoseconds_are_taken() -> None:
    """Proc cannot make files without a name."""
    assert granule(Path("/proc")) == 1
