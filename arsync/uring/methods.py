"""Decide which engine runs, how source files are read, and what moves content between filesystems.

Owns the one table of copy methods. Each row carries the reason, with the number that was measured
where one was. It looks at types of filesystems only (statfs and mountinfo tell them), so it costs
nothing at start-up: whether a filesystem that may share blocks really does so shows at the first
file, and the executor falls back by itself.

The measurements: 2 cores, Linux 6.18, filesystem on a loop device in memory, source warm, each
figure the minimum of five runs that end with syncfs, content hashed (XXH3-128) where it passes
through user space. "2 lanes" share the file by chunks of 4 MiB. "O_DIRECT" keeps 8 writes of 1 MiB
in flight on each lane's ring.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from arsync.model import Method
from arsync.uring._native import lib
from arsync.uring.probe import Ring

__all__ = [
    "BIG_BYTES",
    "Choice",
    "Decision",
    "Reading",
    "choose",
    "choose_engine",
    "may_clone",
    "method_name",
]

# From here on all lanes share a file.
BIG_BYTES: Final[int] = lib.AR_BIG_BYTES

# Without one of these the ring cannot even read a file.
_NEEDED: Final = ("OPENAT", "READ", "CLOSE")

_NEVER_CLONING: Final = frozenset(
    {"erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "hfsplus", "iso9660", "jfs", "msdos"}
    | {"nilfs", "nilfs2", "ntfs3", "ramfs", "reiserfs", "squashfs", "tmpfs", "udf", "vfat"}
)
# No FMODE_NOWAIT there: each read through the ring goes to a kernel worker (`arsync doctor`).
_PUNTED_READS: Final = frozenset({"tmpfs", "ramfs"})


@dataclass(frozen=True)
class Decision:
    """Name a copy method and the reason for it."""

    method: Method
    why: str


@dataclass(frozen=True)
class Reading:
    """Say whether source files are read through the ring or by plain calls, and why."""

    method: Literal["ring", "plain"]
    why: str


@dataclass(frozen=True)
class Choice:
    """Say how content goes from one filesystem to another.

    Attributes:
        reflink: to be tried first for each file (AR_LANE_REFLINK); the executor falls back.
        copy_file_range: works between the two, and may leave the bytes where they are.
        small: for files below `BIG_BYTES`.
        big: for the others.
    """

    reflink: bool
    reflink_why: str
    copy_file_range: bool
    small: Decision
    big: Decision
    reading: Reading


_ANY: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True)
class _Row:
    """Hold a row of the table: it fits when every part does; _ANY and None fit everything."""

    src: frozenset[str]
    dst: frozenset[str]
    same: bool | None
    big: bool | None
    method: Method
    why: str

    def fits(self, src: str, dst: str, same: bool, big: bool) -> bool:
        """Tell whether the row speaks of such a copy."""
        return (
            (not self.src or src in self.src)
            and (not self.dst or dst in self.dst)
            and self.same in (None, same)
            and self.big in (None, big)
        )


# The first row that fits decides. Splice and copy_file_range are in it only where the bytes stay
# where they are. They leave no hash, and where they save time it is little. ext4 to itself, 2 GiB
# on 2 lanes: 0.92 s by copy_file_range, 0.63 by splice, 0.81 by read/write, 0.51 by O_DIRECT;
# tmpfs to itself: 0.82, 0.77, 0.71, 0.84. 4096 files of 64 KiB onto ext4: 0.23 s by splice, 0.26
# by read/write.
#
# The times by O_DIRECT are those of space allocated at its full size. With FALLOC_FL_KEEP_SIZE,
# where each write extends the file, it takes 0.49 s instead of 0.37 on ext4, 0.53 instead of 0.40
# on xfs.
_TABLE: Final = (
    _Row(
        src=frozenset({"ceph", "cifs", "nfs4", "smb3"}),
        dst=_ANY,
        same=True,
        big=None,
        method=Method.COPY_RANGE,
        why="the server copies by itself, no byte crosses the network (not measured)",
    ),
    _Row(
        src=_ANY,
        dst=_ANY,
        same=None,
        big=False,
        method=Method.READ_WRITE,
        why="files of 64 KiB take 1.05 (ext4) to 1.9 (btrfs) times as long by O_DIRECT; "
        "from 1 to 16 MiB the two differ by a quarter at most, either way",
    ),
    _Row(
        src=_ANY,
        dst=frozenset({"ext4"}),
        same=None,
        big=True,
        method=Method.DIRECT,
        why="past the page cache, 2 GiB on 2 lanes in 0.37 s by O_DIRECT, 0.73 s by read/write",
    ),
    _Row(
        src=_ANY,
        dst=frozenset({"xfs"}),
        same=None,
        big=True,
        method=Method.DIRECT,
        why="past the page cache, 2 GiB on 2 lanes in 0.40 s by O_DIRECT, 0.47 s by read/write; "
        "0.66 s and 1.29 s when other work keeps the cores busy",
    ),
    _Row(
        src=_ANY,
        dst=frozenset({"btrfs"}),
        same=None,
        big=True,
        method=Method.READ_WRITE,
        why="2 GiB on 2 lanes in 2.3 s by read/write, 2.6 s by O_DIRECT",
    ),
    _Row(
        src=_ANY,
        dst=frozenset({"tmpfs"}),
        same=None,
        big=True,
        method=Method.READ_WRITE,
        why="it is all page cache: 2 GiB on 2 lanes in 0.67 s by read/write, 0.82 s by O_DIRECT",
    ),
    _Row(
        src=_ANY,
        dst=_ANY,
        same=None,
        big=True,
        method=Method.READ_WRITE,
        why="right everywhere; nothing else was measured on this type of filesystem",
    ),
)


def choose(src_fs: str, dst_fs: str, same_fs: bool, *, ring: bool = True) -> Choice:
    """Decide how content goes from one filesystem to another.

    Args:
        src_fs: type as mount names it, `Filesystem.kind` of `arsync.uring.probe`.
        dst_fs: likewise.
        same_fs: both are one and the same, `Filesystem.same_as`.
        ring: there is a ring; without one, reading and O_DIRECT have no depth to use.
    """
    reflink, reflink_why = _choose_reflink(src_fs, same_fs)
    return Choice(
        reflink=reflink,
        reflink_why=reflink_why,
        copy_file_range=same_fs,
        small=_look_up(src_fs, dst_fs, same_fs, big=False, ring=ring),
        big=_look_up(src_fs, dst_fs, same_fs, big=True, ring=ring),
        reading=_choose_reading(src_fs, ring),
    )


def may_clone(kind: str) -> bool:
    """Tell whether files of a type of filesystem may share blocks; that it cannot shows later."""
    return kind not in _NEVER_CLONING


def method_name(method: Method) -> str:
    """Return the name of a method as `--copy-method` takes it."""
    return "copy_file_range" if method == Method.COPY_RANGE else method.name.lower()


def choose_engine(ring: Ring, refusal: str = "") -> tuple[Literal["uring", "sync"], str]:
    """Return the engine that a run takes by itself, and the reason.

    Args:
        ring: what the kernel lets this process have.
        refusal: why there is none, as `why_refused` of `arsync.uring.probe` says it.
    """
    if not ring.available:
        return "sync", f"io_uring is refused: {refusal}"
    missing = [name for name in _NEEDED if not ring.has(name)]
    if missing:
        return "sync", f"the kernel's ring lacks {', '.join(missing)}"
    return "uring", "hundreds of opens and reads in flight from one thread keep a cold disk busy"


def _choose_reflink(kind: str, same_fs: bool) -> tuple[bool, str]:
    if not same_fs:
        return False, "two filesystems cannot share blocks"
    if not may_clone(kind):
        return False, f"{kind} cannot share blocks between files"
    return (
        True,
        "blocks are shared, whatever the size; if the first file shows they are not, copied",
    )


def _look_up(src: str, dst: str, same: bool, *, big: bool, ring: bool) -> Decision:
    row = next(row for row in _TABLE if row.fits(src, dst, same, big))
    if row.method == Method.DIRECT and not ring:
        return Decision(Method.READ_WRITE, "there is no ring to keep O_DIRECT writes in flight")
    return Decision(row.method, row.why)


def _choose_reading(src: str, ring: bool) -> Reading:
    if not ring:
        return Reading("plain", "there is no ring")
    if src in _PUNTED_READS:
        return Reading("plain", f"on {src} the ring hands each read to a kernel worker")
    return Reading(
        "ring", "opens and reads complete at once from the cache, in parallel from a disk"
    )
