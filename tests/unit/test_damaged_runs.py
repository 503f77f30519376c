"""Runs with a damaged manifest: each leaves equal trees, or ends with exit code 42; none dies."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from arsync.options import DeletePolicy, ManifestPolicy
from tests.kit import File, Symlink, Tree, assert_same, make
from tests.kit.damage import PAGE_BYTES, damaged
from tests.kit.syncing import run

DIRECTORIES = 24
CORRUPT = 42


class World:
    """Hold a source and a destination with a manifest that real runs have made.

    Args:
        place: an empty directory.
    """

    def __init__(self, place: Path) -> None:
        self.src, self.dst, self.state = place / "src", place / "dst", place / "state"
        tree: dict[str, object] = {
            f"d{number:02}": {
                "deep": {
                    "f": File(b"%d" % number),
                    "link": Symlink("f"),
                    **{f"name {index} of {number}" * 3: File(b"") for index in range(number)},
                }
            }
            for number in range(DIRECTORIES)
        }
        tree["many"] = {f"{index:04}": File(b"") for index in range(1100)}
        make(Tree(tree), self.src)  # type: ignore[arg-type]
        for _ in range(2):
            assert self.run_here() == 0
        (self.store,) = [one.parent for one in self.state.glob("*/destination.json")]
        self.data = self.store / "data.mdb"
        self.whole = self.data.read_bytes()
        self.round = 0
        self.child = Child(self.run_here)

    def run_here(self, *, trust: bool = False) -> int:
        """Run in this process; return the exit code."""
        policy = ManifestPolicy(state_dir=str(self.state), trust_dst=trust)
        delete = DeletePolicy(when="after")
        return run(self.src, self.dst, manifest=policy, delete=delete).code

    def run_with(self, content: bytes, *, trust: bool) -> str:
        """Change something on both sides and run in a child with this database.

        Returns: the exit code, the signal that killed it, or what is wrong with the result.
        """
        self.spoil(trust=trust)
        self.data.write_bytes(content)
        (self.store / "lock").write_bytes(b"")
        said = self.child.run(trust=trust)
        if said != str(CORRUPT):
            try:
                assert_same(self.src, self.dst)
            except AssertionError as error:
                return f"{said}: {error}"
        return said

    def spoil(self, *, trust: bool) -> None:
        """Change a file of the source, and what only a look at the destination finds."""
        self.round += 1
        first, second = self.round % DIRECTORIES, (self.round + 7) % DIRECTORIES
        (self.src / f"d{first:02}/deep/f").write_bytes(b"round %d" % self.round)
        if not trust:
            (self.dst / f"d{second:02}/deep/link").unlink(missing_ok=True)
            (self.dst / f"d{second:02}/extra").write_bytes(b"")


class Child:
    """Hold a process that runs when it is told to; one that has died of it is followed by another.

    Args:
        work: what it runs.
    """

    def __init__(self, work: Callable[..., int]) -> None:
        self._work = work
        self._pid = 0

    def run(self, *, trust: bool) -> str:
        """Return what the work returned, or the signal that killed the child."""
        if not self._pid:
            self._start()
        os.write(self._orders, b"t" if trust else b" ")
        said = os.read(self._answers, 100).decode()
        return said or self._ended()

    def stop(self) -> None:
        """End the child, if there is one."""
        if self._pid:
            self._ended()

    def _ended(self) -> str:
        os.close(self._orders)
        os.close(self._answers)
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        return f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "raised"

    def _start(self) -> None:
        orders, self._orders = os.pipe()
        self._answers, answers = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._orders)
            try:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                while order := os.read(orders, 1):
                    os.write(answers, str(self._work(trust=order == b"t")).encode())
            finally:
                os._exit(0)
        os.close(orders)
        os.close(answers)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """Lend a world in memory, where a barrier costs nothing."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    place = Path(tempfile.mkdtemp(prefix="arsync-test-damage-", dir=memory))
    try:
        world = World(place)
        yield world
        world.child.stop()
    finally:
        shutil.rmtree(place)


def test_a_whole_manifest_is_right(world: World) -> None:
    """What the others hold against damage works without any."""
    assert [world.run_with(world.whole, trust=trust) for trust in (False, True)] == ["0", "0"]


def test_truncation_at_every_page(world: World) -> None:
    """A database that lost its end is never taken for one that says nothing."""
    cuts = range(0, len(world.whole), PAGE_BYTES)
    said = Counter(world.run_with(world.whole[:cut], trust=bool(cut % 8192)) for cut in cuts)
    assert set(said) <= {"0", str(CORRUPT)}
    assert said[str(CORRUPT)] > len(cuts) // 2


def test_300_damaged_pages(world: World) -> None:
    """Damage of any page of a manifest that was closed well."""
    chance = Random(4711)
    said = Counter(
        world.run_with(damaged(world.whole, chance, index % 3), trust=index % 4 == 0)
        for index in range(300)
    )
    assert set(said) <= {"0", str(CORRUPT)}
    assert said[str(CORRUPT)] > 50
