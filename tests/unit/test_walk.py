"""The walk of two trees: every directory once, after its parent, on any number of threads."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from arsync.model import Change, Op, Problem, ProblemKind, Why
from arsync.options import ARCHIVE, SyncOptions
from arsync.scan import Chain, Named, Start, Walk, Whole
from arsync.uring import Batch, Identity, Rules
from arsync.uring.faults import FOREVER, fault, passes
from arsync.uring.scanner import Root, Scanner, scan_flags
from tests.kit import File, Tree, make
from tests.kit.syncing import open_descriptors, wait_for_passes

OPTIONS = SyncOptions(preserve=ARCHIVE)
WHOLE = (Whole(),)

Receive = Callable[[Batch, Sequence[Batch]], None]


class Receiver:
    """Take batches, and fail when one comes before those that it waits for."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self._lock = threading.Lock()

    def __call__(self, batch: Batch, parents: Sequence[Batch]) -> None:
        """Take one; see `arsync.scan.Receiver`."""
        with self._lock:
            assert set(parents) <= set(self.batches)
            assert batch not in self.batches
            self.batches.append(batch)

    @property
    def changes(self) -> list[Change]:
        """Return all changes."""
        return [change for batch in self.batches for change in batch.changes()]

    @property
    def paths(self) -> list[bytes]:
        """Return the paths of all changes, sorted."""
        return sorted(change.path for change in self.changes)

    @property
    def problems(self) -> list[Problem]:
        """Return all problems."""
        return [problem for batch in self.batches for problem in batch.problems()]


@contextmanager
def walk_of(
    src: Path, dst: Path | None, receive: Receive, starts: Sequence[Start], threads: int
) -> Iterator[Walk]:
    """Lend a walk; its roots and scanner are closed at the end."""
    before = open_descriptors()
    rules = Rules(OPTIONS, 1, Identity.current())
    flags = scan_flags(OPTIONS, as_root=os.geteuid() == 0)
    with Root(os.fsencode(src)) as src_root, Root(os.fsencode(dst or src)) as dst_root:
        scanner = Scanner(src_root, dst_root if dst else None, flags)
        yield Walk(scanner, rules, starts, receive, threads)
        del scanner
    assert open_descriptors() == before


def run(walk: Walk, threads: int) -> list[BaseException]:
    """Run a walk to its end; return what its threads raised."""
    errors: list[BaseException] = []

    def work() -> None:
        try:
            walk.run()
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return errors


def walked(
    src: Path, dst: Path | None = None, starts: Sequence[Start] = WHOLE, threads: int = 1
) -> Receiver:
    """Walk all of it and return what came."""
    receiver = Receiver()
    with walk_of(src, dst, receiver, starts, threads) as walk:
        assert run(walk, threads) == []
    return receiver


def forest(root: Path, wide: int, deep: int) -> list[bytes]:
    """Make directories, a file in each; return the paths of all."""
    paths = [b""]
    for number in range(wide):
        path = root
        for depth in range(deep):
            path = path / f"{number}-{depth}"
            path.mkdir()
            (path / "file").touch()
            below = os.fsencode(path.relative_to(root))
            paths += [below, below + b"/file"]
    return sorted(paths)


class Crowd(Receiver):
    """Count how many threads are at work at once: each stays until as many as can are there."""

    def __init__(self, expected: int) -> None:
        super().__init__()
        self.most = 0
        self._inside = 0
        self._expected = expected
        self._came = threading.Condition()

    def __call__(self, batch: Batch, parents: Sequence[Batch]) -> None:
        """Take one; see `arsync.scan.Receiver`."""
        super().__call__(batch, parents)
        if not parents:  # the root's: nobody else can have anything yet
            return
        with self._came:
            self._inside += 1
            self.most = max(self.most, self._inside)
            self._came.notify_all()
            self._came.wait_for(lambda: self.most > self._expected, 0.02)
            self._inside -= 1


# ------------------------------------------------------------------ the whole


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_every_entry_comes_once(tmp_path: Path, threads: int) -> None:
    """In wide and in deep trees, and no directory before the one that holds it."""
    paths = forest(tmp_path, wide=400, deep=3)
    assert walked(tmp_path, threads=threads).paths == paths


def test_a_chain_of_directories_keeps_only_one_thread_busy(tmp_path: Path) -> None:
    """The others wait until there is something to take, and end with it."""
    paths = forest(tmp_path, wide=1, deep=200)
    assert walked(tmp_path, threads=8).paths == paths


@pytest.mark.parametrize(("waited", "at_work"), [(False, 1), (True, 4)])
def test_more_threads_than_cores_walk_only_where_they_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waited: bool, at_work: int
) -> None:
    """Of a tree in memory one thread a core: more would only wait for each other."""
    paths = forest(tmp_path, wide=400, deep=2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    monkeypatch.setattr(Batch, "has_waited", waited)
    crowd = Crowd(expected=at_work)
    with walk_of(tmp_path, None, crowd, WHOLE, threads=4) as walk:
        assert run(walk, 4) == []
    assert crowd.paths == paths
    assert crowd.most == at_work


def test_a_scan_of_what_is_in_memory_has_not_waited(tmp_path: Path) -> None:
    """Nothing of it is on a disk any more that a thread could wait for."""
    forest(tmp_path, wide=20, deep=1)
    walked(tmp_path)
    assert sum(not batch.has_waited for batch in walked(tmp_path).batches) > 0


def test_equal_trees_give_no_changes(tmp_path: Path) -> None:
    """Both sides are walked pair by pair."""
    tree = Tree({"d": {"e": {"f": File(b"x")}}, "g": File(b"y")}).at(7)
    src, dst = tmp_path / "src", tmp_path / "dst"
    make(tree, src)
    make(tree, dst)
    os.utime(src, ns=(7, 7))
    os.utime(dst, ns=(7, 7))
    assert walked(src, dst, threads=2).changes == []


@pytest.mark.parametrize("threads", [1, 4])
def test_directories_of_many_pages_on_both_sides(tmp_path: Path, threads: int) -> None:
    """Names that are on one side only, on both, and sub-directories between them, over 5 pages."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    expected = set()
    for side in (src, dst):
        side.mkdir()
    for number in range(5000):
        name = f"{number:05d}"
        if number % 5 == 0:
            (src / name).mkdir()
            (src / name / "in").touch()
            expected.add(os.fsencode(f"{name}/in"))
        else:
            (src / name).touch()
        if number % 2:
            expected.add(os.fsencode(name))
            (dst / f"{number:05d} only here").touch()
        elif number % 5 == 0:
            (dst / name).mkdir()
        else:
            (dst / name).touch()
            os.utime(dst / name, ns=(7, 7))
            os.utime(src / name, ns=(7, 7))
    received = walked(src, dst, threads=threads)
    new = [change.path for change in received.changes if change.why & Why.NEW]
    assert sorted(new) == sorted(expected)
    assert received.problems == []


# --------------------------------------------------------------------- starts


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Make a small tree."""
    files = {"f": File(b"f"), "g": File(b"g"), "h": {"i": File(b"i")}}
    make(Tree({"a": {"b": files, "other": File()}, "top": File()}), tmp_path / "src")
    return tmp_path / "src"


def test_names_of_the_root(tree: Path) -> None:
    """Only they and what is below them are walked; what is missing is a problem."""
    received = walked(tree, starts=[Named(b"", (b"top", b"gone"))])
    assert received.paths == [b"top"]
    assert [(one.path, one.kind) for one in received.problems] == [(b"gone", ProblemKind.FAILED)]


def test_a_name_with_an_alias(tree: Path, tmp_path: Path) -> None:
    """It is compared with what has the new name, and keeps its own path in what people read."""
    make(Tree({"a": {"b": {"new": File(b"f"), "f": File(b"other")}}}), tmp_path / "dst")
    for path in (tree / "a/b/f", tmp_path / "dst/a/b/new"):
        os.utime(path, ns=(7, 7))
    assert walked(tree, tmp_path / "dst", [Named(b"a/b", (b"f",), b"new")]).paths == []
    assert walked(tree, None, [Named(b"a/b", (b"f",), b"new")]).paths == [b"a/b/f"]


def test_names_with_their_own_directory(tree: Path) -> None:
    """The root gets its attributes as well."""
    assert walked(tree, starts=[Named(b"", (b"top",), with_own=True)]).paths == [b"", b"top"]


def test_a_chain_makes_what_is_on_the_way(tree: Path) -> None:
    """Each directory of it is a change, what else is in them is not, and the end is walked."""
    chain = Chain((b"a", b"b"), Named(b"a/b", (b"f", b"h")))
    expected = [b"a", b"a/b", b"a/b/f", b"a/b/h", b"a/b/h/i"]
    assert walked(tree, starts=[chain], threads=4).paths == expected


def test_a_chain_with_its_root(tree: Path) -> None:
    """As -R has it for ./a/b."""
    chain = Chain((b"a",), Named(b"a", (b"other",)), with_root=True)
    assert walked(tree, starts=[chain]).paths == [b"", b"a", b"a/other"]


def test_a_chain_that_breaks_ends_there(tree: Path) -> None:
    """A directory on the way that is gone is a problem, and so is one that is a file."""
    gone = walked(tree, starts=[Chain((b"a", b"gone"), Named(b"a/gone", (b"f",)))])
    assert gone.paths == [b"a"]
    assert [one.path for one in gone.problems] == [b"a/gone"]


def test_several_starts_follow_each_other(tree: Path) -> None:
    """All of them are walked, on all threads."""
    starts = [Named(b"", (b"top",)), Chain((b"a", b"b"), Named(b"a/b", (b"g",)))]
    assert walked(tree, starts=starts, threads=3).paths == [b"a", b"a/b", b"a/b/g", b"top"]


def test_what_a_full_batch_leaves_comes_in_the_next(tmp_path: Path) -> None:
    """A thread takes what is left of several batches at once, and the first of it fills its own."""
    paths = forest(tmp_path, wide=6, deep=4)
    for path in paths[1:]:
        directory = tmp_path / os.fsdecode(path)
        if directory.is_dir():
            for number in range(1000):
                (directory / f"{number:0250}").touch()
                paths.append(path + b"/%0250d" % number)
    assert walked(tmp_path).paths == sorted(paths)


# -------------------------------------------------------------------- trouble


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE])
def test_a_walk_waits_for_descriptors(tmp_path: Path, error: int) -> None:
    """Where none is free the directory is scanned again a little later, and nothing is lost."""
    paths = forest(tmp_path, wide=20, deep=2)
    with fault(Op.OPEN_DIR, value=error, skip=3, count=5):
        assert walked(tmp_path, threads=2).paths == paths
        assert passes(Op.OPEN_DIR) >= 8


def test_a_walk_waits_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody gives any descriptor back it ends, and says what is short."""
    forest(tmp_path, wide=2, deep=1)
    monkeypatch.setattr("arsync.scan._SCARCE_S", 0.05)
    with (
        walk_of(tmp_path, None, Receiver(), WHOLE, threads=2) as walk,
        fault(Op.OPEN_DIR, value=errno.EMFILE, skip=1, count=FOREVER),
    ):
        errors = run(walk, 2)
    assert [str(error) for error in errors] == [
        "cannot walk: too many open files, of this process or of the system "
        "(ulimit -n says how many it may have)"
    ]


def test_a_walk_that_waits_for_descriptors_can_be_stopped(tmp_path: Path) -> None:
    """It does not wait for ever."""
    forest(tmp_path, wide=20, deep=2)
    scarce = fault(Op.OPEN_DIR, value=errno.EMFILE, skip=1, count=FOREVER)
    with walk_of(tmp_path, None, Receiver(), WHOLE, 1) as walk, scarce:
        worker = threading.Thread(target=walk.run)
        worker.start()
        wait_for_passes(Op.OPEN_DIR, 4, worker)
        walk.stop()
        worker.join()


@pytest.mark.parametrize("threads", [1, 4])
def test_a_walk_that_is_stopped_ends_after_what_it_is_at(tmp_path: Path, threads: int) -> None:
    """Every thread returns, without an error and without the rest of the tree."""
    forest(tmp_path, wide=600, deep=2)
    received = Receiver()

    def stop_soon(batch: Batch, parents: Sequence[Batch]) -> None:
        received(batch, parents)
        walk.stop()

    with walk_of(tmp_path, None, stop_soon, WHOLE, threads) as walk:
        assert run(walk, threads) == []
    assert len(received.batches) <= threads


@pytest.mark.parametrize("threads", [1, 4])
def test_what_the_receiver_raises_stops_all_threads(tmp_path: Path, threads: int) -> None:
    """The thread that called it raises it, the others return."""
    forest(tmp_path, wide=600, deep=2)
    received = Receiver()

    def fail_at_third(batch: Batch, parents: Sequence[Batch]) -> None:
        received(batch, parents)
        if len(received.batches) == 3:
            raise ValueError("enough")

    with walk_of(tmp_path, None, fail_at_third, WHOLE, threads) as walk:
        (error,) = run(walk, threads)
        del walk
    assert str(error) == "enough"
    assert len(received.batches) < 3 + threads
