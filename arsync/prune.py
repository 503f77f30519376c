"""Hold directories back until something is found below them: --prune-empty-dirs in a walk.

Owns which directories wait, and for what. The walk goes on below a directory that waits; when it
comes to an entry that is no directory, those above it are handed on first, the topmost before the
others. A directory that nobody ever asks for is forgotten with the last of its subdirectories.

Source: rsync(1), --prune-empty-dirs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from arsync.uring.batch import Batch, Pruned

__all__ = ["Held", "Pruner"]

Receiver = Callable[[Batch, Sequence[Batch]], None]


@dataclass(eq=False, slots=True)
class Held:
    """Hold a directory that waits.

    Attributes:
        batch: it alone.
        above: its parent, where that waits too.
        parents: batches whose directories must be there before it.
        is_free: something was found below it.
    """

    batch: Batch
    above: Held | None
    parents: Sequence[Batch]
    is_free: bool = False


class Pruner:
    """Take directories without entries out of batches and give them back when they have some.

    Any thread may call.

    Args:
        receive: gets the directories that need not wait any more.
        is_protected: tells of a path below the root whether a rule keeps the directory there.
    """

    def __init__(self, receive: Receiver, is_protected: Callable[[bytes], bool]) -> None:
        self._receive = receive
        self._is_protected = is_protected
        self._lock = threading.Lock()

    def hold(
        self, batch: Batch, above: Sequence[Held | None], parents: Sequence[Batch]
    ) -> tuple[list[Held | None], list[Batch]]:
        """Take out of a compared batch the directories that wait; free those above the others.

        Args:
            above: what the parent of each of the batch's directories waits as.
            parents: batches whose directories must be there before.
        Returns: what waits at each of the batch's directories; further batches that must be there
            before this one, and have been handed on.
        """
        held: list[Held | None] = []
        freed: list[Batch] = []
        for pair, (found, over) in enumerate(zip(batch.look_for_entries(), above, strict=True)):
            if found is Pruned.NEITHER:
                held.append(over)
            elif found is Pruned.BARE and not self._is_protected(batch.path(pair)):
                held.append(Held(batch.take_directory(pair), over, parents))
            else:
                held.append(None)
                if over:
                    self._free(over)
                    freed.append(over.batch)
        return held, freed

    def _free(self, held: Held) -> None:
        with self._lock:
            chain: list[Held] = []
            one: Held | None = held
            while one and not one.is_free:
                chain.append(one)
                one = one.above
            for one in reversed(chain):
                one.is_free = True
                before = [one.above.batch] if one.above else []
                self._receive(one.batch, [*one.parents, *before])
