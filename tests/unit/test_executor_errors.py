"""What ends a lane: a disk that takes no more, and memory that is not there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from arsync.errors import FileError, OutOfMemoryError
from arsync.model import Op
from arsync.settings import choose_run_engine, make_settings
from arsync.uring.executor import Executor, ExecutorSettings, Limit
from arsync.uring.faults import FOREVER, Action, fault, passes
from arsync.uring.rules import Identity, Rules
from arsync.uring.scanner import Root
from tests.kit import File, Pattern, Tree, assert_same, make
from tests.kit.syncing import BIG, open_descriptors, options_of, run, single

pytestmark = pytest.mark.usefixtures("no_litter")

FULL = {
    errno.ENOSPC: "the destination is full: make room and run the same command again",
    errno.EDQUOT: (
        "the quota at the destination is used up: make room and run the same command again"
    ),
    errno.EROFS: "the destination is read-only: nothing can be written to it",
}


@pytest.mark.parametrize("error", FULL)
@pytest.mark.parametrize("op", [Op.CREATE, Op.WRITE, Op.RENAME])
@pytest.mark.parametrize("size", [3, BIG + 1], ids=["small", "big"])
def test_a_destination_that_takes_no_more_ends_the_run(
    tmp_path: Path, engine: str, size: int, op: Op, error: int
) -> None:
    """Exit code 11 and a sentence for each reason, at whichever step; the next run finishes it."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    make(Tree({"f": File(Pattern(size))}), src)
    dst.mkdir()
    with fault(op, Action.ERROR, error, count=FOREVER):
        ran = run(src, dst, copy_method="read_write", **single(engine))
        assert passes(op) > 0
    assert isinstance(ran.error, FileError)
    assert (ran.code, str(ran.error)) == (11, FULL[error])
    assert os.listdir(dst) == []
    assert run(src, dst, engine=engine).code == 0
    assert_same(src, dst)


def test_a_lane_without_memory_is_said_as_such(tmp_path: Path) -> None:
    """Each allocation of its set-up in turn, until it survives; nothing of the lane is left."""
    options = options_of(engine="sync")
    rules = Rules(options, 1, Identity.current())
    with Root(os.fsencode(tmp_path)) as root:
        settings = make_settings(options, choose_run_engine(options.engine), root, root, -1)
        for step in range(100):
            with fault(Op.MEMORY, Action.ERROR, errno.ENOMEM, skip=step):
                if opens(settings, rules):
                    break
    assert 0 < step < 99


def opens(settings: ExecutorSettings, rules: Rules) -> bool:
    """Tell whether there is memory for a lane."""
    before = open_descriptors()
    try:
        with Executor(settings, rules, Limit(0)):
            return True
    except OutOfMemoryError:
        assert open_descriptors() == before
        return False
