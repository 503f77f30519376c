"""What is on disk: every entry of a tree with everything that a copy can keep or lose.

Reading changes nothing, not even access times (O_NOATIME, and each stat before its read).
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from xxhash import xxh3_128

from tests.kit.tree import AnyPath, opened, proc_path

# A block is hashed with its position and only when it is not all zero: so the digest of a file
# does not depend on how its zeros are stored, and blocks that are holes are not read.
_BLOCK_BYTES = 1 << 20
_ZEROS = bytes(_BLOCK_BYTES)

# How xfs stores ACLs shows through; system.posix_acl_* says the same.
_XFS_ACLS = "trusted.SGI_ACL_"

_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}


@dataclass(frozen=True)
class Entry:
    """Hold one entry as it was found.

    `content` is (size, digest, first bytes) of a regular file, `data` the (start, end) ranges that
    SEEK_DATA reports, `links` all paths inside the tree that are the same inode.
    """

    kind: str
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    atime_ns: int
    ctime_ns: int
    inode: int
    xattrs: dict[str, bytes]
    content: tuple[int, str, bytes] | None = None
    data: tuple[tuple[int, int], ...] = ()
    target: bytes | None = None
    device: tuple[int, int] | None = None
    links: tuple[bytes, ...] = ()


Snapshot = dict[bytes, Entry]

# Stands for any time of the test's own run; no filesystem can hold it.
NOW_NS = 1 << 80

# The kernel stamps files with a clock that ticks as rarely as every 10 ms.
_TICK_NS = 10_000_000


def read(directory: AnyPath) -> Snapshot:
    """Read a whole tree.

    Returns: path -> Entry, the tree's own directory as b"".
    """
    root_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        found = dict(_walk(root_fd))
    finally:
        os.close(root_fd)
    return _with_links(found)


def without_now(snapshot: Snapshot, since_ns: int) -> Snapshot:
    """Return the snapshot with each mtime and atime that was set since then as NOW_NS.

    What two programs have both left to the clock is equal so, and what only one of them did is not.

    Args:
        snapshot: what was read.
        since_ns: time.time_ns() of before the programs ran.
    """
    until_ns = time.time_ns()

    def settled(time_ns: int) -> int:
        return NOW_NS if since_ns - _TICK_NS <= time_ns <= until_ns else time_ns

    return {
        path: replace(entry, mtime_ns=settled(entry.mtime_ns), atime_ns=settled(entry.atime_ns))
        for path, entry in snapshot.items()
    }


def _walk(root_fd: int) -> Iterator[tuple[bytes, Entry]]:
    yield b"", _read_entry(root_fd, b".")
    waiting = [b""]
    while waiting:
        directory = waiting.pop()
        prefix = directory + b"/" if directory else b""
        with opened(root_fd, directory) as fd:
            for name in sorted(map(os.fsencode, os.listdir(fd))):
                entry = _read_entry(fd, name)
                yield prefix + name, entry
                if entry.kind == "directory":
                    waiting.append(prefix + name)


def _with_links(found: Snapshot) -> Snapshot:
    groups: dict[int, list[bytes]] = {}
    for path, entry in found.items():
        if entry.kind != "directory":
            groups.setdefault(entry.inode, []).append(path)
    shared = [tuple(sorted(paths)) for paths in groups.values() if len(paths) > 1]
    for paths in shared:
        for path in paths:
            found[path] = replace(found[path], links=paths)
    return found


def _read_entry(parent_fd: int, name: bytes) -> Entry:
    found = os.stat(name, dir_fd=parent_fd, follow_symlinks=False)
    kind = _KINDS[stat.S_IFMT(found.st_mode)]
    content, data = _read_content(parent_fd, name) if kind == "file" else (None, ())
    is_device = kind.endswith("device")
    return Entry(
        kind=kind,
        mode=stat.S_IMODE(found.st_mode),
        uid=found.st_uid,
        gid=found.st_gid,
        mtime_ns=found.st_mtime_ns,
        atime_ns=found.st_atime_ns,
        ctime_ns=found.st_ctime_ns,
        inode=found.st_ino,
        xattrs=_read_xattrs(parent_fd, name),
        content=content,
        data=data,
        target=os.readlink(name, dir_fd=parent_fd) if kind == "symlink" else None,
        device=(os.major(found.st_rdev), os.minor(found.st_rdev)) if is_device else None,
    )


def _read_xattrs(parent_fd: int, name: bytes) -> dict[str, bytes]:
    path = proc_path(parent_fd, name)
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return {}
    return {
        each: os.getxattr(path, each, follow_symlinks=False)
        for each in names
        if not each.startswith(_XFS_ACLS)
    }


def _read_content(
    parent_fd: int, name: bytes
) -> tuple[tuple[int, str, bytes], tuple[tuple[int, int], ...]]:
    fd = _open_quietly(parent_fd, name)
    try:
        size = os.fstat(fd).st_size
        data = tuple(data_ranges(fd, size))
        digest = xxh3_128()
        for offset, block in _blocks(fd, size, data):
            if block != _ZEROS[: len(block)]:
                digest.update(offset.to_bytes(8, "little"))
                digest.update(block)
        return (size, digest.hexdigest(), os.pread(fd, 40, 0)), data
    finally:
        os.close(fd)


def _open_quietly(parent_fd: int, name: bytes) -> int:
    """Open without moving the access time, where the owner of the file allows that."""
    flags = os.O_RDONLY | os.O_NOFOLLOW
    try:
        return os.open(name, flags | os.O_NOATIME, dir_fd=parent_fd)
    except PermissionError:
        return os.open(name, flags, dir_fd=parent_fd)


def data_ranges(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield where a file has data, as its filesystem says it."""
    end = 0
    while end < size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return
        end = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, end


def _blocks(fd: int, size: int, ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, bytes) of each whole aligned block that holds some of the ranges."""
    offset = 0
    for start, end in ranges:
        offset = max(offset, start - start % _BLOCK_BYTES)
        while offset < end:
            yield offset, os.pread(fd, min(_BLOCK_BYTES, size - offset), offset)
            offset += _BLOCK_BYTES
