"""Keep two runs from one store.

Owns the lock file and what it says. flock(2) goes with the process that holds it, so a lock left by
a dead one is simply free; that its text is still there tells that the run did not end well.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from arsync.errors import FileError, LockHeldError, describe, quoted

__all__ = ["Holder", "LockState", "hold", "hold_tree", "look", "refuse_held", "release", "share"]

# `look` shares a lock for some microseconds: that must not end a run that begins just then.
_TRIES: Final = 10
_BETWEEN_S: Final = 0.01


@dataclass(frozen=True)
class Holder:
    """Hold what a lock's text says: who took it and when, in seconds since 1970."""

    pid: int
    since_s: int
    host: str

    def __str__(self) -> str:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since_s))
        return f"process {self.pid} on {self.host} has held it since {when}"


@dataclass(frozen=True)
class LockState:
    """Hold how a lock was found.

    Args:
        is_held: a run holds it now.
        is_left: nobody holds it, and the run that held it last did not give it back.
        holder: who holds it or left it, where its text can be read.
    """

    is_held: bool
    is_left: bool
    holder: Holder | None = None


def hold(path: Path, subject: bytes) -> tuple[int, bool]:
    """Take a lock for as long as the descriptor is open.

    Args:
        path: the lock file, made where it is missing.
        subject: the destination, for the message.
    Returns: a descriptor, and whether the holder before gave it back with `release`.
    Raises: LockHeldError that names who holds it; FileError.
    Durability: that it is held is on disk, so a power cut is no good end either.
    """
    lock_fd = _open(path, os.O_RDWR)
    try:
        _take(lock_fd)
    except BlockingIOError as error:
        refused = _refused(subject, _holder(lock_fd))
        os.close(lock_fd)
        raise refused from error
    try:
        was_released = os.fstat(lock_fd).st_size == 0
        text = f"{os.getpid()} {int(time.time())} {socket.gethostname()}\n"
        os.pwrite(lock_fd, text.encode(), 0)
        os.ftruncate(lock_fd, len(text.encode()))
        os.fsync(lock_fd)
    except OSError as error:
        os.close(lock_fd)
        raise FileError(describe("write", path, error.errno or 0)) from error
    return lock_fd, was_released


def hold_tree(root_fd: int, subject: bytes) -> int:
    """Keep other runs from a destination, wherever they have their manifests.

    A filesystem without locks has none to give: then only the store's keeps them apart.

    Args:
        root_fd: of the destination's directory.
        subject: the destination, for the message.
    Returns: a descriptor; the lock is held for as long as it is open.
    Raises: LockHeldError that names who holds it; FileError.
    Source: flock(2), proc_locks(5).
    """
    try:
        lock_fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root_fd)
    except OSError as error:
        raise FileError(describe("open", subject, error.errno or 0)) from error
    try:
        _take(lock_fd)
    except BlockingIOError as error:
        refused = _refused(subject, _holder_of(os.fstat(lock_fd).st_ino))
        os.close(lock_fd)
        raise refused from error
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            os.close(lock_fd)
            raise FileError(describe("lock", subject, error.errno or 0)) from error
    return lock_fd


def share(path: Path, subject: bytes) -> int:
    """Keep others from holding a lock for as long as the descriptor is open.

    Args:
        path: the lock file of a tree that the destination is a part of.
        subject: the destination, for the message.
    Raises: LockHeldError that names who holds it; FileError.
    """
    lock_fd = _open(path, os.O_RDONLY)
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError as error:
        refused = _refused(subject, _holder(lock_fd))
        os.close(lock_fd)
        raise refused from error
    return lock_fd


def refuse_held(path: Path, subject: bytes) -> None:
    """Raise where a lock is held.

    Args:
        path: the lock file of a tree that is a part of the destination.
        subject: the destination, for the message.
    Raises: LockHeldError that names who holds it; FileError.
    """
    state = look(path)
    if state.is_held:
        raise _refused(subject, state.holder)


def _refused(subject: bytes, holder: Holder | None) -> LockHeldError:
    return LockHeldError(f"cannot lock {quoted(subject)}: {holder or 'another run holds it'}")


def release(lock_fd: int, *, clean: bool) -> None:
    """Give a lock back.

    Args:
        clean: what it guards is closed well and durable.
    """
    if clean:
        os.ftruncate(lock_fd, 0)
    os.close(lock_fd)


def look(path: Path) -> LockState:
    """Tell how a lock is, without taking it from anybody.

    Args:
        path: the lock file; one that is missing is free.
    Raises: FileError.
    """
    try:
        lock_fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return LockState(is_held=False, is_left=False)
    except OSError as error:
        raise FileError(describe("open", path, error.errno or 0)) from error
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        was_left = os.fstat(lock_fd).st_size > 0
        return LockState(is_held=False, is_left=was_left, holder=_holder(lock_fd))
    except BlockingIOError:
        return LockState(is_held=True, is_left=False, holder=_holder(lock_fd))
    finally:
        os.close(lock_fd)


def _open(path: Path, access: int) -> int:
    """Open a lock file, which is made where it is missing."""
    try:
        return os.open(path, access | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise FileError(describe("open", path, error.errno or 0)) from error


def _take(lock_fd: int) -> None:
    for _ in range(_TRIES):
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_BETWEEN_S)
        else:
            return
    fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _holder_of(inode: int) -> Holder | None:
    """Return who locks an inode, as far as /proc tells: two filesystems may share a number."""
    try:
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()
            if words[1] == "FLOCK" and words[5].rpartition(":")[2] == str(inode):
                pid = int(words[4])
                return Holder(pid, _started_s(pid), socket.gethostname())
    except (OSError, IndexError, ValueError):
        return None
    return None


def _started_s(pid: int) -> int:
    """Return when a process began, in seconds since 1970.

    Source: proc_pid_stat(5), starttime.
    """
    ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    uptime_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return int(time.time() - uptime_s)


def _holder(lock_fd: int) -> Holder | None:
    pid, _, rest = os.pread(lock_fd, 400, 0).decode(errors="replace").partition(" ")
    since, _, host = rest.strip().partition(" ")
    if not (pid.isdecimal() and since.isdecimal()):
        return None
    return Holder(int(pid), int(since), host)
