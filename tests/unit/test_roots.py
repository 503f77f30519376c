"""What the operands mean: rsync's rules about slashes, files and missing destinations."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from arsync import roots
from arsync.errors import FileError, SelectionError, UsageError
from arsync.model import Op, Problem, ProblemKind, Side
from arsync.options import ARCHIVE, Preserve, SyncOptions, WritePolicy
from arsync.roots import Target, Transfer, resolve
from arsync.scan import Chain, Named, Whole
from tests.kit import Dir, File, Symlink, Tree, make
from tests.kit.filesystems import mounted

PLAIN = SyncOptions(preserve=ARCHIVE)
RELATIVE = SyncOptions(preserve=ARCHIVE, relative=True)
MKPATH = SyncOptions(preserve=ARCHIVE, write=WritePolicy(mkpath=True))


@pytest.fixture(autouse=True)
def here(tmp_path: Path) -> Iterator[None]:
    """Stand in a directory with a few entries, so that operands are short."""
    make(
        Tree(
            {
                "dir": Dir({"a": File(b"a"), "b": File(b"b"), "sub": Dir({"c": File(b"c")})}),
                "file": File(b"f"),
                "link": Symlink("dir"),
                "dangling": Symlink("nowhere"),
                "dst": Dir({"f": File(b"old")}),
            }
        ),
        tmp_path,
    )
    before = os.getcwd()
    os.chdir(tmp_path)
    yield
    os.chdir(before)


def resolved(
    *sources: bytes, dst: bytes = b"dst", options: SyncOptions = PLAIN
) -> tuple[list[Transfer], Target]:
    """Resolve operands that are all there."""
    transfers, target, failures = resolve(sources, dst, options)
    assert failures == []
    return transfers, target


# ---------------------------------------------------------------------- SRC


@pytest.mark.parametrize("operand", [b"dir/", b"dir/.", b"dir/sub/..", b"link/", b"."])
def test_a_slash_or_a_dot_at_the_end_means_the_content(operand: bytes, tmp_path: Path) -> None:
    """The directory itself is the root, and all of it is walked."""
    (tmp_path / "beside").mkdir()
    os.chdir(tmp_path / "dir" if operand == b"." else tmp_path)
    transfers, _ = resolved(operand, dst=os.fsencode(tmp_path / "dst"))
    assert transfers == [Transfer(operand, (Whole(),))]


@pytest.mark.parametrize("name", [b"dir", b"file", b"link", b"dangling"])
def test_without_a_slash_the_entry_itself_is_meant(name: bytes) -> None:
    """Its parent is the root; a symlink is not followed."""
    assert resolved(name) == (
        [Transfer(b".", (Named(b"", (name,)),))],
        Target(b"dst", missing=False),
    )


def test_neighbours_of_one_directory_share_a_root() -> None:
    """Their names are walked as one; the order of the operands stays."""
    transfers, _ = resolved(b"dir/b", b"dir/a", b"file", b"dir/sub/")
    assert transfers == [
        Transfer(b"dir", (Named(b"", (b"b", b"a")),)),
        Transfer(b".", (Named(b"", (b"file",)),)),
        Transfer(b"dir/sub/", (Whole(),)),
    ]


def test_names_are_joined_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell can pass a million names; a batch holds a bounded number of them."""
    monkeypatch.setattr(roots, "_NAMES_AT_ONCE", 2)
    (transfer,), _ = resolved(b"dir/a", b"dir/b", b"dir/sub")
    assert transfer.starts == (Named(b"", (b"a", b"b")), Named(b"", (b"sub",)))


def test_what_is_missing_is_a_failure_and_the_rest_goes_on() -> None:
    """Each SRC that cannot be used is a value with its path and errno."""
    transfers, target, failures = resolve([b"gone", b"file", b"file/"], b"dst", PLAIN)
    assert transfers == [Transfer(b".", (Named(b"", (b"file",)),))]
    assert target == Target(b"dst", missing=False)
    assert failures == [
        Problem(b"gone", ProblemKind.FAILED, Op.STAT, Side.SRC, errno.ENOENT),
        Problem(b"file/", ProblemKind.FAILED, Op.STAT, Side.SRC, errno.ENOTDIR),
    ]


def test_when_every_source_is_missing_the_destination_is_not_looked_at() -> None:
    """Nothing is to be done, so a destination that could not be used is no error."""
    transfers, target, failures = resolve([b"gone"], b"no/such/place", PLAIN)
    assert (transfers, target) == ([], Target(b"no/such/place", missing=False))
    assert len(failures) == 1


def test_no_source_at_all_is_a_usage_error() -> None:
    """An empty list is a mistake of the caller, not a copy of nothing."""
    with pytest.raises(UsageError, match="no SRC"):
        resolve([], b"dst", PLAIN)


@pytest.mark.parametrize(("source", "dst"), [(b"file", b""), (b"", b"dst")])
def test_an_empty_operand_is_a_usage_error(source: bytes, dst: bytes) -> None:
    """As in rsync: an unset variable of a script is no directory."""
    with pytest.raises(UsageError, match="an operand is empty"):
        resolve([source], dst, PLAIN)


# ----------------------------------------------------------------- --relative


@pytest.mark.parametrize(
    ("operand", "root", "start"),
    [
        (b"file", b".", Named(b"", (b"file",))),
        (b"./file", b".", Named(b"", (b"file",), with_own=True)),
        (b"dir/a", b".", Chain((b"dir",), Named(b"dir", (b"a",)))),
        (b"./dir/a", b".", Chain((b"dir",), Named(b"dir", (b"a",)), with_root=True)),
        (b"dir//sub/c", b".", Chain((b"dir", b"sub"), Named(b"dir/sub", (b"c",)))),
        (b"dir/./sub/c", b"dir", Chain((b"sub",), Named(b"sub", (b"c",)))),
        (b"dir/./a", b"dir", Named(b"", (b"a",))),
        (b"dir/./", b"dir", Whole()),
    ],
)
def test_relative_paths(operand: bytes, root: bytes, start: Named | Chain | Whole) -> None:
    """The path is kept from where it begins, or from the first /./ in it."""
    assert resolved(operand, options=RELATIVE)[0] == [Transfer(root, (start,))]


def test_an_absolute_path_is_relative_to_the_root(tmp_path: Path) -> None:
    """All of its directories are made at the destination."""
    (transfer,), _ = resolved(os.fsencode(tmp_path / "file"), options=RELATIVE)
    above = tuple(map(os.fsencode, tmp_path.parts[1:]))
    assert transfer == Transfer(b"/", (Chain(above, Named(b"/".join(above), (b"file",))),))


def test_relative_refuses_dots_that_lead_up() -> None:
    """What '..' would mean at the destination nobody can say."""
    with pytest.raises(UsageError, match=r"with '\.\.' in it"):
        resolve([b"dir/sub/../a"], b"dst", RELATIVE)


def test_relative_names_are_joined_only_in_one_directory() -> None:
    """Chains stay apart, and so do names of different directories."""
    (transfer,), _ = resolved(b"dir/a", b"file", b"dst", b"dir/b", options=RELATIVE, dst=b"new")
    assert [type(start).__name__ for start in transfer.starts] == ["Chain", "Named", "Chain"]
    assert transfer.paths == {b"dir/a", b"dir/b", b"file", b"dst"}


# ---------------------------------------------------------------------- DST


@pytest.mark.parametrize(
    ("source", "dst", "target", "alias"),
    [
        (b"file", b"dst", Target(b"dst", missing=False), None),
        (b"file", b"new", Target(b".", missing=False), b"new"),
        (b"file", b"new/", Target(b"new/", missing=True), None),
        (b"file", b"dst/f", Target(b"dst", missing=False), b"f"),
        (b"file", b"dst/new", Target(b"dst", missing=False), b"new"),
        (b"file", b"dangling", Target(b".", missing=False), b"dangling"),
        (b"dir", b"new", Target(b"new", missing=True), None),
        (b"dir", b"new/", Target(b"new/", missing=True), None),
        (b"dir/", b"link", Target(b"link", missing=False), None),
    ],
)
def test_where_one_source_goes(
    source: bytes, dst: bytes, target: Target, alias: bytes | None
) -> None:
    """A single file may get a new name; anything else needs a directory, made where missing."""
    if dst == b"link":
        source = b"dst/"
    (transfer,), found = resolved(source, dst=dst)
    assert found == target
    (start,) = transfer.starts
    assert (start.alias if isinstance(start, Named) else None) == alias


def test_several_sources_need_a_directory() -> None:
    """One that is missing is made, even for files."""
    assert resolved(b"file", b"dir/a", dst=b"new")[1] == Target(b"new", missing=True)
    with pytest.raises(SelectionError, match="the destination 'dst/f' is not a directory"):
        resolve([b"file", b"dir/a"], b"dst/f", PLAIN)


@pytest.mark.parametrize(("source", "dst"), [(b"dir", b"dst/f"), (b"dir/", b"dst/f")])
def test_a_directory_is_not_copied_onto_a_file(source: bytes, dst: bytes) -> None:
    """A file in the destination's place is left as it is."""
    with pytest.raises(SelectionError, match="is not a directory"):
        resolve([source], dst, PLAIN)


def test_a_file_with_a_slash_behind_it_is_no_destination() -> None:
    """The kernel's own answer is told."""
    with pytest.raises(SelectionError, match="use the destination 'dst/f/': Not a directory"):
        resolve([b"file"], b"dst/f/", PLAIN)


@pytest.mark.parametrize(
    ("source", "dst", "kind"),
    [
        (b"file", b"no/such/place", SelectionError),
        (b"file", b"no/such/place/", FileError),
        (b"dir", b"no/such/place", FileError),
    ],
)
def test_the_parent_of_the_destination_must_be_there(
    source: bytes, dst: bytes, kind: type[Exception]
) -> None:
    """The message says which directory is missing and what would make it."""
    with pytest.raises(kind, match="its parent 'no/such' is not there: --mkpath makes it"):
        resolve([source], dst, PLAIN)


def test_mkpath_makes_the_parent() -> None:
    """A directory is missing as a whole; for a new name of a file its directory is."""
    assert resolved(b"dir", dst=b"no/such", options=MKPATH)[1] == Target(b"no/such", missing=True)
    (transfer,), target = resolved(b"file", dst=b"no/such/name", options=MKPATH)
    assert target == Target(b"no/such", missing=True)
    assert transfer.starts == (Named(b"", (b"file",), b"name"),)


# ----------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("source", "dst"),
    [
        (b"dir/", b"dir"),
        (b"dir/", b"link"),
        (b"link/", b"dir/"),
        (b"dir", b"."),
        (b"file", b"."),
        (b"file", b"file"),
        (b"file", b"./file"),
        (b"dangling", b"."),
    ],
)
def test_nothing_is_copied_onto_itself(source: bytes, dst: bytes) -> None:
    """Also by another path, and a single file as well."""
    with pytest.raises(SelectionError, match="SRC and DST are the same"):
        resolve([source], dst, PLAIN)


@pytest.mark.parametrize("dst", [b"dir/sub", b"dir/new", b"link/sub"])
def test_a_destination_inside_the_source_is_refused(dst: bytes) -> None:
    """The walk would come to what it writes."""
    with pytest.raises(SelectionError, match=r"is inside SRC 'dir/'.* contain itself$"):
        resolve([b"dir/"], dst, PLAIN)


def test_the_hint_about_x_stands_where_it_helps() -> None:
    """It keeps out of another filesystem, and only who has not given it needs to hear of it."""
    os.mkdir("dir/mount")
    with mounted("-t", "tmpfs", "tmpfs", "dir/mount"):
        with pytest.raises(SelectionError, match=r"contain itself \(-x keeps out of other"):
            resolve([b"dir/"], b"dir/mount/dst", PLAIN)
        staying = SyncOptions(one_file_system=1)
        target = resolved(b"dir/", dst=b"dir/mount/dst", options=staying)[1]
        assert target == Target(b"dir/mount/dst", missing=True)
        with pytest.raises(SelectionError, match=r"contain itself$"):
            resolve([b"dir/mount/"], b"dir/mount/dst", staying)


def test_a_source_inside_the_destination_is_fine() -> None:
    """Nor is anything wrong where no directory is entered."""
    assert resolved(b"dir/sub/", dst=b"dir")[1] == Target(b"dir", missing=False)
    flat = SyncOptions(preserve=Preserve(dirs=True))
    assert resolved(b"dir/", dst=b"dir/sub", options=flat)[1] == Target(b"dir/sub", missing=False)


def test_relative_onto_itself_is_refused() -> None:
    """-R puts it at its own path below the destination."""
    with pytest.raises(SelectionError, match="SRC and DST are the same"):
        resolve([b"dir/a"], b".", RELATIVE)


# ---------------------------------------------------------------- transfers


def test_which_transfers_may_meet() -> None:
    """Two that hold different names of their roots cannot; all of a root meets everything."""
    whole = Transfer(b"x", (Whole(),))
    a = Transfer(b"y", (Named(b"", (b"a", b"b")),))
    b = Transfer(b"z", (Chain((b"b", b"c"), Named(b"b/c", (b"d",))),))
    c = Transfer(b"z", (Named(b"", (b"c",)),))
    assert whole.may_meet(a)
    assert c.may_meet(whole)
    assert a.may_meet(b)
    assert not a.may_meet(c)


def test_without_recursion_a_directory_is_left_out_and_said() -> None:
    """Neither -r nor -d: a problem that is no failure, and nothing to do."""
    transfers, _, problems = resolve([b"dir"], b"dst", SyncOptions(preserve=Preserve()))
    assert transfers == []
    assert problems == [Problem(b"dir", ProblemKind.SKIPPED, Op.NONE, Side.SRC, 0)]
