"""Find out by trying, in a scratch directory, what a filesystem can and how the ring treats it.

Owns the scratch directory and the trials in it. Each trial answers with a value: a filesystem that
cannot do something is a finding, never an exception. It must not decide what follows from it.

The scratch directory has a temporary name of arsync's (".arsync.<24 hex digits>.0"), is removed at
the end, and the modification time of the directory it was in is put back.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import secrets
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from arsync.uring._native import ffi, lib
from arsync.uring.granule import measure_granule_ns
from arsync.uring.probe import Filesystem, Ring, operation_name, probe_filesystem

__all__ = [
    "Abilities",
    "Answer",
    "Trial",
    "Way",
    "find_direct_alignment",
    "scratch_directory",
    "try_abilities",
    "try_ring",
]

Way = Literal["inline", "device", "worker", "missing", "failed"]

_REPETITIONS = 5

_FICLONE = 0x40049409
_KEEP_SIZE = 0x01
_PUNCH_HOLE = 0x02
_CONTENT = b"arsync " * 16384
_FAR = 4 << 20  # past any block or record size, so that a hole fits before it

# acl(5) as the kernel stores it: version 2; owner rw-, user 1 r--, group r--, mask r--, other ---.
_NO_ID = 0xFFFFFFFF
_ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, bits, who)
    for tag, bits, who in (
        (1, 6, _NO_ID),
        (2, 4, 1),
        (4, 4, _NO_ID),
        (16, 4, _NO_ID),
        (32, 0, _NO_ID),
    )
)

_TRIALS = {
    "open": lib.AR_TRIAL_OPEN,
    "read (cached)": lib.AR_TRIAL_READ_CACHED,
    "read (cold)": lib.AR_TRIAL_READ_COLD,
    "read (O_DIRECT)": lib.AR_TRIAL_READ_DIRECT,
    "write (O_DIRECT, preallocated)": lib.AR_TRIAL_WRITE_DIRECT,
    "write (buffered, new file)": lib.AR_TRIAL_WRITE_NEW,
    "create": lib.AR_TRIAL_CREATE,
    "statx": lib.AR_TRIAL_STATX,
    "mkdirat": lib.AR_TRIAL_MKDIR,
    "renameat": lib.AR_TRIAL_RENAME,
    "unlinkat": lib.AR_TRIAL_UNLINK,
    "linkat": lib.AR_TRIAL_LINK,
    "symlinkat": lib.AR_TRIAL_SYMLINK,
    "fsync": lib.AR_TRIAL_FSYNC,
    "fallocate": lib.AR_TRIAL_FALLOCATE,
    "fsetxattr": lib.AR_TRIAL_SET_XATTR,
    "fgetxattr": lib.AR_TRIAL_GET_XATTR,
    "splice": lib.AR_TRIAL_SPLICE,
    "close": lib.AR_TRIAL_CLOSE,
}


@dataclass(frozen=True)
class Answer:
    """Hold yes, no or unknown (None), and the reason for all but a yes."""

    works: bool | None
    why: str = ""


@dataclass(frozen=True)
class Abilities:
    """Say what a filesystem can, as tried.

    Attributes:
        granule_ns: what times are rounded to, 0: unknown.
        direct_bytes: alignment for O_DIRECT, 0: not possible or unknown.
    """

    reflink: Answer
    copy_file_range: Answer
    tmpfile: Answer
    xattr_user: Answer
    xattr_trusted: Answer
    xattr_security: Answer
    acl: Answer
    holes: Answer
    punch_hole: Answer
    preallocate: Answer
    direct: Answer
    hard_links: Answer
    symlinks: Answer
    fifos: Answer
    case_sensitive: Answer
    granule_ns: int
    direct_bytes: int

    @classmethod
    def unknown(cls, why: str) -> Abilities:
        """Return what is known when nothing may be written: nothing."""
        answers = {name: Answer(None, why) for name in _ANSWERS}
        return cls(**answers, direct=Answer(None, why), granule_ns=0, direct_bytes=0)


@dataclass(frozen=True)
class Trial:
    """Say how one operation went through the ring.

    Attributes:
        name: the operation.
        opcode: its name in io_uring.
        way: complete at once, by the device, by a kernel worker; no such operation, or an error.
        counts: how often inline, by the device, by a worker.
        error: errno when it failed; of a cold read EBUSY says that the file stays in the cache,
            EOPNOTSUPP that the kernel does not tell what is cached.
    """

    name: str
    opcode: str
    way: Way
    counts: tuple[int, int, int]
    error: int


@contextmanager
def scratch_directory(parent_fd: int) -> Iterator[int]:
    """Lend the descriptor of an empty directory in another one; leave nothing of it behind.

    Raises:
        OSError: the directory cannot be made there.
    """
    before = os.fstat(parent_fd)
    name = f".arsync.{secrets.token_hex(12)}.0"
    os.mkdir(name, 0o700, dir_fd=parent_fd)
    try:
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent_fd)
        try:
            yield fd
        finally:
            _empty(fd)
            os.close(fd)
    finally:
        os.rmdir(name, dir_fd=parent_fd)
        # Only the owner may; whoever else may write there sees a newer time, as after any write.
        with contextlib.suppress(OSError):
            os.utime(f"/proc/self/fd/{parent_fd}", ns=(before.st_atime_ns, before.st_mtime_ns))


def _empty(directory_fd: int) -> None:
    for name in _names(directory_fd):
        try:
            os.unlink(name, dir_fd=directory_fd)
        except OSError as error:
            if error.errno not in (errno.EISDIR, errno.EPERM):
                raise
            os.rmdir(name, dir_fd=directory_fd)


def _names(directory_fd: int) -> list[str]:
    # A descriptor of its own: on btrfs one does not list what was made after it was opened (6.5).
    fresh_fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=directory_fd)
    try:
        return os.listdir(fresh_fd)
    finally:
        os.close(fresh_fd)


# --------------------------------------------------------------------------- through the ring


def try_ring(directory_fd: int, ring: Ring) -> tuple[Trial, ...]:
    """Send each operation some times through a ring; empty when there is no ring.

    Args:
        directory_fd: an empty directory on the filesystem in question.
        ring: what the kernel has.
    """
    if not ring.available:
        return ()
    return tuple(_try_operation(directory_fd, ring, name) for name in _TRIALS)


def _try_operation(directory_fd: int, ring: Ring, name: str) -> Trial:
    out = ffi.new("struct ar_trial *")
    result = lib.ar_probe_trial(directory_fd, _TRIALS[name], 0, out)
    if result == 0 and out.opcode in ring.operations:
        result = lib.ar_probe_trial(directory_fd, _TRIALS[name], _REPETITIONS, out)
    counts = (out.inlined, out.device, out.worker)
    missing = out.opcode not in ring.operations
    error = -result or out.err
    return Trial(name, operation_name(out.opcode), _way(counts, missing), counts, error)


def _way(counts: tuple[int, int, int], missing: bool) -> Way:
    """Return what most of the tries did.

    Between the first two it is a race: a fast device may be done before the kernel comes back. One
    completion that came later shows that the operation waits for the device, and without a worker.
    An error after some successes is a race of another kind and no finding.
    """
    inline, device, worker = counts
    if missing:
        return "missing"
    if inline + device + worker == 0:
        return "failed"
    if worker > inline + device:
        return "worker"
    return "device" if device else "inline"


# --------------------------------------------------------------------------- of the filesystem


def try_abilities(directory_fd: int) -> Abilities:
    """Try in an empty directory what its filesystem can; leaves files there.

    The caller lends a `scratch_directory`, which removes them.
    """
    answers = {name: _ask(name, trial, directory_fd) for name, trial in _ANSWERS.items()}
    direct, direct_bytes = _try_direct(directory_fd)
    answers["direct"] = direct
    return Abilities(**answers, granule_ns=_try_granule(directory_fd), direct_bytes=direct_bytes)


def _ask(name: str, trial: Callable[[int], bool], directory_fd: int) -> Answer:
    try:
        return Answer(True) if trial(directory_fd) else Answer(False, "accepted without effect")
    except OSError as error:
        return Answer(None if _says_nothing(name, error) else False, _reason(error))


def _says_nothing(name: str, error: OSError) -> bool:
    """Tell whether an error is about this process or this moment, not about the filesystem.

    EPERM is what vfat answers to link(2) and symlink(2); for attributes it is a missing right.
    """
    if error.errno == errno.EPERM:
        return name.startswith("xattr_")
    return error.errno in (errno.EACCES, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


@contextmanager
def _file(directory_fd: int, name: str, flags: int = 0, content: bytes = b"") -> Iterator[int]:
    fd = os.open(name, os.O_RDWR | os.O_CREAT | flags, 0o600, dir_fd=directory_fd)
    try:
        if content:
            os.pwrite(fd, content, 0)
        yield fd
    finally:
        os.close(fd)


def _try_reflink(directory_fd: int) -> bool:
    with (
        _file(directory_fd, "from", content=_CONTENT) as src_fd,
        _file(directory_fd, "clone") as dst_fd,
    ):
        fcntl.ioctl(dst_fd, _FICLONE, src_fd)
        return os.fstat(dst_fd).st_size == len(_CONTENT)


def _try_copy_file_range(directory_fd: int) -> bool:
    with (
        _file(directory_fd, "from", content=_CONTENT) as src_fd,
        _file(directory_fd, "copy") as dst_fd,
    ):
        return os.copy_file_range(src_fd, dst_fd, len(_CONTENT), 0, 0) > 0


def _try_tmpfile(directory_fd: int) -> bool:
    os.close(os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600, dir_fd=directory_fd))
    return True


def _xattr_trial(name: str, value: bytes) -> Callable[[int], bool]:
    def trial(directory_fd: int) -> bool:
        with _file(directory_fd, "attributes") as fd:
            os.setxattr(fd, name, value)
            return os.getxattr(fd, name) == value

    return trial


def _try_holes(directory_fd: int) -> bool:
    with _file(directory_fd, "sparse") as fd:
        os.pwrite(fd, b"data", _FAR)
        return os.lseek(fd, 0, os.SEEK_DATA) > 0


def _try_punch(directory_fd: int) -> bool:
    with _file(directory_fd, "punched", content=_CONTENT) as fd:
        _fallocate(fd, _PUNCH_HOLE | _KEEP_SIZE, len(_CONTENT))
        return os.pread(fd, 8, 0) == bytes(8)


def _try_preallocate(directory_fd: int) -> bool:
    with _file(directory_fd, "allocated") as fd:
        _fallocate(fd, _KEEP_SIZE, len(_CONTENT))
        return os.fstat(fd).st_size == 0


def _fallocate(fd: int, mode: int, length: int) -> None:
    result = lib.ar_probe_fallocate(fd, mode, 0, length)
    if result < 0:
        raise OSError(-result, os.strerror(-result))


def _try_hard_link(directory_fd: int) -> bool:
    with _file(directory_fd, "name") as fd:
        os.link("name", "name2", src_dir_fd=directory_fd, dst_dir_fd=directory_fd)
        return os.fstat(fd).st_nlink == 2


def _try_symlink(directory_fd: int) -> bool:
    os.symlink("nowhere", "link", dir_fd=directory_fd)
    return os.readlink("link", dir_fd=directory_fd) == "nowhere"


def _try_fifo(directory_fd: int) -> bool:
    os.mkfifo("fifo", 0o600, dir_fd=directory_fd)
    return True


def _try_case(directory_fd: int) -> bool:
    with _file(directory_fd, "lower"):
        try:
            os.stat("LOWER", dir_fd=directory_fd)
        except FileNotFoundError:
            return True
    return False


def _try_granule(directory_fd: int) -> int:
    with _file(directory_fd, "times") as fd:
        return measure_granule_ns(fd)


def _try_direct(directory_fd: int) -> tuple[Answer, int]:
    try:
        with _file(directory_fd, "direct", os.O_DIRECT) as fd:
            facts = probe_filesystem(fd)
            return find_direct_alignment(fd, facts)
    except OSError as error:
        return Answer(False, _reason(error)), 0


def find_direct_alignment(fd: int, facts: Filesystem) -> tuple[Answer, int]:
    """Return whether a file opened for O_DIRECT can be written so, and in units of how many bytes.

    Args:
        facts: of this file; where they do not tell, it is written to.
    """
    if facts.direct_known:
        alignment = max(facts.direct_memory_bytes, facts.direct_offset_bytes)
        return (Answer(True), alignment) if alignment else (Answer(False, "as statx says"), 0)
    for alignment in (512, 1024, 2048, 4096, 16384, 65536):
        if _writes_direct(fd, alignment):
            return Answer(True), alignment
    return Answer(False, os.strerror(errno.EINVAL)), 0


def _writes_direct(fd: int, alignment: int) -> bool:
    with mmap.mmap(-1, 2 * alignment) as memory, memoryview(memory) as view:
        try:
            return os.pwrite(fd, view[alignment:], alignment) == alignment
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return False


_ANSWERS: dict[str, Callable[[int], bool]] = {
    "reflink": _try_reflink,
    "copy_file_range": _try_copy_file_range,
    "tmpfile": _try_tmpfile,
    "xattr_user": _xattr_trial("user.arsync.trial", b"1"),
    "xattr_trusted": _xattr_trial("trusted.arsync.trial", b"1"),
    "xattr_security": _xattr_trial("security.arsync.trial", b"1"),
    "acl": _xattr_trial("system.posix_acl_access", _ACL),
    "holes": _try_holes,
    "punch_hole": _try_punch,
    "preallocate": _try_preallocate,
    "hard_links": _try_hard_link,
    "symlinks": _try_symlink,
    "fifos": _try_fifo,
    "case_sensitive": _try_case,
}
