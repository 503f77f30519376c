"""What a test needs of the machine: the one place where tests are skipped.

A test calls a `need_*` function first. On a user's machine it is skipped with the reason when the
machine lacks that; with ARSYNC_MUST_RUN=1, which `.ci/run` sets, it fails instead, so that nothing
goes untested unnoticed. Only `skip_without` skips there too: for what a good CI machine may lack.
"""

import ctypes
import errno
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

# Debian keeps mkfs and losetup where an ordinary user's PATH does not look.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])

SYS_IO_URING_SETUP = 425  # the same number on every architecture


def need_root() -> None:
    """Skip unless the test runs as root."""
    _need(os.geteuid() == 0, "needs root")


def need_unprivileged() -> None:
    """Skip unless a child process can run without root's rights."""
    _need(os.geteuid() != 0 or _can_drop_root(), "needs a user without root's rights")


def need_command(*names: str) -> None:
    """Skip unless each of the commands is installed."""
    missing = [name for name in names if shutil.which(name, path=SEARCH_PATH) is None]
    _need(not missing, f"needs the command {', '.join(missing)}")


def need_rsync() -> None:
    """Skip unless rsync is installed: it is the oracle of the tests in tests/compat."""
    need_command("rsync")


def need_loop() -> None:
    """Skip unless an image file can be attached to a loop device."""
    need_root()
    need_command("losetup", "mount", "umount")
    trouble = _loop_trouble()
    _need(not trouble, f"needs loop devices: {trouble}")


def need_filesystem(kind: str) -> None:
    """Skip unless a filesystem of this kind (ext4, xfs, btrfs, tmpfs) can be made and mounted."""
    if kind == "tmpfs":
        need_root()
        return
    need_loop()
    need_command(f"mkfs.{kind}")


def need_uring() -> None:
    """Skip unless the kernel lets this process make an io_uring."""
    trouble = _uring_trouble()
    _need(not trouble, f"needs io_uring: {trouble}")


def need_xattrs(directory: Path) -> None:
    """Skip unless files in the directory can hold user.* attributes."""
    _need(_holds_xattrs(directory), f"needs user.* attributes on the filesystem of {directory}")


def skip_without(available: bool, reason: str) -> None:
    """Skip when something is not available that even a CI machine may lack (SELinux, a new kernel).

    Args:
        available: whether the test can run.
        reason: what is missing, for the list of skipped tests.
    """
    if not available:
        pytest.skip(reason)


def must_run() -> bool:
    """Tell whether a missing feature of the machine is a failure."""
    return os.environ.get("ARSYNC_MUST_RUN") == "1"


def _need(available: bool, reason: str) -> None:
    __tracebackhide__ = True
    if available:
        return
    if must_run():
        pytest.fail(f"{reason}, and ARSYNC_MUST_RUN=1 allows no skip", pytrace=False)
    pytest.skip(reason)


@functools.cache
def _can_drop_root() -> bool:
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "true"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@functools.cache
def _loop_trouble() -> str:
    with tempfile.NamedTemporaryFile(dir=_memory_directory()) as image:
        image.truncate(1 << 20)
        attach = ["losetup", "--find", "--show", image.name]
        attached = subprocess.run(attach, capture_output=True, text=True, check=False)
        if attached.returncode:
            return attached.stderr.strip()
        subprocess.run(["losetup", "--detach", attached.stdout.strip()], check=True)
    return ""


@functools.cache
def _uring_trouble() -> str:
    libc = ctypes.CDLL(None, use_errno=True)
    params = ctypes.create_string_buffer(120)
    ring_fd = libc.syscall(SYS_IO_URING_SETUP, 2, params)
    if ring_fd < 0:
        return os.strerror(ctypes.get_errno())
    os.close(ring_fd)
    return ""


def _holds_xattrs(directory: Path) -> bool:
    with tempfile.NamedTemporaryFile(dir=directory) as probe:
        try:
            os.setxattr(probe.name, "user.arsync-probe", b"1")
        except OSError as error:
            if error.errno in (errno.ENOTSUP, errno.EPERM):
                return False
            raise
    return True


def _memory_directory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
