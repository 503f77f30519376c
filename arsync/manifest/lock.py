"""Keep two runs from one store.

Owns the lock file and what it says. flock(2) goes with the process that holds it, so a lock left by
a dead one is simply free; that its text is still there tells that the run did not end well.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from pathlib import Path

from arsync.errors import FileError, LockHeldError, describe, quoted

__all__ = ["hold", "release"]


def hold(path: Path, subject: bytes) -> tuple[int, bool]:
    """Take a lock for as long as the descriptor is open.

    Args:
        path: the lock file, made where it is missing.
        subject: the destination, for the message.
    Returns: a descriptor, and whether the holder before gave it back with `release`.
    Raises: LockHeldError that names who holds it; FileError.
    Durability: that it is held is on disk, so a power cut is no good end either.
    """
    try:
        lock_fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise FileError(describe("open", path, error.errno or 0)) from error
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = _holder(lock_fd)
        os.close(lock_fd)
        raise LockHeldError(f"cannot lock {quoted(subject)}: {holder}") from error
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


def release(lock_fd: int, *, clean: bool) -> None:
    """Give a lock back.

    Args:
        clean: what it guards is closed well and durable.
    """
    if clean:
        os.ftruncate(lock_fd, 0)
    os.close(lock_fd)


def _holder(lock_fd: int) -> str:
    pid, _, rest = os.pread(lock_fd, 400, 0).decode(errors="replace").partition(" ")
    since, _, host = rest.strip().partition(" ")
    if not (pid.isdigit() and since.isdigit()):
        return "another run holds it"
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(int(since)))
    return f"process {pid} on {host} has held it since {when}"
