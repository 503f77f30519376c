"""Copy a tree with nothing but os.*: slow, simple, and right as far as a reader can see.

The oracle of the executors: what it leaves in an empty destination is what they must leave.
Everything is kept: types, content and holes, modes, owners, times, links, attributes, ACLs.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_CHUNK_BYTES = 1 << 20


def copy_tree(src: Path, dst: Path) -> None:
    """Copy everything below `src` into `dst`, which is made or must be empty.

    Args:
        src: the directory to copy; needs the rights to read all of it.
        dst: the directory that becomes equal to it.
    """
    dst.mkdir(exist_ok=True)
    _copy_entries(os.fsencode(src), os.fsencode(dst), {})
    _copy_metadata(os.fsencode(src), os.fsencode(dst))


def _copy_entries(src: bytes, dst: bytes, first_names: dict[int, bytes]) -> None:
    for name in sorted(os.listdir(src)):
        from_path, to_path = os.path.join(src, name), os.path.join(dst, name)
        found = os.lstat(from_path)
        if stat.S_ISDIR(found.st_mode):
            os.mkdir(to_path)
            _copy_entries(from_path, to_path, first_names)
        elif found.st_ino in first_names:
            os.link(first_names[found.st_ino], to_path, follow_symlinks=False)
            continue
        else:
            _copy_entry(from_path, to_path, found)
            first_names[found.st_ino] = to_path
        _copy_metadata(from_path, to_path)


def _copy_entry(src: bytes, dst: bytes, found: os.stat_result) -> None:
    if stat.S_ISREG(found.st_mode):
        _copy_content(src, dst)
    elif stat.S_ISLNK(found.st_mode):
        os.symlink(os.readlink(src), dst)
    else:
        os.mknod(dst, found.st_mode, found.st_rdev)


def _copy_content(src: bytes, dst: bytes) -> None:
    src_fd = os.open(src, os.O_RDONLY | os.O_NOATIME)
    dst_fd = os.open(dst, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        size = os.fstat(src_fd).st_size
        os.ftruncate(dst_fd, size)
        start, end = _next_data(src_fd, 0, size)
        while start < size:
            _copy_range(src_fd, dst_fd, start, end)
            start, end = _next_data(src_fd, end, size)
    finally:
        os.close(src_fd)
        os.close(dst_fd)


def _next_data(fd: int, offset: int, size: int) -> tuple[int, int]:
    """Return the next range that holds data, (size, size) when only a hole is left."""
    try:
        start = os.lseek(fd, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return size, size
    return start, os.lseek(fd, start, os.SEEK_HOLE)


def _copy_range(src_fd: int, dst_fd: int, start: int, end: int) -> None:
    while start < end:
        data = os.pread(src_fd, min(_CHUNK_BYTES, end - start), start)
        start += os.pwrite(dst_fd, data, start)


def _copy_metadata(src: bytes, dst: bytes) -> None:
    """Copy owner, mode, attributes, times, in the one order in which none undoes another."""
    found = os.lstat(src)
    os.chown(dst, found.st_uid, found.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(found.st_mode):
        os.chmod(dst, stat.S_IMODE(found.st_mode))
    for name in os.listxattr(src, follow_symlinks=False):
        value = os.getxattr(src, name, follow_symlinks=False)
        os.setxattr(dst, name, value, follow_symlinks=False)
    os.utime(dst, ns=(found.st_atime_ns, found.st_mtime_ns), follow_symlinks=False)
