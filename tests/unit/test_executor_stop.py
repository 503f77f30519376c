"""The executor stopped in the middle: Ctrl-C, and what is left then."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from arsync import execute
from arsync.errors import Interrupted
from arsync.model import Op
from arsync.uring.faults import FOREVER, Action, fault
from tests.kit import Dir, File, HardLink, Pattern, Tree, assert_same, make
from tests.kit.syncing import interrupted_at, litter, run

MIB = 1 << 20


pytestmark = pytest.mark.usefixtures("no_litter")


def many_files(where: Path, big: bool) -> tuple[Path, Path]:
    """Make a source of some directories, and a big file if wanted."""
    src = where / "src"
    tree: dict[str, object] = {
        f"d{one}": {f"f{two}": File(Pattern(5000, two)) for two in range(40)} for one in range(20)
    }
    if big:
        tree = {"big": File(Pattern(40 * MIB))}
    make(Tree(tree), src)
    return src, where / "dst"


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("op", [Op.OPEN_DIR, Op.READ, Op.CREATE, Op.WRITE, Op.RENAME])
def test_interrupted(tmp_path: Path, engine: str, op: Op, big: bool) -> None:
    """KeyboardInterrupt, everything cleaned up, whole files only; the next run finishes it."""
    src, dst = many_files(tmp_path, big)
    skip = {Op.OPEN_DIR: 4, Op.CREATE: 0, Op.RENAME: 0}.get(op, 9) if big else 9
    with interrupted_at(op, skip=skip):
        ran = run(src, dst, engine=engine, copy_method="read_write")
    assert isinstance(ran.error, Interrupted)
    assert isinstance(ran.error, KeyboardInterrupt)
    assert (ran.code, ran.report.interrupted) == (20, True)
    assert litter(dst) == []
    whole = [path for path in dst.rglob("*") if path.is_file()]
    for path in whole:
        assert path.read_bytes() == (src / path.relative_to(dst)).read_bytes()
    assert ran.report.copied_files == len(whole)
    assert ran.report.copied_bytes == sum(path.stat().st_size for path in whole)
    again = run(src, dst, engine=engine)
    assert (again.code, again.error) == (0, None)
    assert_same(src, dst)


def test_interrupted_in_the_link_phase(tmp_path: Path, engine: str) -> None:
    """Names that are not linked yet are linked by the next run."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    names = {f"n{one}": HardLink(target="a") for one in range(5000)}
    make(Tree({"a": File(b"a"), **names}), src)
    with interrupted_at(Op.LINK, skip=5):
        ran = run(src, dst, engine=engine)
    assert ran.code == 20
    assert run(src, dst, engine=engine).code == 0
    assert_same(src, dst)


@pytest.mark.parametrize("big", [False, True])
def test_a_bandwidth_limit_does_not_hold_up_an_interrupt(
    tmp_path: Path, engine: str, big: bool
) -> None:
    """At a kilobyte a second the next turn is minutes away: the run ends at once all the same."""
    src, dst = many_files(tmp_path, big)
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    begin = time.monotonic()
    ran = run(src, dst, engine=engine, bwlimit_bytes=1024)
    assert ran.code == 20
    assert time.monotonic() - begin < 5


def test_the_walk_ends_with_the_lanes(
    tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When nothing more can be written, nobody walks the rest of the tree."""
    monkeypatch.setattr(execute, "_UNITS_UNDER_WAY", 2)
    src, dst = tmp_path / "src", tmp_path / "dst"
    deep = {b"/".join([b"d"] * depth): Dir() for depth in range(1, 301)}
    files = {path + b"/f": File(b"f") for path in deep}
    make(Tree.flat({**deep, **files}), src)
    with fault(Op.WRITE, Action.ERROR, errno.ENOSPC, count=FOREVER):
        ran = run(src, dst, engine=engine)
    assert ran.code == 11
    assert ran.report.counts.found_dirs < 301
    assert run(src, dst, engine=engine).code == 0
    assert_same(src, dst)


def test_a_lane_that_ends_badly_ends_the_run(tmp_path: Path, engine: str) -> None:
    """A full disk on one lane stops the others and the walk; a second run in the process works."""
    src, dst = many_files(tmp_path, big=False)
    with fault(Op.WRITE, Action.ERROR, errno.ENOSPC, skip=50, count=FOREVER):
        ran = run(src, dst, engine=engine)
    assert ran.code == 11
    assert litter(dst) == []
    assert run(src, dst, engine=engine).code == 0
    assert_same(src, dst)
