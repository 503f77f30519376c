"""Decide whether what only the destination has may be deleted, before the first of it is.

Owns the limits and the reasons against, with their sentences. It looks at nothing and deletes
nothing: what goes, and in which order, stands in the spool of extras.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from arsync.errors import quoted
from arsync.figures import counted
from arsync.options import DeletePolicy

__all__ = ["Found", "why_kept", "without_limits"]


@dataclass(frozen=True)
class Found:
    """Hold what is known when all extras are found and none is deleted.

    Args:
        src: the source root as the user wrote it.
        extra: how many entries would go.
        entries: names in the directories of the destination that were looked through.
        is_empty: nothing at all was found in the source.
        had_read_errors: something of it could not be looked at.
    """

    src: bytes
    extra: int
    entries: int = 0
    is_empty: bool = False
    had_read_errors: bool = False


def why_kept(policy: DeletePolicy, found: Found) -> str:
    """Return why none of the extras may be deleted, as a sentence; empty where they may.

    Args:
        policy: what the user asked for.
    Source: rsync(1), --delete, --ignore-errors and --max-delete; unlike rsync, which stops at the
        limit, nothing is deleted above it.
    """
    if not found.extra:
        return ""
    entries = counted(found.extra, "entry", "entries")
    if policy.wanted and found.had_read_errors and not policy.ignore_errors:
        return (
            f"not all of SRC could be read: {entries} of DST not deleted "
            "(--ignore-errors deletes all the same)"
        )
    if policy.wanted and found.is_empty and not policy.allow_empty_source:
        return (
            f"SRC {quoted(found.src)} is empty: {entries} of DST not deleted "
            "(--allow-empty-source deletes all the same)"
        )
    for most, limit in _limits(policy, found.entries):
        if found.extra > most:
            return f"{entries} of DST not deleted: the limit is --max-delete={limit}"
    return ""


def without_limits(policy: DeletePolicy) -> DeletePolicy:
    """Return the same policy for what has been judged by its limits."""
    return replace(policy, max_delete=None, max_percent=None)


def _limits(policy: DeletePolicy, entries: int) -> Iterator[tuple[int, str]]:
    if policy.max_delete is not None:
        yield policy.max_delete, str(policy.max_delete)
    if policy.max_percent is not None:
        most = entries * policy.max_percent // 100
        yield most, f"{policy.max_percent}%, which is {most} of {entries}"
