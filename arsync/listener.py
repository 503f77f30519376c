"""Who hears of a run while it goes on.

Owns what a caller is told and when. What is made of it, and where it is shown, is the caller's
business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from arsync.model import Change, Problem, Progress

__all__ = ["Listener"]


@dataclass(frozen=True, kw_only=True)
class Listener:
    """Say who wants to hear of a run; each call comes from one thread at a time.

    Args:
        changes: gets the changes of each batch when it is done, in a dry run when it is planned,
            and the source root as the user wrote it. A Python object is made for each of them:
            about 2 us a changed entry.
        problems: gets what went wrong in each batch, with the two roots as the user wrote them.
        progress: is called at most ten times a second, from a thread of its own.
        progress_of_changes: call it before the changes of each batch too, from their thread.
        stats: changes hold what was seen on each side; and what is in the way of a directory is
            one of its own, with Kind.DELETE and Why.TYPE.
        removals: in a dry run the changes have, at the end, what would leave the source, too.
    """

    changes: Callable[[Iterator[Change], bytes], None] | None = None
    problems: Callable[[Sequence[Problem], bytes, bytes], None] | None = None
    progress: Callable[[Progress], None] | None = None
    progress_of_changes: bool = False
    stats: bool = False
    removals: bool = False
