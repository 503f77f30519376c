"""What the measuring machine is, and what is asked of it before and between runs."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import BenchError

TMPFS = Path("/dev/shm")
MIB = 1024 * 1024
GIB = 1024 * MIB
RESERVE_BYTES = 1 * GIB

CLONE_NEWNS = 0x00020000
MS_REC = 0x4000
MS_PRIVATE = 1 << 18


@dataclass(frozen=True)
class Machine:
    """State the facts that every kept run carries."""

    kernel: str
    cpu: str
    cores: int
    memory_bytes: int

    def sentence(self) -> str:
        """Describe the machine in one line of a report."""
        memory = f"{self.memory_bytes / GIB:.0f} GiB"
        return f"{self.cores} cores ({self.cpu}), {memory} memory, Linux {self.kernel}"


def this_machine() -> Machine:
    """Read the facts from the kernel."""
    return Machine(
        kernel=platform.release(),
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=_meminfo("MemTotal"),
    )


def require_root() -> None:
    """Refuse to run without the rights to make filesystems.

    Raises:
        BenchError: the caller is not root.
    """
    if os.geteuid() != 0:
        raise BenchError(
            "the benchmarks make, mount and drop filesystems on loop devices: run them as root"
        )


def separate_mounts() -> None:
    """Give this process and its children a mount namespace of their own.

    Another process that makes a namespace (a container, a test) while a volume is mounted would
    otherwise keep a copy of the mount, and its device would stay in use after our umount. It also
    means that mounts vanish with this process however it ends.

    Raises:
        BenchError: the kernel refuses, as in a container without CAP_SYS_ADMIN.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    flags = ctypes.c_ulong(MS_REC | MS_PRIVATE)
    if libc.unshare(CLONE_NEWNS) or libc.mount(b"none", b"/", None, flags, None):
        reason = os.strerror(ctypes.get_errno())
        raise BenchError(f"cannot make a mount namespace: {reason}")


def require_memory(image_bytes: int, cached_bytes: int, purpose: str, place: Path) -> None:
    """Refuse a case whose images and cached source do not fit in memory, or images on their disk.

    Args:
        image_bytes: the images, which on tmpfs take pages that cannot be reclaimed.
        cached_bytes: the source as page cache; evicted, a warm run would not be warm.
        purpose: the case, for the message.
        place: where the images are.

    Raises:
        BenchError: the place or available memory is too small; the sentence holds both figures.
    """
    in_memory = image_bytes if is_in_memory(place) else 0
    needed = in_memory + cached_bytes + RESERVE_BYTES
    statvfs = os.statvfs(place)
    free = statvfs.f_bavail * statvfs.f_frsize
    available = _meminfo("MemAvailable")
    if free < image_bytes + RESERVE_BYTES or available < needed:
        raise BenchError(
            f"{purpose} needs {needed / GIB:.1f} GiB of memory, and {image_bytes / GIB:.1f} GiB "
            f"for images; available are {available / GIB:.1f} GiB, and {free / GIB:.1f} GiB where "
            "images go (--images puts them elsewhere)"
        )


def is_in_memory(place: Path) -> bool:
    """Tell whether a directory is on the tmpfs that images lie on."""
    return os.stat(place).st_dev == os.stat(TMPFS).st_dev


def drop_caches() -> None:
    """Make every clean page, dentry and inode of the machine cold."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


def user_seconds() -> float:
    """Return the time that all programs of the machine spent in user mode so far."""
    user, nice = Path("/proc/stat").read_text().split(None, 3)[1:3]
    return (int(user) + int(nice)) / os.sysconf("SC_CLK_TCK")


def swap_is_on() -> bool:
    """Tell whether tmpfs pages, and with them an image, could be swapped out."""
    return _meminfo("SwapTotal") > 0


def first_line(command: Sequence[str]) -> str:
    """Return the first line that a command prints, as versions are told; empty if it fails."""
    try:
        result = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    lines = result.stdout.splitlines()
    return " ".join(lines[0].split()) if lines else ""


def _meminfo(field: str) -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == field:
            return int(rest.split()[0]) * 1024
    raise BenchError(f"/proc/meminfo has no {field}")


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, model = line.partition(":")
        if name.strip() == "model name":
            return model.strip()
    return platform.machine()
