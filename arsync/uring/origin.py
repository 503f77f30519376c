"""Ask a directory's descriptor where it is mounted, on what, and when the directory was made.

Owns nothing but the question; what makes two directories the same is the manifest's business.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from arsync.mounts import Mount, find_mount
from arsync.uring._native import ffi, lib

__all__ = ["Origin", "probe_origin"]


@dataclass(frozen=True)
class Origin:
    """Hold what statfs and statx say of a directory.

    Args:
        magic: type of the filesystem, as statfs(2) has it.
        mount: None where /proc does not say.
        born_ns: birth time, 0 where the filesystem keeps none.
    """

    magic: int
    mount: Mount | None
    born_ns: int


def probe_origin(fd: int) -> Origin:
    """Ask the descriptor of a directory.

    Raises: OSError.
    """
    facts = ffi.new("struct ar_fs_facts *")
    result = lib.ar_probe_fs(fd, facts)
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    born_ns = facts.btime_s * 10**9 + facts.btime_n if facts.has_btime else 0
    return Origin(facts.magic, find_mount(facts.mount_id, facts.dev), born_ns)
