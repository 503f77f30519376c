"""The executor's first duty: what it leaves is what the source is, on both engines."""

from __future__ import annotations

import os
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from arsync.model import ChangeFlag, Method, ProblemKind, State, WarningKind
from arsync.options import ARCHIVE, Preserve
from tests.kit import (
    Device,
    Dir,
    Fifo,
    File,
    HardLink,
    Pattern,
    Socket,
    Sparse,
    Symlink,
    Tree,
    acl,
    assert_same,
    capability,
    make,
    read,
)
from tests.kit.filesystems import Filesystems
from tests.kit.reference import copy_tree
from tests.kit.syncing import (
    BIG,
    CHUNK,
    FULL,
    Ran,
    assert_hashed,
    litter,
    open_descriptors,
    run,
)
from tests.requirements import need_root, need_uring

MIB = 1 << 20
NS = 1_700_000_000_123_456_789
BUFFER = 64 << 10


@pytest.fixture
def odd_umask() -> Iterator[None]:
    """Let nothing through by default."""
    old = os.umask(0o777)
    yield
    os.umask(old)


pytestmark = pytest.mark.usefixtures("no_litter")


def everything() -> Tree:
    """Describe one entry of each kind with each attribute that it can have."""
    acls = {"acl": acl("u::rw-,u:7:r--,g::r--,m::rw-,o::---")}
    user = {"user.one": b"1", "user.empty": b"", "user.long": bytes(1000), "trusted.t": b"\0x"}
    odd = bytes(byte for byte in range(1, 256) if byte != ord("/"))[:250]
    return Tree(
        {
            "plain": File(b"plain", mode=0o644, uid=1, gid=2, mtime_ns=NS),
            "rich": File(b"rich", mode=0o640, uid=3, gid=4, mtime_ns=NS, xattrs=user, **acls),
            "suid": File(b"s", mode=0o4755, uid=5, gid=6),
            "sgid": File(b"s", mode=0o2755, uid=5, gid=6),
            "sgid, not x": File(b"s", mode=0o2644, uid=5, gid=6),
            "all bits": File(b"s", mode=0o7777, uid=5, gid=6),
            "no bits": File(b"s", mode=0),
            "capable": File(
                b"c",
                mode=0o755,
                uid=9,
                gid=9,
                xattrs={"security.capability": capability(1 << 10)},
            ),
            "old": File(b"o", mtime_ns=-5_000_000_000 + 7),
            "dir": Dir(
                {"inner": Dir({"f": File(b"f", mtime_ns=3)}, mode=0o3777, mtime_ns=5)},
                mode=0o2750,
                uid=11,
                gid=12,
                mtime_ns=4,
                xattrs={"user.d": b"d"},
                acl=acl("u::rwx,u:8:r-x,g::r-x,m::r-x,o::---"),
                default_acl=acl("u::rwx,u:9:rwx,g::---,m::rwx,o::---"),
            ),
            "empty dir": Dir(mode=0o700, uid=1, gid=1, mtime_ns=NS),
            "closed dir": Dir({"f": File(b"f")}, mode=0, mtime_ns=NS),
            "link": Symlink(target="plain", uid=2, gid=3, mtime_ns=NS + 1),
            "dangling": Symlink(target="nowhere/at/all"),
            "long link": Symlink(target="x" * 4095, mtime_ns=2),
            "fifo": Fifo(mode=0o610, uid=4, gid=4, mtime_ns=NS),
            "socket": Socket(mode=0o711, uid=5, gid=5, mtime_ns=NS),
            "char": Device(kind="c", major=1, minor=3, mode=0o666, mtime_ns=NS),
            "block": Device(kind="b", major=7, minor=200, mode=0o4660, uid=1, mtime_ns=NS),
            "second name": HardLink(target="dir/inner/f"),
            "second link": HardLink(target="link"),
            "second fifo": HardLink(target="fifo"),
            "n" * 255: File(b"long name"),
            odd: File(b"odd name", mtime_ns=1),
            "-rf": File(b"an option"),
            ".hidden": {"..x": File(b"dots")},
        }
    )


def mode_of(path: Path) -> int:
    """Return the permission bits of an entry itself."""
    return stat.S_IMODE(os.lstat(path).st_mode)


# ------------------------------------------------------------ every kind of entry


@pytest.mark.usefixtures("odd_umask")
def test_everything_on_a_fresh_destination(tmp_path: Path, engine: str) -> None:
    """What the plainest copy leaves is what the executor leaves, whatever the umask."""
    need_root()
    src, dst, plain = tmp_path / "src", tmp_path / "dst", tmp_path / "plain"
    old = os.umask(0o022)
    make(everything(), src)
    copy_tree(src, plain)
    os.umask(old)
    ran = run(src, dst, engine=engine)
    assert (ran.code, ran.problems) == (0, [])
    assert_same(src, dst)
    assert_same(plain, dst)
    assert run(src, dst, engine=engine).changes == {}


def test_everything_over_something_else(tmp_path: Path, engine: str) -> None:
    """Each name is something else before: another type, content, mode, owner, attribute, time."""
    need_root()
    src, dst = tmp_path / "src", tmp_path / "dst"
    make(everything(), src)
    kinds = [
        lambda: File(b"other", mode=0o6711, uid=77, gid=78, mtime_ns=99, xattrs={"user.x": b"y"}),
        lambda: Symlink(target="elsewhere"),
        lambda: Fifo(mode=0o600),
        lambda: Dir({}),
        lambda: Socket(),
    ]
    names = sorted(path for path in everything().nodes if b"/" not in path)
    other = {name: kinds[index % len(kinds)]() for index, name in enumerate(names)}
    make(Tree(other), dst)
    ran = run(src, dst, engine=engine)
    assert (ran.code, ran.problems) == (0, [])
    assert_same(src, dst)


@pytest.mark.usefixtures("odd_umask")
def test_only_attributes_are_set_where_only_they_differ(tmp_path: Path, engine: str) -> None:
    """Nothing is copied again, and removed attributes and ACLs go."""
    need_root()
    src, dst = tmp_path / "src", tmp_path / "dst"
    old = os.umask(0)
    make(everything(), src)
    copy_tree(src, dst)
    inodes = {path: entry.inode for path, entry in read(dst).items()}
    for path, entry in read(dst).items():
        where = os.fsencode(dst) + b"/" + path
        os.chown(where, 500, 501, follow_symlinks=False)
        if entry.kind != "symlink":
            os.chmod(where, 0o111 if entry.kind == "file" else 0o707)
        if entry.kind in ("file", "directory"):
            os.setxattr(where, "user.stray", b"stray")
            os.setxattr(where, "system.posix_acl_access", acl("u::rw-,u:9:r--,g::-,m::r,o::-"))
        if entry.kind == "directory":
            os.setxattr(where, "system.posix_acl_default", acl("u::rw-,u:9:r--,g::-,m::r,o::-"))
        os.utime(where, ns=(entry.atime_ns, entry.mtime_ns), follow_symlinks=False)
    os.umask(old)
    ran = run(src, dst, engine=engine)
    assert (ran.code, ran.problems) == (0, [])
    assert ran.report.counts.done_bytes == 0
    assert_same(src, dst)
    assert {path: entry.inode for path, entry in read(dst).items()} == inodes


@pytest.mark.parametrize("keep", [FULL, ARCHIVE], ids=["-aHAX", "-a"])
@pytest.mark.parametrize("mode", [0o700, 0o750, 0o755, 0o1777])
def test_no_bit_of_the_parent_stays(tmp_path: Path, engine: str, mode: int, keep: Preserve) -> None:
    """A parent with setgid and a default ACL gives neither to what is copied into it."""
    need_root()
    src, dst = tmp_path / "src", tmp_path / "dst"
    tree = {"full": Dir({"f": File(b"1", mode=0o600)}, mode=mode), "empty": Dir(mode=mode)}
    tree |= {"file": File(b"2", mode=mode), "fifo": Fifo(mode=mode)}
    make(Tree(tree, root=Dir(mode=0o755)), src)
    dst.mkdir()
    os.chown(dst, 5, 5)
    os.chmod(dst, 0o2777)
    if keep.acls:
        default = acl("u::rwx,u:9:rwx,g::rwx,m::rwx,o::rwx")
        os.setxattr(dst, "system.posix_acl_default", default)
    assert run(src, dst, keep, engine=engine).code == 0
    assert_same(src, dst)


@pytest.mark.parametrize("keep", [FULL, ARCHIVE], ids=["-aHAX", "-a"])
def test_setgid_of_a_file_that_nobody_may_execute(
    tmp_path: Path, engine: str, keep: Preserve
) -> None:
    """Chown leaves that bit alone, unlike the others: it is taken away all the same."""
    need_root()
    src, dst = tmp_path / "src", tmp_path / "dst"
    make(Tree({"f": File(b"f", mode=0o644, uid=1, gid=1, mtime_ns=NS)}), src)
    make(Tree({"f": File(b"f", mode=0o2644, uid=2, gid=2, mtime_ns=NS)}), dst)
    assert run(src, dst, keep, engine=engine).code == 0
    assert mode_of(dst / "f") == 0o644
    assert_same(src, dst, root=False)


def test_capability_survives_a_change_of_owner(tmp_path: Path, engine: str) -> None:
    """Chown drops it: it is set again, without reading the content."""
    need_root()
    src, dst = tmp_path / "src", tmp_path / "dst"
    cap = {"security.capability": capability(1 << 10)}
    make(Tree({"f": File(b"f", mode=0o4755, uid=1, gid=1, mtime_ns=NS, xattrs=cap)}), src)
    make(Tree({"f": File(b"f", mode=0o4755, uid=2, gid=2, mtime_ns=NS, xattrs=cap)}), dst)
    ran = run(src, dst, engine=engine)
    assert (ran.code, ran.report.counts.done_files) == (0, 0)
    assert_same(src, dst, root=False)


def test_paths_beyond_path_max(tmp_path: Path, engine: str) -> None:
    """A path of 12,000 bytes is copied, and then brought up to date."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    nodes = {b"/".join([b"d" * 200] * depth): Dir() for depth in range(1, 61)}
    deep = b"/".join([b"d" * 200] * 60)
    nodes |= {deep + b"/f": File(b"deep", mtime_ns=NS), deep + b"/l": Symlink(target="f")}
    make(Tree.flat(nodes), src)
    assert run(src, dst, engine=engine).code == 0
    assert_same(src, dst)
    assert run(src, dst, engine=engine).changes == {}
    os.system(f"rm -rf '{src}' '{dst}'")


def test_access_times_are_kept_where_asked_for(filesystems: Filesystems, engine: str) -> None:
    """-U: the source's access times are those of the destination."""
    with filesystems.mount("ext4").directory() as where:
        src, dst = where / "src", where / "dst"
        tree = {"f": File(b"f", atime_ns=NS, mtime_ns=5), "l": Symlink(target="f", atime_ns=9)}
        make(Tree(tree), src)
        assert run(src, dst, replace(FULL, atimes=True), engine=engine).code == 0
        assert_same(src, dst, atimes=True)


# --------------------------------------------------------------- sizes and hashes

SMALL_SIZES = (0, 1, 4095, 4096, 4097, BUFFER - 1, BUFFER, BUFFER + 1, 3 * BUFFER + 5)
CHUNK_SIZES = (CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 1)


def test_sizes_around_every_bound_are_hashed_right(tmp_path: Path, engine: str) -> None:
    """Content and hash at and around block, buffer and hash chunk, equal to another xxhash."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    files = {str(size).encode(): Pattern(size, seed=size) for size in (*SMALL_SIZES, *CHUNK_SIZES)}
    make(Tree({name: File(content) for name, content in files.items()}), src)
    ran = run(src, dst, engine=engine, buffer_bytes=BUFFER, copy_method="read_write")
    assert ran.code == 0
    assert_same(src, dst)
    for name, content in files.items():
        assert_hashed(ran.changes[name], bytes(content))
        assert ran.changes[name].method == Method.READ_WRITE


def test_a_file_that_is_read_in_the_ring(filesystems: Filesystems, engine: str) -> None:
    """What is not in the page cache comes by another way, and is the same."""
    need_root()
    with filesystems.mount("ext4").directory() as where:
        src, dst = where / "src", where / "dst"
        sizes = (1, BUFFER, 5 * BUFFER + 1, CHUNK + 1)
        make(Tree({str(size): File(Pattern(size, size)) for size in sizes}), src)
        os.sync()
        for size in sizes:
            fd = os.open(src / str(size), os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)
        ran = run(src, dst, engine=engine, buffer_bytes=BUFFER, copy_method="read_write")
        assert ran.code == 0
        assert (ran.report.counts.punted > 0) == (engine == "uring")
        assert_same(src, dst)
        for size in sizes:
            assert_hashed(ran.changes[str(size).encode()], bytes(Pattern(size, size)))


@pytest.mark.parametrize("depth", [1, 2, 32768])
def test_any_depth_of_the_ring(tmp_path: Path, depth: int) -> None:
    """The shallowest ring and the deepest one that there is."""
    need_uring()
    src, dst = tmp_path / "src", tmp_path / "dst"
    make(Tree({f"f{one}": File(b"%d" % one * 1000) for one in range(200)}), src)
    ran = run(src, dst, engine="uring", queue_depth=depth, files_in_flight=65536)
    assert (ran.code, ran.report.engine, ran.report.engine_note) == (0, "uring", "")
    assert_same(src, dst)


# ------------------------------------------------------------------------- holes

SHAPES = {
    "empty": Sparse(0),
    "only hole": Sparse(3 * MIB),
    "hole first": Sparse(2 * MIB, {MIB: Pattern(MIB)}),
    "hole last": Sparse(2 * MIB, {0: Pattern(MIB)}),
    "hole between": Sparse(2 * MIB, {0: b"a", 2 * MIB - 1: b"b"}),
    "many holes": Sparse(5 * MIB + 11, {at * 100_000: b"x" * 5000 for at in range(50)}),
    "end in a block": Sparse(MIB + 100, {0: b"x"}),
    "beyond a chunk": Sparse(9 * MIB, {0: b"x", 8 * MIB + 5: b"y"}),
    "zeros": bytes(200_000),
    "zeros inside": b"x" * 8192 + bytes(100_000) + b"y",
}


def sparse_tree() -> Tree:
    """Describe sparse files of all shapes."""
    return Tree({name: File(content, mtime_ns=NS) for name, content in SHAPES.items()})


@pytest.mark.parametrize("sparse", [False, True])
def test_holes_stay_holes(filesystems: Filesystems, engine: str, sparse: bool) -> None:
    """Content and hash are those of the zeros; nothing more is stored than at the source."""
    with filesystems.mount("ext4").directory() as where:
        src, dst = where / "src", where / "dst"
        make(sparse_tree(), src)
        ran = run(src, dst, engine=engine, sparse=sparse, buffer_bytes=BUFFER, reflink="never")
        assert ran.code == 0
        assert_same(src, dst, holes=not sparse)
        for name in SHAPES:
            assert_hashed(ran.changes[name.encode()], (src / name).read_bytes())
            stored = (dst / name).stat().st_blocks
            assert stored <= (src / name).stat().st_blocks
            if sparse and name.startswith("zeros"):
                assert stored < (src / name).stat().st_blocks


@pytest.mark.parametrize("method", ["copy_file_range", "splice", "direct"])
def test_holes_stay_holes_by_every_method(
    filesystems: Filesystems, engine: str, method: str
) -> None:
    """A method that would fill them is not used for them."""
    with filesystems.mount("ext4").directory() as where:
        src, dst = where / "src", where / "dst"
        make(sparse_tree(), src)
        ran = run(src, dst, engine=engine, copy_method=method)
        assert ran.code == 0
        assert_same(src, dst, holes=True)


def older_versions() -> dict[str, Tree]:
    """Describe what may stand where a file is written in place."""
    longer = {name: File(Pattern(12 * MIB, 1), mtime_ns=1) for name in SHAPES}
    shorter = {name: File(b"short", mtime_ns=1) for name in SHAPES}
    return {"nothing": Tree(), "longer": Tree(longer), "shorter": Tree(shorter)}


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("older", ["nothing", "longer", "shorter"])
def test_in_place(filesystems: Filesystems, engine: str, older: str, sparse: bool) -> None:
    """--inplace: the inode stays, and nothing of the old content."""
    with filesystems.mount("ext4").directory() as where:
        src, dst = where / "src", where / "dst"
        make(sparse_tree(), src)
        make(older_versions()[older], dst)
        inodes = {path: entry.inode for path, entry in read(dst).items()}
        ran = run(src, dst, engine=engine, sparse=sparse, inplace=True, buffer_bytes=BUFFER)
        assert ran.code == 0
        assert_same(src, dst)
        assert all(read(dst)[path].inode == inode for path, inode in inodes.items())
        for name in SHAPES:
            assert_hashed(ran.changes[name.encode()], (src / name).read_bytes())


@pytest.mark.parametrize("inplace", [False, True])
def test_what_is_no_regular_file_is_never_written_into(
    tmp_path: Path, engine: str, inplace: bool
) -> None:
    """A device, a fifo that somebody reads, a link, a directory: replaced, also by --inplace."""
    need_root()
    src, dst, outside = tmp_path / "src", tmp_path / "dst", tmp_path / "outside"
    outside.write_bytes(b"outside")
    names = ("device", "fifo", "link", "dir", "socket")
    make(Tree({name: File(b"new", mtime_ns=NS) for name in names}), src)
    old = {
        "device": Device(kind="c", major=1, minor=5),
        "fifo": Fifo(),
        "link": Symlink(target=str(outside)),
        "dir": Dir(),
        "socket": Socket(),
    }
    make(Tree(old), dst)
    reader_fd = os.open(dst / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    try:
        ran = run(src, dst, engine=engine, inplace=inplace)
        assert os.read(reader_fd, 10) == b""
    finally:
        os.close(reader_fd)
    assert (ran.code, ran.problems) == (0, [])
    assert outside.read_bytes() == b"outside"
    assert_same(src, dst)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs"])
def test_preallocated(filesystems: Filesystems, engine: str, kind: str) -> None:
    """--preallocate: equal content, and no room beyond the size."""
    need_root()
    with filesystems.mount(kind).directory() as where:
        src, dst = where / "src", where / "dst"
        sizes = (0, 1, 5000, BUFFER + 1, MIB)
        make(Tree({str(size): File(Pattern(size), mtime_ns=NS) for size in sizes}), src)
        ran = run(src, dst, engine=engine, preallocate=True, copy_method="read_write")
        assert ran.code == 0
        assert_same(src, dst)
        for size in sizes:
            assert (dst / str(size)).stat().st_blocks * 512 <= size + 8192


# ------------------------------------------------------------- temporary directory


def test_temporary_directory_on_the_same_filesystem(tmp_path: Path, engine: str) -> None:
    """--temp-dir: files are made there, and nothing stays."""
    src, dst, temp = tmp_path / "src", tmp_path / "dst", tmp_path / "temp"
    make(Tree({"d": {"f": File(b"1")}, "g": File(b"2")}), src)
    make(Tree({"d": {"f": File(b"old", mtime_ns=1)}}), dst)
    temp.mkdir()
    assert run(src, dst, engine=engine, temp_dir=os.fsencode(temp)).code == 0
    assert_same(src, dst)
    assert os.listdir(temp) == []


def test_temporary_directory_on_another_filesystem(filesystems: Filesystems, engine: str) -> None:
    """A rename cannot come from there: the files are made beside their targets after all."""
    with (
        filesystems.mount("ext4").directory() as where,
        filesystems.mount("tmpfs").directory() as temp,
    ):
        src, dst = where / "src", where / "dst"
        content = {f"f{one}": File(Pattern(one * 50_000, one)) for one in range(9)}
        make(Tree({**content, "s": File(Sparse(MIB, {5000: b"x"}))}), src)
        dst.mkdir()
        before = open_descriptors()
        ran = run(src, dst, engine=engine, temp_dir=os.fsencode(temp), buffer_bytes=BUFFER)
        assert open_descriptors() == before
        assert ran.code == 0
        assert_same(src, dst, holes=True)
        assert os.listdir(temp) == []
        assert ran.report.counts.done_files == 10


# ------------------------------------------------------------------------ methods


def three_files(where: Path) -> tuple[Path, Path]:
    """Make a source of an empty, a small and a larger file."""
    src = where / "src"
    contents = {"empty": b"", "small": b"small", "larger": Pattern(3 * MIB + 7)}
    make(Tree({name: File(content) for name, content in contents.items()}), src)
    return src, where / "dst"


def methods_of(ran: Ran) -> dict[Method, int]:
    """Return how many files each method moved."""
    return {use.method: use.files for use in ran.report.methods}


@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
@pytest.mark.parametrize("how", [{"copy_method": "reflink"}, {"reflink": "always"}])
def test_reflink(filesystems: Filesystems, engine: str, kind: str, how: dict[str, str]) -> None:
    """Shared, so nobody has read it: no hash. An empty file has nothing to share."""
    with filesystems.mount(kind).directory() as where:
        src, dst = three_files(where)
        ran = run(src, dst, engine=engine, **how)
        assert (ran.code, ran.problems) == (0, [])
        assert methods_of(ran) == {Method.REFLINK: 2, Method.READ_WRITE: 1}
        assert not ran.changes[b"larger"].flags & ChangeFlag.HASHED
        assert_same(src, dst)


@pytest.mark.parametrize("how", [{"copy_method": "reflink"}, {"reflink": "always"}])
def test_reflink_that_is_demanded_fails_on_ext4(
    filesystems: Filesystems, engine: str, how: dict[str, str]
) -> None:
    """What would have had to be read is not copied, which is said once; nothing of it stays."""
    with filesystems.mount("ext4").directory() as where:
        src, dst = three_files(where)
        ran = run(src, dst, engine=engine, **how)
        assert ran.code == 23
        assert ran.failed == []
        (warning,) = ran.report.warnings
        assert (warning.kind, warning.count) == (WarningKind.NO_REFLINKS, 2)
        assert {ran.changes[name].state for name in (b"small", b"larger")} == {State.FAILED}
        assert sorted(os.listdir(dst)) == ["empty"]


def test_no_reflink(filesystems: Filesystems, engine: str) -> None:
    """--reflink=never: the bytes are copied also where they could be shared."""
    with filesystems.mount("btrfs").directory() as where:
        src, dst = three_files(where)
        ran = run(src, dst, engine=engine, reflink="never")
        assert Method.REFLINK not in methods_of(ran)
        assert_same(src, dst)


FORCED = {
    "copy_file_range": Method.COPY_RANGE,
    "splice": Method.SPLICE,
    "read_write": Method.READ_WRITE,
    "direct": Method.READ_WRITE,
}


@pytest.mark.parametrize("kind", ["ext4", "xfs", "tmpfs"])
@pytest.mark.parametrize("method", FORCED)
def test_a_method_that_is_asked_for(
    filesystems: Filesystems, engine: str, kind: str, method: str
) -> None:
    """It is used, it says so, and only what passed through arsync has a hash."""
    need_root()
    with filesystems.mount(kind).directory() as where:
        src, dst = three_files(where)
        ran = run(src, dst, engine=engine, copy_method=method)
        assert ran.code == 0
        assert_same(src, dst)
        used = FORCED[method]
        assert ran.changes[b"larger"].method == used
        if used == Method.READ_WRITE:
            assert_hashed(ran.changes[b"larger"], (src / "larger").read_bytes())
        else:
            assert not ran.changes[b"larger"].flags & ChangeFlag.HASHED


def test_a_method_that_is_not_possible_here(filesystems: Filesystems, engine: str) -> None:
    """From one filesystem to another nothing can be shared: it is read and written."""
    with (
        filesystems.mount("xfs").directory() as one,
        filesystems.mount("tmpfs").directory() as other,
    ):
        src, _ = three_files(one)
        ran = run(src, other / "dst", engine=engine)
        assert ran.code == 0
        assert_same(src, other / "dst")
        assert methods_of(ran)[Method.READ_WRITE] == 3


# ---------------------------------------------------------------------- bandwidth


def test_bandwidth_is_limited_over_all_lanes(
    tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every byte takes its token: the bucket's clock stands where so many bytes put it."""
    from arsync import execute

    limits = []

    class Watched(execute.Limit):
        def __init__(self, bytes_per_s: int) -> None:
            super().__init__(bytes_per_s)
            limits.append(self)

    monkeypatch.setattr(execute, "Limit", Watched)
    src, dst = tmp_path / "src", tmp_path / "dst"
    make(Tree({f"f{one}": File(Pattern(MIB + one, one)) for one in range(8)}), src)
    begin_ns = time.monotonic_ns()
    ran = run(src, dst, engine=engine, bwlimit_bytes=40 * MIB)
    assert ran.code == 0
    (limit,) = limits
    least_ns = (8 * MIB) * 10**9 // (40 * MIB)
    assert limit.raw.next_ns - begin_ns >= least_ns
    assert_same(src, dst)


# --------------------------------------------------------------------- hard links


def linked_tree(groups: int, names: int, directories: int) -> Tree:
    """Describe files of many names each, spread over directories."""
    nodes: dict[bytes, object] = {b"d%d" % one: Dir() for one in range(directories)}
    for group in range(groups):
        first = b"d%d/g%d" % (group % directories, group)
        nodes[first] = File(b"group %d" % group, mtime_ns=NS + group)
        for name in range(1, names):
            where = (group * 7 + name * 13) % directories
            nodes[b"d%d/g%d-%d" % (where, group, name)] = HardLink(target=first)
    return Tree.flat(nodes)  # type: ignore[arg-type]


def test_hard_links_over_directories(tmp_path: Path, engine: str) -> None:
    """Thousands of names on all lanes: the same groups, and then nothing to do."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    make(linked_tree(groups=500, names=6, directories=40), src)
    ran = run(src, dst, engine=engine, cpu_count=4)
    assert ran.code == 0
    assert ran.report.counts.done_files == 500
    assert ran.report.counts.done_links == 2500
    assert_same(src, dst)
    assert run(src, dst, engine=engine).changes == {}


def test_hard_links_that_are_wrong_at_the_destination(tmp_path: Path, engine: str) -> None:
    """Joined where they should be apart, apart where they should be joined."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    alike = {"mode": 0o644, "mtime_ns": NS}
    make(
        Tree(
            {
                "a": File(b"1", **alike),
                "b": HardLink(target="a"),
                "c": File(b"2", **alike),
                "d": HardLink(target="c"),
                "e": File(b"3", **alike),
                "f": HardLink(target="e"),
                "l": Symlink(target="x", mtime_ns=NS),
                "m": HardLink(target="l"),
            }
        ),
        src,
    )
    make(
        Tree(
            {
                "a": File(b"1", **alike),
                "b": File(b"1", **alike),
                "c": File(b"2", **alike),
                "d": Dir(),
                "e": File(b"3", **alike),
                "f": HardLink(target="e"),
                "l": Symlink(target="x", mtime_ns=NS),
                "m": Symlink(target="y", mtime_ns=NS),
            }
        ),
        dst,
    )
    kept = os.stat(dst / "e").st_ino
    assert run(src, dst, engine=engine).code == 0
    assert_same(src, dst)
    assert os.stat(dst / "e").st_ino == kept


def test_names_of_one_file_are_copies_without_hard_links(tmp_path: Path, engine: str) -> None:
    """-a alone: each name is a file of its own."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    make(linked_tree(groups=5, names=3, directories=2), src)
    assert run(src, dst, ARCHIVE, engine=engine).code == 0
    assert_same(src, dst, links=False)
    assert all(entry.links == () for entry in read(dst).values())


# ------------------------------------------------------------ what cannot be held


def test_what_the_destination_cannot_hold_is_a_warning(tmp_path: Path, engine: str) -> None:
    """A ramfs has no attributes: the content arrives, the code is rsync's 23, told once a kind."""
    need_root()
    src, dst = tmp_path / "src", tmp_path / "dst"
    user = {"user.x": b"y"}
    rights = acl("u::rw-,u:7:r--,g::r--,m::r--,o::---")
    tree = {"f": File(b"f", mode=0o640, uid=5, gid=6, mtime_ns=NS, xattrs=user, acl=rights)}
    make(Tree({**tree, "d": Dir({"g": File(Pattern(100_000), xattrs=user)}, xattrs=user)}), src)
    dst.mkdir()
    subprocess.run(["mount", "-t", "ramfs", "ramfs", dst], check=True)
    try:
        ran = run(src, dst, engine=engine)
        assert ran.failed == []
        assert len(ran.of(ProblemKind.CANNOT_HOLD)) == 4
        assert {one.kind for one in ran.report.warnings} == {
            WarningKind.NO_XATTRS,
            WarningKind.NO_ACLS,
        }
        assert ran.code == 23
        assert_same(src, dst, xattrs=False, acls=False)
        assert litter(dst) == []
    finally:
        subprocess.run(["umount", "--lazy", dst], check=True)


# --------------------------------------------------------------------- the engine


@pytest.mark.parametrize("lanes", [1, 2, 7])
def test_any_number_of_lanes(tmp_path: Path, engine: str, lanes: int) -> None:
    """One lane or many: the same tree."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    nodes = {
        f"d{one}": {f"f{two}": File(b"%d/%d" % (one, two)) for two in range(20)}
        for one in range(30)
    }
    make(Tree({**nodes, "e": {"f": {"g": {}}}}), src)
    ran = run(src, dst, engine=engine, cpu_count=lanes)
    assert (ran.code, ran.report.lanes, ran.report.engine) == (0, lanes, engine)
    assert ran.report.counts.done_files == 600
    assert_same(src, dst)


def test_a_big_file_among_small_ones(tmp_path: Path, engine: str) -> None:
    """Big files are for all lanes, small ones go on: both end, and the counts are right."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    files: dict[str, File] = {f"f{one}": File(b"x" * one) for one in range(50)}
    make(Tree({"d": {**files, "big": File(Sparse(BIG, {0: b"x"}))}, "e": File(b"e")}), src)
    ran = run(src, dst, engine=engine)
    assert ran.code == 0
    assert ran.report.counts.done_files == 52
    assert_same(src, dst)
