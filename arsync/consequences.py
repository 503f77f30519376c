"""Tell what went wrong from what merely follows from that.

Owns the memory of the directories that could not be made. It words nothing.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable

from arsync.model import Op, Problem, Side

__all__ = ["FailedDirectories"]


class FailedDirectories:
    """Know which directories could not be made, so that what is below them is not told again."""

    _MAKING = frozenset({Op.MKDIR, Op.OPEN_TARGET, Op.RENAME, Op.RMDIR})

    def __init__(self) -> None:
        self._paths: set[bytes] = set()

    def without_consequences(self, problems: Iterable[Problem]) -> list[Problem]:
        """Return the problems that are not the mere absence of such a directory."""
        told = []
        for problem in problems:
            if problem.side == Side.DST and problem.op in self._MAKING:
                if problem.op == Op.OPEN_TARGET and self._is_missing(problem):
                    continue
                self._paths.add(problem.path)
            told.append(problem)
        return told

    def _is_missing(self, problem: Problem) -> bool:
        if problem.errno != errno.ENOENT:
            return False
        parts = problem.path.split(b"/")
        return any(b"/".join(parts[:depth]) in self._paths for depth in range(1, len(parts) + 1))
