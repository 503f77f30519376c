"""What the commands about manifests share: --state-dir, the width of the terminal, files written.

Owns that a file given by -o is either whole or as it was before.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import click

from arsync.cli.messages import say, show
from arsync.errors import FileError, UsageError, describe
from arsync.manifest.lock import LockState
from arsync.manifest.places import STATE_VARIABLE, state_directory

__all__ = ["encoded", "reader_of", "say_if_held", "state_option", "terminal_width", "writer_to"]


def state_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option --state-dir; it gets `state`, a Path."""
    return click.option(
        "--state-dir",
        "state",
        metavar="DIR",
        type=click.Path(file_okay=False),
        callback=_resolved,
        help=f"Where manifests are kept; else ${STATE_VARIABLE}, else $XDG_STATE_HOME/arsync.",
    )(command)


def _resolved(_context: click.Context, _option: click.Parameter, value: str | None) -> Path:
    return state_directory(value)


def encoded(name: str) -> bytes:
    """Return an operand as the bytes that were given.

    Raises: UsageError for an empty one.
    """
    if not name:
        raise UsageError("an operand is empty (write . for the current directory)")
    return os.fsencode(name)


def terminal_width() -> int:
    """Return the columns of the terminal, 80 where there is none."""
    return shutil.get_terminal_size((80, 24)).columns


def say_if_held(lock: LockState) -> None:
    """Say that what is read may be behind what a run is doing."""
    if lock.is_held:
        say(f"a run is at it, what it has recorded so far is shown: {lock.holder or 'unknown'}")


@contextmanager
def reader_of(path: str) -> Iterator[Iterator[bytes]]:
    """Lend the lines of a file, or of standard input for `-`.

    Raises: FileError.
    """
    name = "standard input" if path == "-" else path
    try:
        with _source(path) as file:
            yield _lines(file, name)
    except OSError as error:
        raise FileError(describe("read", name, error.errno or 0)) from error


def _source(path: str) -> IO[bytes]:
    return open(0, "rb", closefd=False) if path == "-" else open(path, "rb")


def _lines(file: IO[bytes], name: str) -> Iterator[bytes]:
    try:
        yield from file
    except OSError as error:
        raise FileError(describe("read", name, error.errno or 0)) from error


@contextmanager
def writer_to(path: str | None) -> Iterator[Callable[[str], object]]:
    """Lend what writes text to a file, or to standard output for None and `-`.

    Durability: a regular file is on disk, under its name, when the block ends, and untouched where
    it ends with an exception.
    Raises: FileError; BrokenPipeError.
    """
    if path in (None, "-"):
        yield show
        return
    target = os.path.realpath(path or "")
    try:
        with _opened(target) as file:
            yield file.write
    except BrokenPipeError:
        raise
    except OSError as error:
        raise FileError(describe("write", target, error.errno or 0)) from error


@contextmanager
def _opened(target: str) -> Iterator[IO[str]]:
    if _is_special(target):
        with _text(target, "w") as file:
            yield file
        return
    directory, name = os.path.split(target)
    draft = os.path.join(directory, f".{name[:200]}.{secrets.token_hex(4)}")
    file = _text(draft, "x")
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.rename(draft, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(draft)
        raise


def _text(path: str, mode: str) -> IO[str]:
    return open(path, mode, encoding="utf-8", errors="surrogateescape", newline="\n")


def _is_special(path: str) -> bool:
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False
