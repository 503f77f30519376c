"""Lists of --files-from: their lines, and where a walk starts for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from arsync.errors import SelectionError, UsageError
from arsync.filelist import find_listed, read_lines
from arsync.model import Problem, ProblemKind
from arsync.options import ARCHIVE, Preserve, SyncOptions
from arsync.roots import Transfer, resolve
from arsync.scan import Chain, Named, Whole
from tests.kit import File, Symlink, Tree, make

LISTED = Preserve(dirs=True, links=True)


def options(preserve: Preserve = LISTED) -> SyncOptions:
    """Return what --files-from means without further options."""
    return SyncOptions(preserve=preserve, relative=True)


def starts(src: Path, *lines: bytes, preserve: Preserve = LISTED) -> list[object]:
    """Return where the walk starts, and the problems, of lines that are cleaned."""
    text = b"\n".join(lines)
    found, problems = find_listed(
        bytes(src), read_lines(text, null_separated=False), options(preserve), nothing
    )
    return [start for one in found for start in one.starts(recursive=preserve.recursive)] + problems


def nothing(_root: bytes, _path: bytes, _is_dir: bool) -> bool:
    """Hide nothing."""
    return False


@pytest.fixture
def src(tmp_path: Path) -> Path:
    """Make a small tree."""
    tree = {"f": File(), "d": {"a": File(), "e": {"b": File()}}, "link": Symlink("d")}
    make(Tree(tree), tmp_path / "src")
    return tmp_path / "src"


@pytest.mark.parametrize(
    ("line", "path"),
    [
        (b"/a", b"a"),
        (b"a//b/", b"a/b/"),
        (b"../../a", b"a"),
        (b"a/../b", b"b"),
        (b"a/b/..", b"a/"),
        (b"..", b"."),
        (b"a/..", b"."),
        (b"/", b"."),
        (b"./a", b"./a"),
        (b"a/./b", b"a/./b"),
        (b"a ", b"a "),
    ],
)
def test_no_line_leads_out_of_the_source(line: bytes, path: bytes) -> None:
    """Slashes and `..` are cleaned away; dots stay, as a slash at the end does."""
    assert read_lines(line, null_separated=False) == (path,)


def test_lines_and_comments() -> None:
    """LF, CR or both end a line, with -0 only NUL; empty lines and comments do not count."""
    assert read_lines(b"a\r\n\n#b\n;c\rd", null_separated=False) == (b"a", b"d")
    assert read_lines(b"a\nb\0\0#c\0 #d\0", null_separated=True) == (b"a\nb", b" #d")


def test_each_directory_is_made_once(src: Path) -> None:
    """Names of one directory are walked together; one that others are in is on their way."""
    assert starts(src, b"d/e/b", b"d/a", b"d", b"f", b"d/a") == [
        Chain((b"d",), Named(b"d", (b"a",))),
        Chain((b"d", b"e"), Named(b"d/e", (b"b",))),
        Named(b"", (b"f",)),
    ]


def test_a_slash_means_what_is_in_a_directory(src: Path) -> None:
    """Its entries are named one by one; with -r it is walked, and so is what it is without."""
    one_level = [Chain((b"d",), Named(b"d", (b"a", b"e")))]
    assert starts(src, b"d/") == one_level
    assert starts(src, b"link/") == [Chain((b"link",), Named(b"link", (b"a", b"e")))]
    for line in (b"d", b"d/"):
        assert starts(src, line, b"d/e/b", preserve=ARCHIVE) == [Named(b"", (b"d",))]
    assert starts(src, b"link/", preserve=ARCHIVE) == [Named(b"", (b"link",), follow=True)]


def test_the_root_itself(src: Path) -> None:
    """A dot is the root with what is in it; before a path it means the root's attributes."""
    assert starts(src, b".") == [Named(b"", (b"d", b"f", b"link"), with_own=True)]
    assert starts(src, b".", b"f", preserve=ARCHIVE) == [Whole()]
    assert starts(src, b"./f") == [Named(b"", (b"f",), with_own=True)]
    assert starts(src, b"./d/a") == [
        Named(b"", (), with_own=True),
        Chain((b"d",), Named(b"d", (b"a",))),
    ]


def test_what_is_not_there_is_a_problem(src: Path) -> None:
    """So is a directory where nobody asks for directories."""
    missing, skipped = starts(src, b"nope", b"d", preserve=Preserve())
    assert isinstance(missing, Problem)
    assert isinstance(skipped, Problem)
    assert (missing.kind, missing.path) == (ProblemKind.FAILED, bytes(src / "nope"))
    assert (skipped.kind, skipped.path) == (ProblemKind.SKIPPED, bytes(src / "d"))


def test_a_list_needs_one_directory(src: Path) -> None:
    """Two SRCs are a usage error; a SRC that is a file, or missing, cannot be used."""
    listed = SyncOptions(files_from=(b"f",), relative=True)
    with pytest.raises(UsageError):
        resolve([bytes(src), bytes(src)], bytes(src / "dst"), listed)
    for name in ("f", "nope"):
        with pytest.raises(SelectionError):
            resolve([bytes(src / name)], bytes(src / "dst"), listed)


def test_source_and_destination_are_not_the_same(src: Path) -> None:
    """Nor is DST in a directory that is walked."""
    with pytest.raises(SelectionError, match="the same"):
        resolve([bytes(src)], bytes(src), SyncOptions(files_from=(b"f",), relative=True))
    with pytest.raises(SelectionError, match="the same"):
        resolve([bytes(src)], bytes(src / "f"), SyncOptions(files_from=(b"f",), relative=True))
    walked = SyncOptions(files_from=(b"d",), relative=True)
    with pytest.raises(SelectionError, match="inside"):
        resolve([bytes(src)], bytes(src / "d" / "new"), walked)
    resolve([bytes(src)], bytes(src / "d" / "new"), SyncOptions(files_from=(b"f",), relative=True))


def test_a_single_file_may_get_another_name(src: Path, tmp_path: Path) -> None:
    """As with an operand: where DST is not there it is the file's new name."""
    listed = SyncOptions(files_from=(b"f",), relative=True)
    transfers, target, problems = resolve([bytes(src)], bytes(tmp_path / "new"), listed)
    assert transfers == [Transfer(bytes(src), (Named(b"", (b"f",), b"new"),))]
    assert (target.root, problems) == (bytes(tmp_path), [])
