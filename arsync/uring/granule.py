"""Find out how finely a filesystem keeps times, by giving a file one that no rounding leaves alone.

Owns that measurement and the granules there are. Which file it is done to, and what follows from a
coarse one, is the caller's business.
"""

from __future__ import annotations

import os
from typing import Final

__all__ = ["measure_granule_ns"]

_MOMENT_NS: Final = 1_600_000_001_123_456_789  # odd second, nine different digits
_GRANULES_NS: Final = (
    1,
    100,  # NTFS
    1_000,
    1_000_000,
    10_000_000,  # exFAT
    1_000_000_000,
    2_000_000_000,  # FAT
)


def measure_granule_ns(fd: int) -> int:
    """Return to how many nanoseconds the times of an open file are rounded, 0: unknown.

    The file's times are other ones afterwards.
    """
    try:
        os.utime(fd, ns=(_MOMENT_NS, _MOMENT_NS))
    except OSError:
        return 0
    kept_ns = os.fstat(fd).st_mtime_ns
    fitting = (unit for unit in _GRANULES_NS if _MOMENT_NS // unit * unit == kept_ns)
    return next(fitting, 0)
