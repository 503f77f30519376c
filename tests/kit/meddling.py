"""What somebody else does to a file behind a run's back."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["rewrite", "touch"]


def touch(path: Path) -> None:
    """Move a file's ctime and nothing else."""
    path.chmod(path.stat().st_mode & 0o7777)


def rewrite(path: Path) -> None:
    """Write other bytes into a file and put its mtime back."""
    info = path.stat()
    path.write_bytes(bytes(info.st_size))
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
