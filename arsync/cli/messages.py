"""What is printed: text on standard output, sentences on standard error, the version.

Owns the prefix `arsync: `, the rule that no control character of a name in a message reaches a
terminal, and that output which cannot be written ends the run.
"""

from __future__ import annotations

import sys
import traceback

from arsync.errors import FileError, InternalError, escaped

__all__ = ["say", "say_bug", "show", "show_version"]


def show(text: str) -> None:
    """Print text on standard output, as it is.

    Raises: FileError when it cannot be written; BrokenPipeError when nobody reads it any more.
    """
    try:
        sys.stdout.write(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise FileError(f"cannot write to standard output: {error.strerror}") from None


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
