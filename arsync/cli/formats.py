"""Check the escapes of --out-format and --log-file-format before a run starts.

Owns which of rsync's escapes mean something on one machine. Filling them is report.py's.
"""

from __future__ import annotations

import re

from arsync.errors import UsageError

__all__ = ["LOG_FORMAT", "check_format"]

LOG_FORMAT = "%i %n%L"
"""What --log-file writes for each change where --log-file-format says nothing else."""

HONOURED = "BCGLMUbfilnopt"
DAEMON_ONLY = "aPhmu"
_ESCAPE = re.compile(r"%('*)(-?\d*)(.?)", re.DOTALL)


def check_format(text: str, option: str) -> str:
    """Return the format when every escape in it can be filled.

    Args:
        text: the format, with rsync's escapes: `%n`, `%-30n`, `%'l`.
        option: the option's name, for the message.
    Raises: UsageError that names the escape.
    Source: rsyncd.conf(5), log format.
    """
    for match in _ESCAPE.finditer(text):
        letter = match[3]
        if letter in HONOURED and letter:
            continue
        if letter and letter in DAEMON_ONLY:
            raise UsageError(f"{option}: {match[0]!r} is about rsync's daemon; arsync is local")
        if letter == "c":
            raise UsageError(f"{option}: '%c' is about block checksums; arsync copies files whole")
        if letter != "%":
            raise UsageError(f"{option}: {match[0]!r} is no escape (there are {_known()})")
    return text


def _known() -> str:
    return " ".join(f"%{letter}" for letter in sorted(HONOURED, key=str.lower))
