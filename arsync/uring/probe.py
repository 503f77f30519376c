"""Ask the kernel what this process may use of io_uring, and a descriptor what filesystem it is on.

Owns the names of io_uring's operations, the reasons for which a ring is refused, and the facts
that statfs, statx and the list of mounts give. Start-up uses it, so nothing here writes and
everything takes well under a millisecond, except `probe_limits`. What can only be found by trying
is in `arsync.uring.trials`.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

from arsync.mounts import find_mount
from arsync.uring._native import ffi, lib

__all__ = [
    "OPERATIONS",
    "Filesystem",
    "Ring",
    "operation_name",
    "probe_filesystem",
    "probe_limits",
    "probe_ring",
    "why_refused",
]

# By number, as include/uapi/linux/io_uring.h lists them; 6.18 ends with PIPE.
# fmt: off
OPERATIONS = (
    "NOP", "READV", "WRITEV", "FSYNC", "READ_FIXED", "WRITE_FIXED", "POLL_ADD", "POLL_REMOVE",
    "SYNC_FILE_RANGE", "SENDMSG", "RECVMSG", "TIMEOUT", "TIMEOUT_REMOVE", "ACCEPT",
    "ASYNC_CANCEL", "LINK_TIMEOUT", "CONNECT", "FALLOCATE", "OPENAT", "CLOSE", "FILES_UPDATE",
    "STATX", "READ", "WRITE", "FADVISE", "MADVISE", "SEND", "RECV", "OPENAT2", "EPOLL_CTL",
    "SPLICE", "PROVIDE_BUFFERS", "REMOVE_BUFFERS", "TEE", "SHUTDOWN", "RENAMEAT", "UNLINKAT",
    "MKDIRAT", "SYMLINKAT", "LINKAT", "MSG_RING", "FSETXATTR", "SETXATTR", "FGETXATTR",
    "GETXATTR", "SOCKET", "URING_CMD", "SEND_ZC", "SENDMSG_ZC", "READ_MULTISHOT", "WAITID",
    "FUTEX_WAIT", "FUTEX_WAKE", "FUTEX_WAITV", "FIXED_FD_INSTALL", "FTRUNCATE", "BIND", "LISTEN",
    "RECV_ZC", "EPOLL_WAIT", "READV_FIXED", "WRITEV_FIXED", "PIPE", "NOP128", "URING_CMD128",
)
# fmt: on

_FLAGS = {
    "COOP_TASKRUN": lib.AR_RING_COOP_TASKRUN,
    "SINGLE_ISSUER": lib.AR_RING_SINGLE_ISSUER,
    "DEFER_TASKRUN": lib.AR_RING_DEFER_TASKRUN,
}

# statfs(2) and linux/magic.h; used only where the list of mounts says nothing.
_MAGIC_NAMES = {
    0x1021994: "tmpfs",
    0x4D44: "vfat",
    0x517B: "smb",
    0x6969: "nfs",
    0x9FA0: "proc",
    0xEF53: "ext4",
    0x01021997: "9p",
    0x2011BAB0: "exfat",
    0x2FC12FC1: "zfs",
    0x52654973: "reiserfs",
    0x58465342: "xfs",
    0x5346544E: "ntfs",
    0x61756673: "aufs",
    0x65735546: "fuse",
    0x6E736673: "nilfs",
    0x73717368: "squashfs",
    0x794C7630: "overlay",
    0x858458F6: "ramfs",
    0x9123683E: "btrfs",
    0xCA451A4E: "bcachefs",
    0xE0F5E1E2: "erofs",
    0xF2F52010: "f2fs",
    0xFE534D42: "cifs",
    0xFF534D42: "cifs",
    0x00C36400: "ceph",
    0x62656572: "sysfs",
}


@dataclass(frozen=True)
class Ring:
    """Say what of io_uring this process may use.

    Attributes:
        error: errno of the refusal, 0 when there is a ring.
        flags: set-up flags that the kernel accepts together.
        operations: numbers of the supported operations, ascending.
        depth: largest queue depth that can be set up, 0 when that was not tried.
        buffer_bytes: most bytes that could be registered, 0 when that was not tried.
        buffer_error: errno of the refusal of more, 0 when all that was tried is possible.
    """

    error: int
    flags: tuple[str, ...] = ()
    operations: tuple[int, ...] = ()
    depth: int = 0
    buffer_bytes: int = 0
    buffer_error: int = 0

    @property
    def available(self) -> bool:
        """Tell whether a ring can be set up."""
        return self.error == 0

    def has(self, name: str) -> bool:
        """Tell whether the kernel has the operation of this name."""
        return OPERATIONS.index(name) in self.operations


def operation_name(number: int) -> str:
    """Return the name of an operation; a number that this table does not know stays a number."""
    return OPERATIONS[number] if number < len(OPERATIONS) else str(number)


def probe_ring() -> Ring:
    """Try to set a ring up and ask which operations it has."""
    return _probe_ring(0)


def probe_limits(buffer_bytes: int) -> Ring:
    """Find also the largest queue depth and how much can be registered as buffers.

    Takes some milliseconds and up to 3 MiB for a moment.

    Args:
        buffer_bytes: how much to try; less is tried where that is refused.
    """
    return _probe_ring(buffer_bytes)


def _probe_ring(buffer_bytes: int) -> Ring:
    facts = ffi.new("struct ar_ring_facts *")
    _check(lib.ar_probe_ring(buffer_bytes, facts))
    return Ring(
        error=facts.err,
        flags=tuple(name for name, bit in _FLAGS.items() if facts.flags & bit),
        operations=tuple(number for number in range(256) if facts.ops[number]),
        depth=facts.depth,
        buffer_bytes=facts.buffer_bytes,
        buffer_error=facts.buffer_err,
    )


def why_refused(error: int, disabled: int | None, seccomp: int | None) -> str:
    """Say in a phrase why the kernel refuses a ring.

    Args:
        error: errno of the refusal.
        disabled: kernel.io_uring_disabled, None where the kernel has no such setting (before 6.6).
        seccomp: mode of /proc/self/status, None if unknown; 2 is a filter.
    """
    if error == errno.EPERM and disabled:
        return f"kernel.io_uring_disabled is {disabled}"
    if error in (errno.EPERM, errno.ENOSYS, errno.EACCES) and seccomp == 2:
        return f"a seccomp filter, as containers have it, forbids it ({os.strerror(error)})"
    if error == errno.ENOSYS:
        return "the kernel has no io_uring"
    if error == errno.ENOMEM:
        return "not enough memory, or RLIMIT_MEMLOCK is too small"
    return os.strerror(error)


@dataclass(frozen=True)
class Filesystem:
    """Say what is known of a filesystem without writing to it.

    Attributes:
        kind: its type as mount names it ("ext4", "fuse.sshfs").
        device: what is mounted, as /proc/self/mountinfo has it.
        mount_point: where.
        options: mount options and those of the filesystem itself.
        dev: major << 32 | minor of the directory; equal for two paths on the same filesystem,
            except for subvolumes of btrfs, whose `device` is equal.
        total_inodes: 0 where inodes are made as needed.
        has_birth_time: statx reports one.
        direct_known: the kernel reported the alignment (6.1 and later, for a regular file).
        direct_memory_bytes: alignment of memory for O_DIRECT, 0: not possible on this file.
        direct_offset_bytes: alignment of offset and length.
    """

    kind: str
    magic: int
    device: str
    mount_point: str
    options: tuple[str, ...]
    dev: int
    block_bytes: int
    total_bytes: int
    free_bytes: int
    total_inodes: int
    free_inodes: int
    name_max: int
    has_birth_time: bool
    direct_known: bool
    direct_memory_bytes: int
    direct_offset_bytes: int

    @property
    def read_only(self) -> bool:
        """Tell whether it is mounted read-only."""
        return "ro" in self.options

    def same_as(self, other: Filesystem) -> bool:
        """Tell whether both are one filesystem, so that files of one can be cloned in the other.

        Subvolumes of btrfs have device numbers of their own: there the mounted device decides.
        """
        if self.dev == other.dev:
            return True
        return self.kind == other.kind == "btrfs" and self.device == other.device


def probe_filesystem(fd: int) -> Filesystem:
    """Return the facts of the filesystem that an open descriptor (O_PATH is enough) is on."""
    facts = ffi.new("struct ar_fs_facts *")
    _check(lib.ar_probe_fs(fd, facts))
    mount = find_mount(facts.mount_id, facts.dev)
    return Filesystem(
        kind=mount.kind if mount else _MAGIC_NAMES.get(facts.magic, f"{facts.magic:#x}"),
        magic=facts.magic,
        device=mount.device if mount else "",
        mount_point=os.fsdecode(mount.point) if mount else "",
        options=mount.options if mount else (),
        dev=facts.dev,
        block_bytes=facts.block_bytes,
        total_bytes=facts.total_bytes,
        free_bytes=facts.free_bytes,
        total_inodes=facts.total_inodes,
        free_inodes=facts.free_inodes,
        name_max=facts.name_max,
        has_birth_time=bool(facts.has_btime),
        direct_known=bool(facts.dio_known),
        direct_memory_bytes=facts.dio_memory,
        direct_offset_bytes=facts.dio_offset,
    )


def _check(result: int) -> None:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
