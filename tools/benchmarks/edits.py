"""What is changed in a source between two runs; each edit has a number and none is made twice.

An edit of a file leaves its size: only its time tells that it was written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from .machine import MIB

BLOCK_BYTES = 64 * 1024
SHARE = 100
# Between two blocks that are written one after the other; no divisor of any file's size.
STRIDE_BYTES = 977 * MIB

Edit = Callable[[Path, int], None]
"""Change the source at a path, for the so-manieth time."""


def change_one_percent(root: Path, number: int) -> None:
    """Write into each hundredth file, each time into others."""
    for path in files_of(root)[number % SHARE :: SHARE]:
        _write_at(path, 0, 8)


def change_one(root: Path, number: int) -> None:
    """Write into one file."""
    files = files_of(root)
    _write_at(files[number * 7919 % len(files)], 0, 8)


def change_block(root: Path, number: int) -> None:
    """Write a block into the only file."""
    (path,) = files_of(root)
    most = os.path.getsize(path) - BLOCK_BYTES
    _write_at(path, number * STRIDE_BYTES % most, BLOCK_BYTES)


def rename_directory(root: Path, number: int) -> None:
    """Give the only directory another name."""
    (directory,) = root.iterdir()
    directory.rename(root / f"directory{number}")


def files_of(root: Path) -> Sequence[str]:
    """Return the regular files below a root, in an order that stays."""
    found: list[str] = []
    for path, directories, names in os.walk(root):
        directories.sort()
        paths = (os.path.join(path, name) for name in sorted(names))
        found += [one for one in paths if os.path.isfile(one) and not os.path.islink(one)]
    return found


def _write_at(path: str, offset: int, count: int) -> None:
    with open(path, "r+b", buffering=0) as file:
        os.pwrite(file.fileno(), os.urandom(count), offset)
