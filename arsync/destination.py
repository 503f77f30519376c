"""Open what a run writes to: the destination's root, made where it is missing, and --temp-dir."""

from __future__ import annotations

import os
from contextlib import ExitStack

from arsync.errors import FileError, UsageError, describe
from arsync.options import WritePolicy
from arsync.roots import Target
from arsync.uring.scanner import Root

__all__ = ["open_target", "open_temp_dir"]


def open_target(target: Target, write: WritePolicy) -> Root | None:
    """Open the destination, made where it is missing; None in a dry run that would make it.

    Raises: FileError.
    """
    if write.dry_run and target.missing:
        return None
    if target.missing and write.mkpath:
        _make_path(target.root)
    return Root(target.root, create=target.missing)


def _make_path(path: bytes) -> None:
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise FileError(describe("make the destination", path, error.errno or 0)) from None


def open_temp_dir(path: bytes | None, stack: ExitStack) -> int:
    """Open the directory of --temp-dir until the stack ends; -1 for None.

    Raises: UsageError.
    """
    if path is None:
        return -1
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        reason = describe("use the directory", path, error.errno or 0)
        raise UsageError(f"--temp-dir: {reason}") from None
    stack.callback(os.close, fd)
    return fd
