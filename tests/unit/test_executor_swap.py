"""Somebody swaps directories for symlinks while the executor works: it stays inside the roots."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.kit import Dir, File, HardLink, Symlink, Tree, make, read
from tests.kit.snapshot import Snapshot
from tests.kit.syncing import litter, run

SECONDS = 0.8
SECRET = b"secret"


@contextmanager
def meanwhile(step: Callable[[], None]) -> Iterator[None]:
    """Repeat a step in another process for as long as the block lasts."""
    pid = os.fork()
    if pid == 0:
        while os.getppid() != 1:
            step()
        os._exit(0)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def swapper(directory: Path, outside: Path) -> Callable[[], None]:
    """Return a step that puts a link to `outside` in the place of a directory, and ends that."""
    away, link = directory.with_name("away"), directory.with_name("link")
    if not link.is_symlink():
        link.symlink_to(outside)

    def swap() -> None:
        for one, two in (
            (directory, away),
            (link, directory),
            (directory, link),
            (away, directory),
        ):
            try:
                os.rename(one, two)
            except OSError:
                return put_back()
        time.sleep(0.0001)

    def put_back() -> None:
        if directory.is_symlink():
            directory.unlink()
        if away.is_dir() and not directory.exists():
            os.rename(away, directory)
        if not link.is_symlink():
            link.symlink_to(outside)

    return swap


def tree(word: bytes) -> Tree:
    """Describe a directory with files, links and directories in it."""
    names = {f"f{one}": File(word * 20 + b"%d" % one, mode=0o640) for one in range(60)}
    deep = {f"g{one}": File(word * 3) for one in range(20)}
    links = {"h": HardLink(target="swapped/f1"), "s": Symlink(target="f2")}
    return Tree({"swapped": {**names, **links, "deep": Dir(deep, mode=0o755)}, "z": File(word)})


def until(deadline: float) -> Iterator[int]:
    """Count rounds until a moment."""
    number = 0
    while time.monotonic() < deadline:
        yield number
        number += 1


def test_nothing_outside_the_source_is_read(tmp_path: Path, engine: str) -> None:
    """A directory of SRC becomes a link to one of the same shape: nothing of that ever arrives."""
    src, outside = tmp_path / "src", tmp_path / "outside"
    make(tree(b"public"), src)
    make(tree(SECRET), outside)
    with meanwhile(swapper(src / "swapped", outside / "swapped")):
        for number in until(time.monotonic() + SECONDS):
            dst = tmp_path / f"dst{number % 5}"
            run(src, dst, engine=engine)
            for path in dst.rglob("*"):
                if path.is_file() and not path.is_symlink():
                    assert SECRET not in path.read_bytes(), path
            assert litter(dst) == []


def unmoved(snapshot: Snapshot) -> dict[bytes, tuple[object, ...]]:
    """Return what any access but reading would move."""
    return {
        path: (one.kind, one.mode, one.uid, one.mtime_ns, one.ctime_ns, one.content, one.xattrs)
        for path, one in snapshot.items()
    }


def test_nothing_outside_the_destination_is_written(tmp_path: Path, engine: str) -> None:
    """A directory of DST becomes a link: what it leads to is neither changed nor touched."""
    src, dst, outside = tmp_path / "src", tmp_path / "dst", tmp_path / "outside"
    make(tree(b"first"), src)
    make(tree(SECRET), outside)
    run(src, dst, engine=engine)
    before = unmoved(read(outside))
    with meanwhile(swapper(dst / "swapped", outside / "swapped")):
        for number in until(time.monotonic() + SECONDS):
            for path in (src / "swapped").rglob("[fg]*"):
                path.chmod(0o600 + number % 8)
                if number % 2:
                    path.write_bytes(b"%d" % number * 30)
            run(src, dst, engine=engine)
    assert unmoved(read(outside)) == before
