"""The lanes: order, bounds, stops, errors and big files, on both engines."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from arsync.execute import Lanes
from arsync.model import Op
from arsync.options import ARCHIVE, SyncOptions
from arsync.plan import Phase, Unit
from arsync.scan import Walk, Whole
from arsync.settings import EngineChoice, make_settings
from arsync.uring import Batch, Identity, Rules
from arsync.uring.faults import paused_at
from arsync.uring.scanner import Root, Scanner, scan_flags
from tests.kit import File, Pattern, Tree, make
from tests.kit.children import forbid_call, in_child
from tests.kit.syncing import litter, open_descriptors, wait_for_passes
from tests.requirements import SYS_IO_URING_SETUP, need_uring

OPTIONS = SyncOptions(preserve=ARCHIVE)
MIB = 1 << 20


@pytest.fixture(params=["uring", "sync"])
def ring(request: pytest.FixtureRequest) -> bool:
    """Run the test once on each engine."""
    if request.param == "uring":
        need_uring()
    return request.param == "uring"


@contextmanager
def work(
    tmp_path: Path, ring: bool, receive: Callable[[Unit], None], count: int = 2
) -> Iterator[tuple[Lanes, Walk]]:
    """Lend lanes from src to dst and a walk that feeds them; all threads end with the block."""
    before = open_descriptors()
    (tmp_path / "dst").mkdir(exist_ok=True)
    rules = Rules(OPTIONS, 1, Identity.current())
    engine = EngineChoice(ring=ring, note="", lanes=count, scan_threads=1)
    src_path, dst_path = (os.fsencode(tmp_path / name) for name in ("src", "dst"))
    with Root(src_path) as src, Root(dst_path) as dst:
        scanner = Scanner(src, dst, scan_flags(OPTIONS, as_root=True))
        lanes = Lanes(make_settings(OPTIONS, engine, src, dst, -1), rules, count, receive)
        feed = lambda batch, parents: lanes.add(batch, parents, Phase.COPY)  # noqa: E731
        try:
            yield lanes, Walk(scanner, rules, (Whole(),), feed)
        finally:
            if not lanes.idle:
                lanes.stop()
            lanes.finish()
        del scanner
    assert litter(tmp_path) == []
    assert open_descriptors() == before


def ignore(unit: Unit) -> None:
    """Take a unit that is done."""
    assert unit.pending == 0


def test_each_unit_is_given_back_once(tmp_path: Path, ring: bool) -> None:
    """And everything is in place when drain returns."""
    for number in range(300):
        make(Tree({"f": File(b"x")}), tmp_path / "src" / str(number))
    units: list[Unit] = []
    with work(tmp_path, ring, units.append) as (lanes, walk):
        walk.run()
        lanes.drain()
        assert lanes.idle
        assert lanes.counts().done_files == 300
    assert len(units) == len({unit.batch for unit in units}) > 1
    assert lanes.counts().done_files == 300


def test_never_more_than_the_limit_is_under_way(tmp_path: Path, ring: bool) -> None:
    """Whoever adds waits until a unit has been given back."""
    make(Tree({}), tmp_path / "src")
    added, received = 0, 0
    full, changed = 48, threading.Condition()

    def receive(_: Unit) -> None:
        nonlocal received
        with changed:
            assert changed.wait_for(lambda: added >= min(full + received, 200), 20)
            assert added - received <= full
            received += 1

    def feed() -> None:
        nonlocal added
        for _ in range(200):
            lanes.add(Batch(), (), Phase.COPY)
            with changed:
                added += 1
                changed.notify_all()

    with work(tmp_path, ring, receive) as (lanes, _):
        feeder = threading.Thread(target=feed)
        feeder.start()
        feeder.join()
        lanes.drain()
    assert received == 200


def test_the_error_of_a_lane_is_raised(tmp_path: Path, ring: bool) -> None:
    """In drain, and in add, so that a walk ends too."""
    make(Tree({"f": File(b"x")}), tmp_path / "src")

    def fail(_: Unit) -> None:
        raise ValueError("enough")

    with work(tmp_path, ring, fail) as (lanes, walk):
        walk.run()
        with pytest.raises(ValueError, match="enough"):
            lanes.drain()
        with pytest.raises(ValueError, match="enough"):
            lanes.add(Batch(), (), Phase.COPY)


def test_lanes_stop_in_the_middle_of_a_big_file(tmp_path: Path, ring: bool) -> None:
    """What is half there is removed, what comes later is dropped, and nobody waits."""
    make(Tree({"big": File(Pattern(64 * MIB))}), tmp_path / "src")
    units: list[Unit] = []
    with work(tmp_path, ring, units.append) as (lanes, walk), paused_at(Op.WRITE) as pause:
        walk.run()
        pause.wait()
        lanes.stop()
        pause.resume()
        lanes.drain()
        assert not lanes.idle
        lanes.add(Batch(), (), Phase.COPY)
    assert units == []
    assert os.listdir(tmp_path / "dst") == []


def test_a_big_file_is_copied_by_all_lanes(tmp_path: Path, ring: bool) -> None:
    """While one lane stands still in the only file, another one writes to it."""
    make(Tree({"big": File(Pattern(64 * MIB))}), tmp_path / "src")
    with work(tmp_path, ring, ignore) as (lanes, walk), paused_at(Op.WRITE) as pause:
        walk.run()
        pause.wait()
        other = threading.Thread(target=lanes.drain)
        other.start()
        wait_for_passes(Op.WRITE, 3, other)
        pause.resume()
        other.join()
    assert (tmp_path / "dst/big").read_bytes() == (tmp_path / "src/big").read_bytes()


def test_a_ring_that_is_refused_is_answered_with_plain_calls(tmp_path: Path) -> None:
    """The lanes go on and say why."""
    make(Tree({"f": File(b"x")}), tmp_path / "src")

    def copy() -> int | None:
        forbid_call(SYS_IO_URING_SETUP, errno.EPERM)
        with work(tmp_path, True, ignore) as (lanes, walk):
            walk.run()
            lanes.drain()
        return lanes.refusal

    assert in_child(copy) == errno.EPERM
    assert (tmp_path / "dst/f").read_bytes() == b"x"
