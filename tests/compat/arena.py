"""Where both programs get the same world, run the same command in it, and must leave the same."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.kit import Entry, Snapshot, Tree, assert_same, make, read
from tests.kit.programs import Argument, Outcome, run_arsync, run_rsync
from tests.kit.snapshot import without_now

# What a world's entries have as their time when the literal says none: a time long ago.
LONG_AGO_NS = 1_000_000_000 * 10**9


@dataclass(frozen=True)
class Result:
    """Hold what both programs did: they agree on the exit code and on everything on disk."""

    rsync: Outcome
    arsync: Outcome
    world: Snapshot

    def __getitem__(self, path: str) -> Entry:
        return self.world[os.fsencode(path)]

    def __contains__(self, path: str) -> bool:
        return os.fsencode(path) in self.world


class Arena:
    """Run commands in two copies of one world.

    A world is a tree that holds a command's sources and destination, and its working directory.

    Args:
        place: an empty directory for both copies.
        engine: the engine that arsync uses.
    """

    def __init__(self, place: Path, engine: str) -> None:
        self.place = place
        self.engine = engine
        self.started_ns = time.time_ns()

    def run(
        self,
        world: Tree,
        *args: Argument,
        code: int = 0,
        as_nobody: bool = False,
        prepare: Callable[[Path], object] | None = None,
    ) -> Result:
        """Run one command by both programs, and compare exit code and world.

        Args:
            world: what is there before.
            args: the command line, paths relative to the world.
            code: the exit code that rsync gives.
            as_nobody: run both without root's rights.
            prepare: what a literal cannot say, done to each copy.

        Returns: what both did.
        """
        for name in ("rsync", "arsync"):
            make(world.at(LONG_AGO_NS), self.place / name)
            if prepare is not None:
                prepare(self.place / name)
        return self.run_again(*args, code=code, as_nobody=as_nobody)

    def run_again(self, *args: Argument, code: int = 0, as_nobody: bool = False) -> Result:
        """Run a further command where the last one left off, and compare as run() does."""
        rsync = run_rsync(args, cwd=self.place / "rsync", as_nobody=as_nobody)
        arsync = run_arsync(
            [f"--engine={self.engine}", *args], cwd=self.place / "arsync", as_nobody=as_nobody
        )
        assert rsync.code == code, f"rsync says: {rsync}"
        assert arsync.code == code, f"rsync says: {rsync}\narsync says: {arsync}"
        world = without_now(read(self.place / "rsync"), self.started_ns)
        assert_same(world, without_now(read(self.place / "arsync"), self.started_ns))
        return Result(rsync, arsync, world)

    def lines(self, world: Tree, *args: Argument) -> list[str]:
        """Run a command by both programs and return the lines that both print, sorted.

        The same lines are first asked for with -n, which must change nothing.
        """
        for name in ("rsync", "arsync"):
            make(world.at(LONG_AGO_NS), self.place / name)
        before = read(self.place / "arsync")
        dry = run_arsync(["-n", f"--engine={self.engine}", *args], cwd=self.place / "arsync")
        assert_same(before, self.place / "arsync", atimes=True, holes=True)
        result = self.run_again(*args)
        assert result.arsync.lines == result.rsync.lines
        assert dry.lines == result.rsync.lines
        return [os.fsdecode(line) for line in result.rsync.lines]
