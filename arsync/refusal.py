"""Say why the destination takes no more: which file, which filesystem, and what of it ran out.

Owns the sentence that ends such a run. It looks at the filesystems at that moment, when what was
half written is gone again: a full one may show some room.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import Final

from arsync.errors import quoted
from arsync.figures import grouped, size
from arsync.model import Failure, Op, Problem
from arsync.wording import advice_for, joined, sentence

__all__ = ["refusal_text"]

_NEEDS_INODE: Final = frozenset({Op.CREATE, Op.MKDIR, Op.MKNOD, Op.SYMLINK})
_IN_TEMP_DIR: Final = frozenset({Op.CREATE, Op.WRITE, Op.ALLOCATE, Op.TRUNCATE, Op.COPY_RANGE})


def refusal_text(problem: Problem, dst: bytes, temp_dir: bytes | None = None) -> str:
    """Return the sentence for what could not be written.

    Args:
        problem: of the destination's side, with the errno.
        dst: the destination's root as the user wrote it.
        temp_dir: of --temp-dir, as it can be opened.
    """
    path, _, op, side, error = problem
    failure = Failure(path, op, error, side, dst)
    text = sentence(failure)
    if error == errno.ENOSPC:
        with suppress(OSError):
            text += f": {_what_is_full(Op(op), joined(dst, path), temp_dir)}"
    return f"{text}; {advice_for(failure)}"


def _what_is_full(op: Op, path: bytes, temp_dir: bytes | None) -> str:
    place, whose = _nearest_directory(path), ""
    found = os.statvfs(place)
    if temp_dir is not None and op in _IN_TEMP_DIR:
        temp = os.statvfs(temp_dir)
        if temp.f_bavail * temp.f_frsize < found.f_bavail * found.f_frsize:
            place, whose, found = temp_dir, " (--temp-dir)", temp
    of = f"the filesystem of {quoted(place)}{whose}"
    # shares, because what was half written has been removed: neither need be 0
    if op in _NEEDS_INODE and found.f_favail * found.f_blocks < found.f_bavail * found.f_files:
        free, whole = grouped(found.f_favail, 1), grouped(found.f_files, 1)
        return f"{of} has no inodes left ({free} of {whole} are free)"
    free, whole = (size(count * found.f_frsize, 1) for count in (found.f_bavail, found.f_blocks))
    return f"{of} has no room for it ({free} of {whole} are free)"


def _nearest_directory(path: bytes) -> bytes:
    """Return the directory that a path is in, or the nearest one above it that is there."""
    above = os.path.dirname(path)
    while above and not os.path.isdir(above):
        above = os.path.dirname(above)
    return above or b"."
