"""Make a plan again and say how it differs from the one in a file.

Owns the check before a plan is executed. That two plans are the same is seen by their digests, in
no memory; only where they are not is the plan made a third time, and both sorted in temporary
files to name what differs.
"""

from __future__ import annotations

import heapq
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import groupby
from operator import itemgetter
from typing import IO, Any, Final, NamedTuple

from arsync.errors import FileError
from arsync.itemize import escape_name
from arsync.listener import Listener
from arsync.model import Change, Progress
from arsync.planfile.header import Header, as_dry_run
from arsync.planfile.lines import Digest, EntryLines, PlanFile
from arsync.planfile.values import name_of
from arsync.sync import sync

__all__ = ["Difference", "Sorter", "differences", "is_current", "plan_again"]

_MOST_LINES: Final = 50_000
"""Kept in memory at a time, about 30 MB."""

_PLANNED, _NOW = range(2)


class Difference(NamedTuple):
    """Hold one entry of which two plans say different things.

    Args:
        path: below the source root.
        how: "changed", "new" where only the plan of now has it, "gone" where only the older one.
        src, dst: which numbers of stat differ on each side; "missing" or "new" where only one of
            the plans has seen it there.
        action: what is done, or why, differs too.
    """

    path: bytes
    how: str
    src: tuple[str, ...] = ()
    dst: tuple[str, ...] = ()
    action: bool = False

    def __str__(self) -> str:
        """Say it in a line: `changed  a/b (SRC: mtime, size; DST: missing)`."""
        parts = [
            f"{name}: {', '.join(numbers)}"
            for name, numbers in (("SRC", self.src), ("DST", self.dst))
            if numbers
        ]
        if self.action:
            parts.append("what is to be done")
        if self.how != "changed":
            parts = [_MEANING[self.how]]
        return f"{self.how:<8} {escape_name(self.path)} ({'; '.join(parts)})"


_MEANING: Final = {"new": "not in the plan", "gone": "nothing is to be done any more"}


Tell = Callable[[Progress], None]
"""Hears how far a dry run is; None where nobody does."""


def is_current(plan: PlanFile, tell: Tell | None = None) -> bool:
    """Tell whether a plan made now is the same.

    Raises: as sync does.
    """
    digest = Digest()
    plan_again(plan.header, digest.add, tell)
    return digest == plan.digest


def differences(plan: PlanFile, tell: Tell | None = None) -> Iterator[Difference]:
    """Look again, and yield what differs between a plan and one that is made now.

    Raises: as sync does; FileError.
    """
    planned, now = Sorter(), Sorter()
    for line in plan.lines():
        planned.add(line)
    plan_again(plan.header, now.add, tell)
    return compare(planned, now)


def plan_again(header: Header, add: Callable[[bytes], None], tell: Tell | None = None) -> None:
    """Make the plan of a header, and give each of its lines to `add`.

    Raises: as sync does.
    """
    lines = EntryLines(header)

    def take(changes: Iterator[Change], root: bytes) -> None:
        for line in lines.of(changes, root):
            add(line.encode())

    listener = Listener(changes=take, stats=True, removals=True, progress=tell)
    sync(header.operands, header.destination.path, as_dry_run(header.options), listener=listener)


# ------------------------------------------------------------------- comparing


def compare(planned: Iterable[bytes], now: Iterable[bytes]) -> Iterator[Difference]:
    """Yield what differs between two sequences of sorted lines."""
    for (path, _), entries in groupby(_only_in_one(planned, now), key=_place_of):
        yield _difference(path, entries)


_Entry = dict[str, Any]


def _only_in_one(planned: Iterable[bytes], now: Iterable[bytes]) -> Iterator[tuple[_Entry, int]]:
    sides = ((line, _PLANNED) for line in planned), ((line, _NOW) for line in now)
    for line, group in groupby(heapq.merge(*sides), key=itemgetter(0)):
        held_by = [side for _, side in group]
        if len(held_by) == 1:
            yield json.loads(line), held_by[0]


def _place_of(found: tuple[_Entry, int]) -> tuple[bytes, bytes]:
    entry, _ = found
    return name_of(entry, "path"), name_of(entry, "source") if "source" in entry else b""


def _difference(path: bytes, entries: Iterable[tuple[_Entry, int]]) -> Difference:
    """Compare what both plans say of one path; what is displaced there has an entry of its own."""
    sides: tuple[dict[str, _Entry], dict[str, _Entry]] = {}, {}
    for entry, held_by in entries:
        sides[held_by][entry["kind"]] = entry
    planned, now = sides
    if not planned or not now:
        return Difference(path, "gone" if planned else "new")
    differ: dict[str, set[str]] = {"src": set(), "dst": set()}
    for kind in planned.keys() | now.keys():
        before = planned.get(kind) or next(iter(planned.values()))
        after = now.get(kind) or next(iter(now.values()))
        for side, names in differ.items():
            names |= set(_numbers(before[side], after[side]))
    src, dst = (tuple(sorted(names)) for names in differ.values())
    return Difference(path, "changed", src, dst, _actions(planned) != _actions(now))


def _actions(entries: dict[str, _Entry]) -> list[tuple[Any, ...]]:
    return sorted(
        (kind, one["reasons"], one.get("link", ""), one.get("link_b64", ""))
        for kind, one in entries.items()
    )


def _numbers(before: _Entry | None, after: _Entry | None) -> Iterator[str]:
    if before is None or after is None:
        if before is not after:
            yield "missing" if before else "new"
        return
    yield from (name.removesuffix("_ns") for name in before if before[name] != after[name])


class Sorter:
    """Sort lines in temporary files: memory does not grow with their number.

    Args:
        most: lines in memory at a time.
    """

    def __init__(self, most: int = _MOST_LINES) -> None:
        self._most = most
        self._lines: list[bytes] = []
        self._runs: list[IO[bytes]] = []

    def add(self, line: bytes) -> None:
        """Add a line, which ends with a newline.

        Raises: FileError when the disk of the temporary files is full.
        """
        self._lines.append(line)
        if len(self._lines) >= self._most:
            self._write_run()

    def __iter__(self) -> Iterator[bytes]:
        """Yield all lines in order, once."""
        self._lines.sort()
        for file in self._runs:
            file.seek(0)
        yield from heapq.merge(self._lines, *self._runs)

    def _write_run(self) -> None:
        file = None
        try:
            file = tempfile.TemporaryFile()  # noqa: SIM115 - read until the end
            file.writelines(sorted(self._lines))
            file.flush()
        except OSError as error:
            if file:
                with suppress(OSError):
                    file.close()
            raise FileError(
                f"cannot keep a temporary file in '{tempfile.gettempdir()}': "
                f"{os.strerror(error.errno or 0)} (TMPDIR selects another directory)"
            ) from None
        self._runs.append(file)
        self._lines = []
