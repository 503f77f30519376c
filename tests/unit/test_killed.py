"""A run that dies by SIGKILL at any step: what it leaves, and what the next run makes of it.

The failpoint kills the process just before the step, so the moments are the same in each run.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
from pathlib import Path

import pytest

from arsync.model import Op
from arsync.uring.faults import Action, counted, fault, passes
from tests.kit import Dir, File, HardLink, Pattern, Sparse, Symlink, Tree, assert_same, make
from tests.kit.syncing import BIG, litter, run, single
from tests.requirements import need_uring

NS = 1_700_000_000_123_456_789
MOMENTS = 5
TEMPORARY = re.compile(r"\.arsync\.[0-9a-f]{24}\.\d+-\d+")

SMALL = Tree(
    {
        "new": Dir({f"f{one}": File(Pattern(9000, one), mtime_ns=NS) for one in range(12)}),
        "there": {
            "changed": File(Pattern(70_000, 1), mtime_ns=NS),
            "same": File(b"same", mtime_ns=NS),
            "added": File(b"added", mtime_ns=NS),
            "link": Symlink("changed"),
            "again": HardLink(target="there/added"),
            "deeper": {"f": File(b"f", mtime_ns=NS)},
        },
        "file": File(Pattern(200_000, 2), mtime_ns=NS),
    }
)
BIGS = Tree(
    {"data": File(Pattern(BIG + 5, 1), mtime_ns=NS), "holes": File(Sparse(BIG + 9), mtime_ns=NS)}
)
SMALL_BEFORE = Tree(
    {"there": {"changed": File(b"old", mtime_ns=1), "same": File(b"same", mtime_ns=NS)}}
)
BIGS_BEFORE = Tree({"data": File(b"old", mtime_ns=1)})
SMALL_OPS = (
    Op.MKDIR,
    Op.CREATE,
    Op.WRITE,
    Op.READ,
    Op.UTIMES,
    Op.SYMLINK,
    Op.LINK,
    Op.RENAME,
)
BIG_OPS = (Op.CREATE, Op.WRITE, Op.SEEK, Op.TRUNCATE, Op.UTIMES, Op.RENAME)


@pytest.fixture(params=["uring", "sync"])
def engine(request: pytest.FixtureRequest) -> str:
    """Run the test once on each engine."""
    if request.param == "uring":
        need_uring()
    return str(request.param)


def kill_at(op: Op, skip: int, src: Path, dst: Path, engine: str) -> None:
    """Run in a process that is killed at a step."""
    pid = os.fork()
    if pid == 0:
        with fault(op, Action.KILL, skip=skip):
            run(src, dst, **single(engine))
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, f"{op.name} {skip} was not reached"


def assert_whole(src: Path, dst: Path) -> None:
    """Fail when a name of the source holds anything but its file, or the one that was there.

    Names that are not of the source must be arsync's; what is below them has no place yet.
    """
    for where, directories, files in os.walk(dst):
        place = src / Path(where).relative_to(dst)
        for name in files + directories:
            if TEMPORARY.fullmatch(name):
                directories[:] = [other for other in directories if other != name]
                continue
            new, found = place / name, Path(where, name)
            assert os.path.lexists(new), found
            if name in files and not found.is_symlink():
                assert found.read_bytes() in (b"old", new.read_bytes()), found


def remove(path: bytes) -> None:
    """Remove a file or a whole directory."""
    if os.path.isdir(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


@pytest.mark.parametrize(
    ("tree", "before", "op"),
    [
        *(pytest.param(SMALL, SMALL_BEFORE, op, id=f"small-{op.name}") for op in SMALL_OPS),
        *(pytest.param(BIGS, BIGS_BEFORE, op, id=f"big-{op.name}") for op in BIG_OPS),
    ],
)
def test_killed_at_a_step(tmp_path: Path, engine: str, tree: Tree, before: Tree, op: Op) -> None:
    """Names of the source are whole, old or new; the same command again makes all of them new.

    Temporary names of the dead run stay: they could be those of another run under way.
    """
    src, dst = tmp_path / "src", tmp_path / "dst"
    make(tree, src)
    make(before, dst)
    with counted():
        assert run(src, dst, **single(engine)).code == 0
        steps = passes(op)
    assert steps, f"no {op.name} in this run"
    for skip in range(0, steps, max(1, steps // MOMENTS)):
        shutil.rmtree(dst)
        make(before, dst)
        kill_at(op, skip, src, dst, engine)
        assert_whole(src, dst)
        left = litter(dst)
        assert len(left) <= 2, left
        assert run(src, dst, **single(engine)).code == 0
        assert litter(dst) == left
        for path in left:
            remove(path)
        assert run(src, dst, **single(engine)).code == 0  # times of the directories
        assert_same(src, dst, holes=True)
