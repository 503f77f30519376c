"""Order the work: no directory before its parent, hard links after their first names.

Owns the phases of a run and which batch waits for which. A batch is a unit of work that is ready
when the batches holding the parents of its directories have been executed. What waits for the whole
tree is not held in memory: it is spooled, and comes back as batches of a later phase.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field

from arsync.model import COPY_PHASE
from arsync.uring.batch import Batch

__all__ = ["Phase", "Plan", "Unit"]


class Phase(enum.Enum):
    """Name what a batch is for; the value is what people read.

    COPY runs while the tree is walked. LINK begins when every first name of a hard-linked file is
    in place, DELETE when everything is copied, or before anything is, FINISH when nothing more will
    be written into any directory, REMOVE when every source is done and on the disk.
    """

    COPY = COPY_PHASE
    LINK = "hard links"
    DELETE = "deletions"
    FINISH = "directory times"
    REMOVE = "removal from SRC"


@dataclass(eq=False, slots=True)
class Unit:
    """Hold a batch and how far it is.

    Attributes:
        before: how many units must have been executed before it can begin.
        waiting: units that this one is before.
        pending: pieces of its big files that are still to be done, 1 for the batch itself.
    """

    batch: Batch
    phase: Phase
    before: int = 0
    pending: int = 1
    waiting: list[Unit] = field(default_factory=list)


class Plan:
    """Keep the order between units; not thread-safe, its owner has a lock."""

    def __init__(self) -> None:
        self._open: dict[Batch, Unit] = {}

    def add(self, batch: Batch, parents: Sequence[Batch], phase: Phase) -> tuple[Unit, bool]:
        """Take a batch in.

        Args:
            parents: hold the parents of its directories; one that was executed counts no more, one
                that is named twice counts once.
        Returns: its unit, and whether it can begin at once.
        """
        unit = Unit(batch, phase)
        self._open[batch] = unit
        for parent in dict.fromkeys(parents):  # one batch may be named twice
            before = self._open.get(parent)
            if before:
                before.waiting.append(unit)
                unit.before += 1
        return unit, not unit.before

    def executed(self, unit: Unit) -> list[Unit]:
        """Note that a unit's directories are in place; return those that can begin now."""
        del self._open[unit.batch]
        for after in unit.waiting:
            after.before -= 1
        return [after for after in unit.waiting if not after.before]
