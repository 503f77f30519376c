"""What is printed: text on standard output, sentences on standard error, the version.

Owns the prefix `arsync: `, the rule that no control character of a name in a message reaches a
terminal, and what becomes of output that cannot be written: it ends a command that is there to
print, and never a copy.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from arsync.errors import FileError, InternalError, escaped

__all__ = [
    "StandardOutput",
    "drop_output",
    "flush_told",
    "open_missing_streams",
    "say",
    "say_bug",
    "show",
    "show_version",
    "tell",
    "use_utf8",
]


def show(text: str) -> None:
    """Print text on standard output, as it is.

    Raises: FileError when it cannot be written; BrokenPipeError when nobody reads it any more.
    """
    with _output_errors():
        sys.stdout.write(text)


def tell(text: str) -> None:
    """Print text of a copy that goes on whatever becomes of standard output, as rsync's does.

    What cannot be written is said once; this and all that follows goes nowhere.
    """
    with _output_lost():
        sys.stdout.write(text)


def flush_told() -> None:
    """Pass on what was told; a failure is no other than that of `tell`."""
    with _output_lost():
        sys.stdout.flush()


class StandardOutput:
    """Be standard output for those who want a stream; failures are those of `tell`."""

    def write(self, text: str, /) -> None:
        """Tell text."""
        tell(text)

    def flush(self) -> None:
        """Pass on what was told."""
        flush_told()


def drop_output() -> None:
    """Point standard output at nothing, where what it still holds goes too."""
    null_fd = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(null_fd, sys.stdout.fileno())
    os.close(null_fd)


@contextmanager
def _output_errors() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise FileError(f"cannot write to standard output: {error.strerror}") from None


@contextmanager
def _output_lost() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        drop_output()
        say(f"cannot write to standard output: {error.strerror}; copying goes on")


def open_missing_streams() -> None:
    """Open what the caller has closed of the descriptors 0, 1 and 2.

    A file of the copy would get such a number, and what is printed would end up in it. Standard
    output is opened for reading, so that writing to it fails as it does when closed.
    """
    for stream_fd, flags in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_RDWR)):
        try:
            os.fstat(stream_fd)
        except OSError:
            os.open(os.devnull, flags)  # the lowest free number, which is this one
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - lives as long as the process
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


def use_utf8() -> None:
    """Print names as the bytes they are, whatever the locale says of characters."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")


def say(text: str) -> None:
    """Print one line on standard error; where nobody takes it, nobody can be told."""
    with suppress(OSError):
        print(f"arsync: {escaped(text)}", file=sys.stderr, flush=True)


def say_bug(error: BaseException) -> int:
    """Print a traceback and what to do with it.

    Returns: the exit code of a bug.
    """
    lines = "".join(traceback.format_exception(error)).splitlines()
    with suppress(OSError):
        print("\n".join(map(escaped, lines)), file=sys.stderr)
    say("this is a bug in arsync; please report it with the lines above")
    return InternalError.exit_code


def show_version() -> int:
    """Print the version.

    Returns: 0.
    """
    from arsync import __version__

    show(f"arsync {__version__}\n")
    return 0
