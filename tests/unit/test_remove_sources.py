"""A file leaves the source only when the destination has it, and nobody has touched it since."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from arsync import Listener, sync
from arsync.errors import FileError
from arsync.model import Change, Kind, Op, WarningKind
from arsync.options import ManifestPolicy
from arsync.uring.faults import FOREVER, Action, fault
from tests.kit import File, HardLink, Pattern, Symlink, Tree, make
from tests.kit.syncing import options_of, run, single
from tests.requirements import need_uring

TREE = Tree(
    {
        "a": File(b"a"),
        "b": {"c": File(b"c"), "l": Symlink("c")},
        "big": File(Pattern(33 << 20, 1)),
        "x": File(b"x"),
        "y": HardLink("x"),
        "z": {"y": HardLink("x")},
    }
)


@pytest.fixture(params=["uring", "sync"])
def engine(request: pytest.FixtureRequest) -> str:
    """Run the test once on each engine."""
    if request.param == "uring":
        need_uring()
    return str(request.param)


def files_in(root: Path) -> set[str]:
    """Return the paths of what is no directory."""
    return {
        os.path.relpath(os.path.join(where, name), root)
        for where, _, names in os.walk(root)
        for name in names
    }


ALL = {"a", "b/c", "b/l", "big", "x", "y", "z/y"}


def test_everything_goes_in_two_runs(tmp_path: Path, engine: str) -> None:
    """What is copied goes at once; what was up to date goes when a run is asked to remove it."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    make(TREE, src)
    assert run(src, dst, engine=engine).code == 0
    (src / "new").write_bytes(b"new")
    ran = run(src, dst, engine=engine, remove_source_files=True)
    assert ran.code == 0
    assert files_in(src) == set()
    assert (src / "b").is_dir()
    assert files_in(dst) == ALL | {"new"}
    assert ran.changes[b"big"].kind == Kind.REMOVE
    assert (dst / "x").stat().st_nlink == 3


def test_what_changed_since_stays(tmp_path: Path, engine: str) -> None:
    """A file that was written after it was copied is kept, counted, and makes the code 23."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    make(TREE, src)

    def write(changes: Iterator[Change], _src: bytes) -> None:
        if any(change.kind != Kind.REMOVE for change in changes):
            (src / "a").write_bytes(b"written by somebody")

    options = options_of(engine=engine, remove_source_files=True)
    report = sync(f"{src}/", dst, options, listener=Listener(changes=write))
    assert report.exit_code == 23
    (warning,) = report.warnings
    assert (warning.kind, warning.count, warning.first) == (WarningKind.CHANGED, 1, b"a")
    assert files_in(src) == {"a"}


def test_what_failed_stays(tmp_path: Path, engine: str) -> None:
    """The file that could not be read stays; the others go."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    make(TREE, src)
    with fault(Op.READ, Action.ERROR, errno.EIO):
        ran = run(src, dst, **single(engine), remove_source_files=True)
    assert ran.code == 23
    ((path, _, _),) = ran.failed
    left = files_in(src)
    assert path.decode() in left
    assert left <= {path.decode(), "x", "y", "z/y"}  # further names of what failed may stay, too
    assert files_in(dst) >= ALL - left


def test_a_run_that_is_stopped_removes_nothing(tmp_path: Path, engine: str) -> None:
    """On a full disk everything stays, also what has been copied by then."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    make(TREE, src)
    with fault(Op.CREATE, Action.ERROR, errno.ENOSPC, skip=2, count=FOREVER):
        ran = run(src, dst, **single(engine), remove_source_files=True)
    assert isinstance(ran.error, FileError)
    assert files_in(src) == ALL


def test_nothing_goes_before_it_is_on_the_disk(tmp_path: Path, engine: str) -> None:
    """Where the disk cannot take what was written, the source keeps all of it."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    make(Tree({"empty": File(), "l": Symlink("x")}), src)
    with fault(Op.SYNC, Action.ERROR, errno.EIO, count=FOREVER):
        ran = run(src, dst, engine=engine, remove_source_files=True)
    assert isinstance(ran.error, FileError)
    assert "Input/output error" in str(ran.error)
    assert files_in(src) == {"empty", "l"}


def test_what_cannot_be_removed_is_a_failure(tmp_path: Path, engine: str) -> None:
    """A name that the kernel keeps is named, with its errno."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    make(Tree({"a": File(), "b": File()}), src)
    with fault(Op.UNLINK, Action.ERROR, errno.EPERM):
        ran = run(src, dst, **single(engine), remove_source_files=True)
    assert ran.code == 23
    assert ran.failed == [(b"a", Op.UNLINK, errno.EPERM)]
    assert files_in(src) == {"a"}


def test_a_directory_of_many_pages_and_many_directories(tmp_path: Path, engine: str) -> None:
    """Names come back from the spool page by page and batch by batch, and all of them go."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    long = {f"{number:04}": File(b"%d" % number) for number in range(2500)}
    many = {f"d{number:03}": {"f": File()} for number in range(300)}
    make(Tree({"long": long, **many}), src)
    assert run(src, dst, engine=engine, remove_source_files=True).code == 0
    assert files_in(src) == set()
    assert len(files_in(dst)) == 2800
    assert len(list(src.iterdir())) == 301


@pytest.mark.parametrize("rule", ["update", "ignore_existing", "existing"])
def test_what_a_rule_leaves_alone_stays_in_each_run(tmp_path: Path, engine: str, rule: str) -> None:
    """A manifest that has seen it before does not make it equal: no later run removes it."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    make(Tree({"f": File(b"old", mtime_ns=1)}), src)
    make(Tree({} if rule == "existing" else {"f": File(b"newer", mtime_ns=10**18)}), dst)
    manifest = ManifestPolicy(state_dir=str(tmp_path / "state"))
    settings = {"engine": engine, "manifest": manifest, rule: True}
    for _ in range(4):
        assert run(src, dst, remove_source_files=True, **settings).code == 0
        assert files_in(src) == {"f"}
