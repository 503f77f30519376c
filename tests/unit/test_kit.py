"""The kit tells the truth: trees land as they were written, and no difference goes unseen."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kit import (
    Aspects,
    Device,
    Dir,
    Fifo,
    File,
    HardLink,
    Node,
    Pattern,
    Socket,
    Sparse,
    Symlink,
    Tree,
    acl,
    assert_same,
    capability,
    differences,
    make,
    read,
)
from tests.kit.filesystems import Filesystems, filesystem
from tests.kit.programs import run_arsync
from tests.requirements import need_command, need_filesystem, need_root

ACL = acl("u::rw-,u:1:r--,g::r--,m::r--,o::r--")
DEFAULT_ACL = acl("u::rwx,u:2:rwx,g::r-x,m::rwx,o::---")

FULL = Tree(
    {
        "d": {"f": File(b"x", mode=0o4755, uid=3, gid=4, mtime_ns=-5, xattrs={"user.a": b""})},
        "acl": File(b"acl", acl=ACL),
        "capable": File(
            b"program", mode=0o755, xattrs={"security.capability": capability(1 << 10)}
        ),
        "default": Dir(mode=0o2750, default_acl=DEFAULT_ACL, mtime_ns=7),
        b"odd\n\xff'\"": File(Pattern(70_000, seed=1), xattrs={"trusted.t": b"\0\1"}),
        "link": Symlink(b"nowhere/\xfe", mtime_ns=2**32 * 10**9 + 1),
        "fifo": Fifo(mode=0o600),
        "socket": Socket(mode=0o640),
        "char": Device("c", 1, 5, mode=0o666),
        "block": Device("b", 7, 200),
        "other name": HardLink("d/f"),
        "sparse": File(Sparse(1 << 30, {1 << 20: b"data", 500_000_000: Pattern(5000)})),
    },
    root=Dir(mode=0o751, mtime_ns=12_345),
).at(1_000_000_000)


@pytest.fixture
def place(filesystems: Filesystems) -> Iterator[Path]:
    """Lend a directory that can hold everything."""
    with filesystems.mount("ext4").directory() as path:
        yield path


def changed(path: bytes, **fields: object) -> Tree:
    """Return FULL with one node changed."""
    node: Node = FULL.nodes[path]
    return Tree.flat({**FULL.nodes, path: replace(node, **fields)}, FULL.root)  # type: ignore[arg-type]


def without(path: bytes) -> Tree:
    """Return FULL without one node."""
    return Tree.flat({key: node for key, node in FULL.nodes.items() if key != path}, FULL.root)


def replaced(path: bytes, node: Node) -> Tree:
    """Return FULL with another node at a path."""
    return Tree.flat({**FULL.nodes, path: node}, FULL.root)


def test_a_tree_made_twice_is_the_same(each_filesystem: Path) -> None:
    """Each filesystem holds everything that the kit can make, and the kit reads it back equal."""
    one, two = each_filesystem / "one", each_filesystem / "two"
    make(FULL, one)
    make(FULL, two)
    assert_same(one, two, holes=True)
    assert len(read(one)) == len(FULL.nodes) + 1


def test_a_tree_lands_as_it_is_written(place: Path) -> None:
    """What stat and its sisters say of a made tree is what the literal says."""
    make(FULL, place)
    found = read(place)
    shared = found[b"d/f"]
    assert (shared.mode, shared.uid, shared.gid, shared.mtime_ns) == (0o4755, 3, 4, -5)
    assert shared.xattrs == {"user.a": b""}
    assert shared.links == (b"d/f", b"other name")
    assert found[b"acl"].xattrs == {"system.posix_acl_access": ACL}
    assert found[b"default"].xattrs == {"system.posix_acl_default": DEFAULT_ACL}
    assert found[b"default"].mode == 0o2750
    assert found[b"link"].target == b"nowhere/\xfe"
    assert found[b"link"].mtime_ns == 2**32 * 10**9 + 1
    assert found[b"block"].device == (7, 200)
    assert (found[b""].mode, found[b""].mtime_ns) == (0o751, 12_345)
    assert stat.S_ISSOCK(os.lstat(place / "socket").st_mode)
    assert os.stat(place / "sparse").st_blocks * 512 < 1 << 20
    assert os.pread(os.open(place / "sparse", os.O_RDONLY), 4, 1 << 20) == b"data"


DIFFERENCES = {
    "content": ("content", changed(b"d/f", content=b"y")),
    "size": ("content", changed(b"d/f", content=b"xx")),
    "zeros at the end": ("content", changed(b"d/f", content=b"x\0")),
    "a late byte": (
        "content",
        changed(b"sparse", content=Sparse(1 << 30, {1 << 20: b"dat4", 500_000_000: Pattern(5000)})),
    ),
    "setuid": ("mode", changed(b"d/f", mode=0o755)),
    "owner": ("owner", changed(b"d/f", uid=5)),
    "group": ("owner", changed(b"d/f", gid=5)),
    "mtime of a file": ("mtime in ns", changed(b"d/f", mtime_ns=-4)),
    "mtime of a symlink": ("mtime in ns", changed(b"link", mtime_ns=2**32 * 10**9)),
    "mtime of a directory": ("mtime in ns", changed(b"default", mtime_ns=8)),
    "mtime of the root": ("mtime in ns", Tree.flat(FULL.nodes, replace(FULL.root, mtime_ns=1))),
    "value of an xattr": ("xattrs", changed(b"d/f", xattrs={"user.a": b"1"})),
    "name of an xattr": ("xattrs", changed(b"d/f", xattrs={"user.b": b""})),
    "trusted xattr": ("xattrs", changed(b"odd\n\xff'\"", xattrs={})),
    "capability": (
        "security.capability",
        changed(b"capable", xattrs={"security.capability": capability(1)}),
    ),
    "ACL": (
        "system.posix_acl_access",
        changed(b"acl", mode=0o666, acl=acl("u::rw-,u:1:-w-,g::r--,m::r--,o::r--")),
    ),
    "default ACL": ("system.posix_acl_default", changed(b"default", default_acl=None)),
    "target": ("target", changed(b"link", target=b"nowhere")),
    "device": ("device", changed(b"char", minor=3)),
    "hard links": ("hard links", replaced(b"other name", replace(FULL.nodes[b"d/f"]))),
    "missing": ("only on the first side", without(b"fifo")),
    "type": ("fifo != socket", replaced(b"fifo", Socket(mode=0o600, mtime_ns=10**9))),
    "kind of device": (
        "character device != block device",
        replaced(b"char", Device("b", 1, 5, mode=0o666, mtime_ns=10**9)),
    ),
    "file for a directory": ("directory != file", replaced(b"default", File())),
}


@pytest.mark.parametrize("what", DIFFERENCES)
def test_no_difference_goes_unseen(what: str, place: Path) -> None:
    """Each kind of difference fails the comparison with a message that names it."""
    make(FULL, place / "one")
    message, tree = DIFFERENCES[what]
    make(tree, place / "two")
    lines = differences(read(place / "one"), read(place / "two"), Aspects())
    assert all(message in line for line in lines), lines
    assert lines
    with pytest.raises(AssertionError, match=message):
        assert_same(place / "one", place / "two")


def test_an_extra_entry_is_seen_on_either_side(place: Path) -> None:
    """An entry that only the second side has is a difference too."""
    make(without(b"fifo"), place / "one")
    make(FULL, place / "two")
    with pytest.raises(AssertionError, match="only on the second side"):
        assert_same(place / "one", place / "two")


def test_holes_count_when_asked_for(place: Path) -> None:
    """A hole that became zeros is equal content, and a difference with holes=True."""
    make(Tree({"f": File(Sparse(1 << 20, {0: b"x"}))}), place / "one")
    make(Tree({"f": File(b"x" + bytes((1 << 20) - 1))}), place / "two")
    assert_same(place / "one", place / "two", times=False)
    with pytest.raises(AssertionError, match="data ranges"):
        assert_same(place / "one", place / "two", times=False, holes=True)


def test_access_times_count_when_asked_for(place: Path) -> None:
    """Access times are compared with atimes=True, and reading a tree does not move them."""
    make(Tree({"f": File(b"x", atime_ns=5, mtime_ns=9)}, root=Dir(mtime_ns=0)), place / "one")
    make(Tree({"f": File(b"x", atime_ns=6, mtime_ns=9)}, root=Dir(mtime_ns=0)), place / "two")
    assert read(place / "one")[b"f"].atime_ns == 5
    assert read(place / "one")[b"f"].atime_ns == 5
    assert_same(place / "one", place / "two")
    with pytest.raises(AssertionError, match="atime"):
        assert_same(place / "one", place / "two", atimes=True)


@pytest.mark.parametrize(
    ("aspect", "what"),
    [
        ("times", "mtime of a file"),
        ("dir_times", "mtime of a directory"),
        ("link_times", "mtime of a symlink"),
        ("owners", "owner"),
        ("modes", "setuid"),
        ("xattrs", "trusted xattr"),
        ("acls", "default ACL"),
        ("links", "hard links"),
    ],
)
def test_an_aspect_can_be_left_out(aspect: str, what: str, place: Path) -> None:
    """A difference is forgiven exactly when its aspect is switched off."""
    make(FULL, place / "one")
    make(DIFFERENCES[what][1], place / "two")
    assert_same(place / "one", place / "two", **{aspect: False})


def test_times_within_one_granule_are_equal(place: Path) -> None:
    """A coarse filesystem's rounding is no difference when its granularity is named."""
    make(Tree({"f": File(mtime_ns=4_000_000_001)}), place / "one")
    make(Tree({"f": File(mtime_ns=4_000_000_000)}), place / "two")
    with pytest.raises(AssertionError, match="mtime"):
        assert_same(place / "one", place / "two", root=False)
    assert_same(place / "one", place / "two", root=False, granularity_ns=10**9)


def test_paths_may_be_longer_than_path_max(place: Path) -> None:
    """A tree of 60 levels with names of 200 bytes, a path of 12,000, is made and read."""
    bottom = b"/".join([b"n" * 200] * 60)
    nodes: dict[bytes, Node] = {bottom[: 200 + 201 * i]: Dir(mtime_ns=i) for i in range(60)}
    nodes[bottom + b"/f"] = File(b"deep", xattrs={"user.a": b"b"}, mtime_ns=1)
    nodes[bottom + b"/h"] = HardLink(bottom + b"/f")
    tree = Tree.flat(nodes, root=Dir(mtime_ns=1))
    make(tree, place / "one")
    make(tree, place / "two")
    assert_same(place / "one", place / "two")
    assert read(place / "one")[bottom + b"/h"].links == (bottom + b"/f", bottom + b"/h")


def test_the_acl_that_setfacl_makes_is_the_one_of_the_kit(place: Path) -> None:
    """The kit's encoding of an ACL is byte for byte what the acl library sets."""
    need_command("setfacl")
    make(Tree({"one": File(acl=ACL), "two": File(mode=0o644)}), place)
    subprocess.run(["setfacl", "-m", "u:1:r--", place / "two"], check=True)
    found = read(place)
    assert found[b"one"].xattrs == found[b"two"].xattrs


def test_a_filesystem_can_be_unmounted_and_mounted_again() -> None:
    """What a test wrote to an image is there after unmounting and mounting it again."""
    need_filesystem("ext4")
    with filesystem("ext4", size_bytes=64 << 20) as mount:
        make(Tree({"f": File(b"kept")}), mount.path)
        mount.unmount()
        assert not (mount.path / "f").exists()
        mount.mount()
        assert (mount.path / "f").read_bytes() == b"kept"
    assert not mount.path.exists()


def test_a_filesystem_goes_even_when_the_test_fails() -> None:
    """A failing block leaves no mount, no loop device and no directory behind."""
    need_root()
    need_filesystem("ext4")
    with pytest.raises(ZeroDivisionError), filesystem("ext4", size_bytes=64 << 20) as mount:
        _ = 1 // 0
    assert not mount.path.exists()
    assert mount.device is not None
    backing = Path("/sys/block") / Path(mount.device).name / "loop/backing_file"
    assert not backing.exists() or "deleted" not in backing.read_text()


def test_an_overlay_holds_a_tree(filesystems: Filesystems) -> None:
    """The kit mounts an overlay that takes a tree with all its metadata."""
    with filesystems.mount("overlay").directory() as path:
        make(FULL, path / "one")
        make(FULL, path / "two")
        assert_same(path / "one", path / "two")


@pytest.mark.parametrize("args", [["--version"], ["--no-such-option"], []])
def test_arsync_runs_inside_as_it_does_outside(
    args: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The quick way to run arsync gives the exit code and both outputs of a process."""
    monkeypatch.setenv("ARSYNC_UNDER_TEST", "inside")
    inside = run_arsync(args)
    monkeypatch.setenv("ARSYNC_UNDER_TEST", "process")
    assert inside == run_arsync(args)
