"""The exceptions that end a run, each with the exit code the command returns for it.

Owns the exception tree, the exit codes (rsync's numbers up to 30, arsync's own from 40) and the
way a name is quoted in a message. It must not know where a message is printed.

A file's failure is a value in its batch and never raised; what is raised here ends the run.
Messages are lower case, without a full stop: what failed first, the subject quoted, errno's text,
then what to do.
"""

from __future__ import annotations

import os
from typing import ClassVar

__all__ = [
    "ArsyncError",
    "DeleteLimitError",
    "FileError",
    "InternalError",
    "Interrupted",
    "LockHeldError",
    "ManifestCorruptError",
    "ManifestError",
    "NotSupportedError",
    "OutOfMemoryError",
    "PartialTransferError",
    "PlanFileError",
    "SelectionError",
    "StalePlanError",
    "StalledError",
    "UsageError",
    "VanishedError",
    "VerifyError",
    "describe",
    "escaped",
    "exit_codes",
    "quoted",
]


class ArsyncError(Exception):
    """Be the base of every failure that ends a run.

    `report` is the model.Report of what was done until then, where a run had begun.
    """

    report: object | None = None
    exit_code: ClassVar[int] = 70
    meaning: ClassVar[str] = "a bug in arsync"


class UsageError(ArsyncError):
    """Say that the command line or an option's value makes no sense."""

    exit_code = 1
    meaning = "usage error"


class SelectionError(ArsyncError):
    """Say that SRC or DST cannot be used as asked: missing, the same, or inside one another."""

    exit_code = 3
    meaning = "error selecting files: SRC or DST cannot be used"


class FileError(ArsyncError):
    """Say that reading or writing failed in a way that stops the run, as a full disk does."""

    exit_code = 11
    meaning = "file I/O error, a full disk too"


class Interrupted(KeyboardInterrupt):
    """Say that the run was stopped by a signal, with everything finished so far kept.

    It is a KeyboardInterrupt, so that `except Exception` in a caller does not swallow it.
    """

    report: object | None = None
    exit_code: ClassVar[int] = 20
    meaning: ClassVar[str] = "interrupted by a signal"


class OutOfMemoryError(ArsyncError):
    """Say that memory ran out."""

    exit_code = 22
    meaning = "out of memory"


class PartialTransferError(ArsyncError):
    """Say that some files or attributes were not transferred or could not be read."""

    exit_code = 23
    meaning = "some files or attributes were not transferred"


class StalePlanError(PartialTransferError):
    """Say that a plan does not fit what is there now, and that nothing was done."""


class VanishedError(ArsyncError):
    """Say that some source files vanished before they could be copied."""

    exit_code = 24
    meaning = "some source files vanished"


class DeleteLimitError(ArsyncError):
    """Say that nothing was deleted, because of a limit."""

    exit_code = 25
    meaning = "nothing was deleted: --max-delete, or an empty SRC"


class StalledError(ArsyncError):
    """Say that nothing moved for longer than the time allowed."""

    exit_code = 30
    meaning = "timeout"


class VerifyError(ArsyncError):
    """Say that verify found differences."""

    exit_code = 40
    meaning = "verify found differences"


class LockHeldError(ArsyncError):
    """Say that another run holds the lock."""

    exit_code = 41
    meaning = "another run holds the lock"


class ManifestError(ArsyncError):
    """Say that the manifest is damaged or of another version."""

    exit_code = 42
    meaning = "the manifest, or a plan, is damaged or of another version"


class ManifestCorruptError(ManifestError):
    """Say that bytes of the manifest are not what arsync wrote."""


class PlanFileError(ManifestError):
    """Say that a plan in a file is damaged or of another version."""


class NotSupportedError(ArsyncError):
    """Say that this machine or filesystem cannot do what was asked."""

    exit_code = 43
    meaning = "not supported here"


class InternalError(ArsyncError):
    """Say that a state was reached that cannot be; the message names both values."""

    exit_code = 70
    meaning = "a bug in arsync"


def exit_codes() -> dict[int, str]:
    """Return each exit code with its meaning, as the manual lists them.

    Returns: codes in rising order; 0 is there, 12 (rsync's protocol errors) is reserved and is not.
    """
    codes = {0: "success", Interrupted.exit_code: Interrupted.meaning}
    codes.update((kind.exit_code, kind.meaning) for kind in ArsyncError.__subclasses__())
    return dict(sorted(codes.items()))


def quoted(name: bytes | str | os.PathLike[str] | os.PathLike[bytes]) -> str:
    r"""Quote a name for a message, on one line whatever bytes it holds.

    Control characters and bytes that are not UTF-8 become `\#` and three octal digits, as rsync
    writes them, so a name can neither move the cursor nor pretend to be two messages.

    Args:
        name: a path as it came from the kernel or the command line.
    """
    return f"'{escaped(name)}'"


def escaped(name: bytes | str | os.PathLike[str] | os.PathLike[bytes]) -> str:
    """Escape a name as `quoted` does, without the quotes."""
    text = os.fsencode(name).decode("utf-8", "surrogateescape")
    return "".join(map(_escaped_char, text))


def describe(
    operation: str, name: bytes | str | os.PathLike[str] | os.PathLike[bytes], error: int
) -> str:
    """Say what failed, on which name, and why: `cannot open 'a/b': Permission denied`.

    Args:
        operation: a bare verb, "open" or "create the directory".
        name: the path it was tried on.
        error: an errno, positive or negative.
    """
    return f"cannot {operation} {quoted(name)}: {os.strerror(abs(error))}"


def _escaped_char(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, as surrogateescape keeps it
        return f"\\#{code - 0xDC00:03o}"
    # Latin-1's second control block moves cursors too; line separators break a log's lines.
    if code < 0x20 or 0x7F <= code < 0xA0 or char in "\u2028\u2029":
        return "".join(f"\\#{byte:03o}" for byte in char.encode())
    return char
