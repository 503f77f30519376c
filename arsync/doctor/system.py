"""Find out what the kernel and the limits of this process are.

Owns what /proc, the control groups and getrlimit tell. A file that is not there means that nothing
is known: no container has all of them.
"""

from __future__ import annotations

import os
import re
import resource
from dataclasses import dataclass
from pathlib import Path

__all__ = ["System", "examine_system"]

_UNLIMITED_BYTES = 1 << 60  # cgroup v1 writes "no limit" as a number of this size
_CAP_IPC_LOCK = 14


@dataclass(frozen=True)
class System:
    """Say what the kernel and the limits of this process are.

    Attributes:
        cores: that this process may use.
        memory_bytes: of the machine.
        cgroup_bytes: the smallest limit of the control groups, None: no limit.
        memlock_bytes: soft and hard RLIMIT_MEMLOCK, None: unlimited.
        descriptors: soft and hard RLIMIT_NOFILE, None: unlimited.
        ignores_memlock: CAP_IPC_LOCK: RLIMIT_MEMLOCK does not count.
        uring_disabled: kernel.io_uring_disabled, None where there is no such setting.
        seccomp: 0 off, 1 strict, 2 filtered, None: unknown.
        container: what says that this is a container, "" when nothing does.
    """

    kernel: str
    machine: str
    root: bool
    cores: int
    memory_bytes: int
    cgroup_bytes: int | None
    memlock_bytes: tuple[int | None, int | None]
    descriptors: tuple[int | None, int | None]
    ignores_memlock: bool
    uring_disabled: int | None
    seccomp: int | None
    container: str

    @property
    def version(self) -> tuple[int, int]:
        """Return the kernel's version, as far as two numbers tell it."""
        return _version(self.kernel)


def examine_system() -> System:
    """Return what is known of the kernel and this process's limits."""
    uname = os.uname()
    status = _read("/proc/self/status")
    return System(
        kernel=uname.release,
        machine=uname.machine,
        root=os.geteuid() == 0,
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        cgroup_bytes=_cgroup_bytes(),
        memlock_bytes=_limits(resource.RLIMIT_MEMLOCK),
        descriptors=_limits(resource.RLIMIT_NOFILE),
        ignores_memlock=bool((_status_field(status, "CapEff", 16) or 0) >> _CAP_IPC_LOCK & 1),
        uring_disabled=_number(_read("/proc/sys/kernel/io_uring_disabled")),
        seccomp=_status_field(status, "Seccomp", 10),
        container=_container(),
    )


def _version(release: str) -> tuple[int, int]:
    match = re.match(r"(\d+)\.(\d+)", release)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _limits(which: int) -> tuple[int | None, int | None]:
    soft, hard = resource.getrlimit(which)
    return (
        None if soft == resource.RLIM_INFINITY else soft,
        None if hard == resource.RLIM_INFINITY else hard,
    )


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text("utf-8", "surrogateescape")
    except OSError:
        return ""


def _number(text: str) -> int | None:
    return int(text) if text.strip().isdigit() else None


def _status_field(status: str, name: str, base: int) -> int | None:
    match = re.search(rf"^{name}:\s*([0-9a-fA-F]+)$", status, re.MULTILINE)
    return int(match[1], base) if match else None


def _cgroup_bytes() -> int | None:
    """Return the smallest memory limit on the way from this process's group to the root."""
    limits = [
        limit
        for line in _read("/proc/self/cgroup").splitlines()
        for limit in _cgroup_limits(*line.split(":", 2)[1:])
    ]
    return min(limits, default=None)


def _cgroup_limits(controllers: str, group: str) -> list[int]:
    if controllers == "":
        tops, file = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"], "memory.max"
    elif "memory" in controllers.split(","):
        tops, file = ["/sys/fs/cgroup/memory"], "memory.limit_in_bytes"
    else:
        return []
    inside = Path(group.lstrip("/"))
    found = [
        _number(_read(Path(top, part, file))) for top in tops for part in (inside, *inside.parents)
    ]
    return [limit for limit in found if limit is not None and limit < _UNLIMITED_BYTES]


def _container() -> str:
    marks = ("/.dockerenv", "/run/.containerenv", "/run/systemd/container")
    return next((mark for mark in marks if os.path.exists(mark)), "")
