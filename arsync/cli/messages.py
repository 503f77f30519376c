"""What is printed: text on standard output, sentences on standard error, the version.

Owns the prefix `arsync: `, the rule that no control character of a name in a message reaches a
terminal, and that output which cannot be written ends the run.
"""

from __future__ import annotations

import io
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from arsync.errors import FileError, InternalError, escaped

__all__ = [
    "StandardOutput",
    "flush_shown",
    "say",
    "say_bug",
    "show",
    "show_version",
    "use_utf8",
]


def show(text: str) -> None:
    """Print text on standard output, as it is.

    Raises: FileError when it cannot be written; BrokenPipeError when nobody reads it any more.
    """
    with _output_errors():
        sys.stdout.write(text)


def flush_shown() -> None:
    """Pass on what was shown.

    Raises: as `show`.
    """
    with _output_errors():
        sys.stdout.flush()


class StandardOutput:
    """Be standard output for those who want a stream; failures end the run as with `show`."""

    def write(self, text: str, /) -> None:
        """Show text."""
        show(text)

    def flush(self) -> None:
        """Pass on what was shown."""
        flush_shown()


@contextmanager
def _output_errors() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise FileError(f"cannot write to standard output: {error.strerror}") from None


def use_utf8() -> None:
    """Print names as the bytes they are, whatever the locale says of characters."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")


def say(text: str) -> None:
    """Print one line on standard error."""
    print(f"arsync: {escaped(text)}", file=sys.stderr, flush=True)


def say_bug(error: BaseException) -> int:
    """Print a traceback and what to do with it.

    Returns: the exit code of a bug.
    """
    lines = "".join(traceback.format_exception(error)).splitlines()
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
