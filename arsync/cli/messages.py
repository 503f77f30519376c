"""Sentences on standard error, and the version.

Owns the prefix `arsync: ` and the rule that no control character of a name reaches a terminal.
"""

from __future__ import annotations

import sys
import traceback

from arsync.errors import InternalError, escaped

__all__ = ["say", "say_bug", "show_version"]


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

    print(f"arsync {__version__}")
    return 0
