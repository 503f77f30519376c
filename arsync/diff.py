"""Compare the two sides of a batch: which entries change, how, and why.

The stage between scan and plan. It is pure: it reads rows, touches no file, and the same batch and
rules always give the same changes. The loop over the rows is C (`uring/src/diff.c`), the words for
its result are `arsync.model.Kind` and `arsync.model.Why`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arsync.uring import Batch, Rules

__all__ = ["diff"]


def diff(batch: Batch, rules: Rules) -> None:
    """Fill a scanned batch with its changes, the directories to scan next, and what is left out.

    Args:
        batch: as the scan filled it, and not compared yet.
        rules: what decides equality.
    Raises: OutOfMemoryError.
    Source: rsync(1); its quick check (size and mtime) says whether content is equal.
    """
    batch.compare(rules)
