"""Turn options and what is known of two filesystems into how the lanes of a run work.

Owns the defaults of everything that options leave open, each with the reason, and the choice of
engine and copy method for one run. It writes nothing but one nameless file, to see how finely the
destination keeps times.
"""

from __future__ import annotations

import os
import re
import resource
from dataclasses import dataclass
from typing import Final

from arsync.errors import FileError, NotSupportedError, UsageError, quoted
from arsync.model import Method
from arsync.options import DeletePolicy, EngineOptions, SyncOptions, WritePolicy
from arsync.uring.executor import Backup, ExecutorSettings, new_run_name
from arsync.uring.granule import measure_granule_ns
from arsync.uring.methods import choose, choose_engine, may_clone
from arsync.uring.probe import Filesystem, probe_filesystem, probe_ring, why_refused
from arsync.uring.scanner import Root

__all__ = [
    "EngineChoice",
    "choose_run_engine",
    "clones_old_files",
    "explain_refusal",
    "find_granule_ns",
    "make_settings",
    "make_trash",
]

KIB: Final = 1024
MIB: Final = 1024 * KIB

QUEUE_DEPTH: Final = 512
FILES_IN_FLIGHT: Final = 256
BUFFER_BYTES: Final = 128 * KIB
MEMORY_BYTES: Final = 64 * MIB
"""Of all lanes together. Only what is used is ever touched: a warm tree needs one buffer a lane."""

SCAN_THREADS_A_CORE: Final = 4
SYNC_LANES_A_CORE: Final = 4
"""Without a ring, threads are the only depth there is."""

_SHARED_FDS: Final = 6
"""Descriptors of all threads: the roots, --temp-dir, two spools, one that comes and goes."""
_LEAST_FDS: Final = 14
"""With fewer free ones a run would fail file by file."""
_LANE_FDS: Final = 10
"""Of a lane with one file: ring, parent, three of the directory, two of the file, a pipe, one."""
_SCAN_FDS: Final = 4
"""Of a thread that walks: both directories, and what is looked at beside them."""

_USUAL_FDS: Final = 3
"""Open before a run: the standard streams."""
_PLENTY_FDS: Final = 1 << 20
"""More than any number of threads holds."""

_METHODS: Final = {
    "reflink": Method.REFLINK,
    "copy_file_range": Method.COPY_RANGE,
    "splice": Method.SPLICE,
    "read_write": Method.READ_WRITE,
    "direct": Method.DIRECT,
}

# Coarser than what a nameless file shows at once, because the inode in memory is finer.
_COARSE_KINDS: Final = {"vfat": 2_000_000_000, "msdos": 2_000_000_000, "exfat": 10_000_000}
_MULTIGRAIN_KINDS: Final = frozenset({"ext4", "xfs", "btrfs", "tmpfs"})
_FINE_KINDS: Final = _MULTIGRAIN_KINDS | {"ext2", "ext3", "overlay", "f2fs", "bcachefs", "zfs"}
_TICK_NS: Final = 10_000_000  # of a kernel with HZ=100
_SECOND_NS: Final = 1_000_000_000


@dataclass(frozen=True)
class EngineChoice:
    """Say which engine a run takes and how wide it is.

    Args:
        ring: the uring engine, else plain calls.
        note: why it is the other one than usual; empty where it is not.
        lanes: threads that copy.
        scan_threads: threads that walk.
    """

    ring: bool
    note: str
    lanes: int
    scan_threads: int


def choose_run_engine(options: EngineOptions) -> EngineChoice:
    """Choose the engine by asking the kernel, and the number of threads by the cores allowed.

    Where few descriptors are allowed there are fewer threads: each holds some while it waits for
    more, so too many of them would wait for each other.

    Raises: NotSupportedError when --engine=uring is asked for and there is no ring; FileError
        where this process may open too few files.
    """
    cores = len(os.sched_getaffinity(0))
    ring, note = _has_ring(options)
    free = _count_free_descriptors()
    if free < _LEAST_FDS:
        raise FileError(
            f"cannot work with {free} free descriptors: {_LEAST_FDS} are needed (see ulimit -n)"
        )
    half = (free - _SHARED_FDS) // 2
    most_lanes, most_scan_threads = max(1, half // _LANE_FDS), max(1, half // _SCAN_FDS)
    lanes = cores if ring else cores * SYNC_LANES_A_CORE
    lanes = options.cpu_count or min(lanes, most_lanes)
    scan_threads = options.scan_threads or min(cores * SCAN_THREADS_A_CORE, most_scan_threads)
    return EngineChoice(ring=ring, note=note, lanes=lanes, scan_threads=scan_threads)


def _count_free_descriptors() -> int:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        limit = _PLENTY_FDS
    try:
        used = sum(int(fd) < limit for fd in os.listdir("/proc/self/fd"))
    except OSError:  # no /proc, or no descriptor for it
        used = _USUAL_FDS
    return limit - used


def _has_ring(options: EngineOptions) -> tuple[bool, str]:
    if options.engine == "sync":
        return False, ""
    ring = probe_ring()
    name, why = choose_engine(ring, "" if ring.available else explain_refusal(ring.error))
    if name == "uring":
        return True, ""
    if options.engine == "uring":
        raise NotSupportedError(f"--engine=uring: {why}")
    return False, why


def explain_refusal(error: int) -> str:
    """Say why the kernel lets this process have no ring.

    Args:
        error: errno of the refusal.
    """
    from arsync.doctor.system import examine_system  # seldom needed, and it reads many files

    system = examine_system()
    return why_refused(error, system.uring_disabled, system.seccomp)


def make_settings(
    options: SyncOptions, engine: EngineChoice, src: Root, dst: Root, temp_dir_fd: int
) -> ExecutorSettings:
    """Settle how lanes work between two roots.

    Args:
        temp_dir_fd: of --temp-dir, or -1.
    """
    wanted = options.engine
    buffer_bytes = (wanted.buffer_bytes or BUFFER_BYTES) // 4096 * 4096
    memory_bytes = max((wanted.memory_bytes or MEMORY_BYTES) // engine.lanes, buffer_bytes)
    src_fs, dst_fs = probe_filesystem(src.fd), probe_filesystem(dst.fd)
    small, big, reflink = _choose_methods(wanted, engine, src_fs, dst_fs)
    if options.write.sparse:
        small, big = _seeing_zeros(small), _seeing_zeros(big)
    return ExecutorSettings(
        ring=engine.ring,
        queue_depth=wanted.queue_depth or QUEUE_DEPTH,
        files_in_flight=wanted.files_in_flight or FILES_IN_FLIGHT,
        buffer_bytes=buffer_bytes,
        memory_bytes=memory_bytes,
        method=small,
        big_method=big,
        reflink=reflink,
        reflink_always=wanted.reflink == "always" or wanted.copy_method == "reflink",
        inplace=options.write.inplace,
        sparse=options.write.sparse,
        preallocate=options.write.preallocate,
        dry_run=options.write.dry_run,
        updates_chunks=options.updates_chunks,
        temp_dir_fd=temp_dir_fd,
        bytes_per_s=options.write.bwlimit_bytes,
        run=new_run_name(),
    )


def clones_old_files(options: SyncOptions, src: Root, dst: Root) -> bool:
    """Tell whether a new name may be a clone of an old file of the destination.

    Where the source itself can be cloned, that is as good, and certainly what it shall be.
    """
    engine = options.engine
    if engine.reflink != "auto" or engine.copy_method != "auto" or options.write.preallocate:
        return False
    src_fs, dst_fs = probe_filesystem(src.fd), probe_filesystem(dst.fd)
    return may_clone(dst_fs.kind) and not src_fs.same_as(dst_fs)


def make_backup(policy: WritePolicy, dst: bytes) -> Backup | None:
    """Return where a run keeps what it replaces or deletes; None where it does not.

    Args:
        dst: path of the destination.
    """
    if not policy.backup:
        return None
    directory = b"" if policy.backup_dir is None else os.path.join(dst, policy.backup_dir)
    return Backup(directory, policy.backup_suffix)


def make_trash(policy: DeletePolicy, dst: bytes) -> Backup | None:
    """Return where a run moves what it deletes; None where nothing remains of it.

    Args:
        dst: path of the destination.
    Raises: UsageError where the directory is on another filesystem than the destination.
    """
    if policy.trash_dir is None:
        return None
    path = os.path.join(dst, policy.trash_dir)
    above = path
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    if os.path.isdir(dst) and os.stat(above).st_dev != os.stat(dst).st_dev:
        raise UsageError(f"--trash-dir: {quoted(path)} is on another filesystem than {quoted(dst)}")
    return Backup(path, b"")


def _choose_methods(
    wanted: EngineOptions, engine: EngineChoice, src: Filesystem, dst: Filesystem
) -> tuple[Method, Method, bool]:
    """Return the method for small files, the one for big files, and whether reflinks are tried."""
    choice = choose(src.kind, dst.kind, src.same_as(dst), ring=engine.ring)
    reflink = choice.reflink and wanted.reflink != "never"
    if wanted.copy_method == "auto":
        forced = wanted.reflink == "always"
        return choice.small.method, choice.big.method, reflink or forced
    method = _METHODS[wanted.copy_method]
    if method == Method.DIRECT:  # small files gain nothing by it: design.md
        return Method.READ_WRITE, Method.DIRECT, False
    return method, method, method == Method.REFLINK


def _seeing_zeros(method: Method) -> Method:
    """Return the method for -S: what is not shared must be looked at, and O_DIRECT fills holes."""
    return method if method == Method.REFLINK else Method.READ_WRITE


def find_ctime_granule_ns(*roots: Root) -> int:
    """Return how long two changes may have the same ctime on one of the filesystems, in ns.

    Returns: 0 where none can: the kernel gives a finer time to who changes what was looked at.
    Source: Documentation/filesystems/multigrain-ts.rst of Linux 6.13.
    """
    release = tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])
    granules = [_ctime_granule_ns(probe_filesystem(root.fd), release) for root in roots]
    return max(granules)


def _ctime_granule_ns(filesystem: Filesystem, release: tuple[int, ...]) -> int:
    kind = filesystem.kind
    if kind in _COARSE_KINDS:
        return max(_TICK_NS, _COARSE_KINDS[kind])
    if kind not in _FINE_KINDS or _keeps_seconds(filesystem):
        return _SECOND_NS
    return 0 if release >= (6, 13) and kind in _MULTIGRAIN_KINDS else _TICK_NS


def _keeps_seconds(filesystem: Filesystem) -> bool:
    """Tell of ext4 whether its inodes are too small for nanoseconds, and so for birth times."""
    return filesystem.kind in ("ext2", "ext3", "ext4") and not filesystem.has_birth_time


def find_granule_ns(dst: Root, *, may_write: bool) -> int:
    """Return how finely the destination keeps modification times, in nanoseconds.

    Args:
        may_write: a nameless file may be made to see it; without, the type of filesystem decides.
    """
    filesystem = probe_filesystem(dst.fd)
    if _keeps_seconds(filesystem):
        return _SECOND_NS
    if filesystem.kind in _COARSE_KINDS or not may_write:
        return _COARSE_KINDS.get(filesystem.kind, 1)
    try:
        fd = os.open(f"/proc/self/fd/{dst.fd}", os.O_TMPFILE | os.O_WRONLY, 0o600)
    except OSError:
        return 1
    try:
        return measure_granule_ns(fd) or 1
    finally:
        os.close(fd)
