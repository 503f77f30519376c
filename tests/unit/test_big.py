"""Files that all lanes copy together: sizes, holes, methods, faults, on both engines."""

from __future__ import annotations

import errno
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from arsync.model import Method, Op
from arsync.uring.faults import FOREVER, Action, counted, fault, passes, paused_at
from tests.kit import Fifo, File, Pattern, Sparse, Symlink, Tree, assert_same, make
from tests.kit.filesystems import Filesystems, filesystem
from tests.kit.snapshot import data_ranges
from tests.kit.syncing import (
    BIG,
    CHUNK,
    assert_hashed,
    litter,
    run,
    running,
    single,
)
from tests.requirements import need_filesystem, need_root

MIB = 1 << 20
TIB = 1 << 40
NS = 1_700_000_000_123_456_789


pytestmark = pytest.mark.usefixtures("no_litter")


def one_file(where: Path, content: Pattern | Sparse) -> tuple[Path, Path]:
    """Make a source of one file."""
    make(Tree({"f": File(content, mtime_ns=NS)}), where / "src")
    return where / "src", where / "dst"


@pytest.mark.parametrize("size", [BIG - 1, BIG, BIG + 1, BIG + CHUNK + 4097])
def test_sizes_around_the_bound(tmp_path: Path, engine: str, size: int) -> None:
    """One lane or all: the same content and the same hash."""
    src, dst = one_file(tmp_path, Pattern(size, 1))
    ran = run(src, dst, engine=engine, cpu_count=3, copy_method="read_write")
    assert (ran.code, ran.report.counts.done_bytes) == (0, size)
    assert_same(src, dst)
    assert_hashed(ran.changes[b"f"], (src / "f").read_bytes())


@pytest.mark.parametrize(("buffer_bytes", "depth"), [(4096, 1), (12288, 3), (64 << 20, 2)])
def test_any_buffer_and_depth(tmp_path: Path, engine: str, buffer_bytes: int, depth: int) -> None:
    """Blocks of odd sizes, a ring of one entry."""
    src, dst = one_file(tmp_path, Pattern(BIG + 5, 1))
    ran = run(
        src,
        dst,
        engine=engine,
        buffer_bytes=buffer_bytes,
        queue_depth=depth,
        copy_method="read_write",
        cpu_count=2,
    )
    assert ran.code == 0
    assert_same(src, dst)
    assert_hashed(ran.changes[b"f"], (src / "f").read_bytes())


SHAPES = {
    "only hole": Sparse(BIG + 7),
    "hole first": Sparse(BIG + 7, {BIG: b"end"}),
    "hole last": Sparse(2 * BIG, {0: Pattern(MIB + 1)}),
    "islands": Sparse(BIG + MIB, {at * 5 * MIB + at: b"x" * 9000 for at in range(7)}),
}


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_holes(filesystems: Filesystems, engine: str, shape: str, inplace: bool) -> None:
    """Holes stay holes, and what stood in their place in an older file is gone."""
    with filesystems.mount("ext4").directory() as where:
        src, dst = one_file(where, SHAPES[shape])
        make(Tree({"f": File(Pattern(9 * MIB), mtime_ns=1)}), dst)
        ran = run(src, dst, engine=engine, inplace=inplace)
        assert ran.code == 0
        assert_same(src, dst, holes=True)
        assert_hashed(ran.changes[b"f"], (src / "f").read_bytes())
        counts = ran.report.counts
        assert counts.done_bytes + counts.hole_bytes == counts.moved_bytes == SHAPES[shape].size


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("old", [None, b"old" * MIB])
def test_a_hole_of_two_tebibytes(
    filesystems: Filesystems, engine: str, inplace: bool, old: bytes | None
) -> None:
    """It is not read, also under --inplace: where nothing stood there is nothing to overwrite."""
    need_filesystem("xfs")
    with filesystems.mount("xfs").directory() as where:
        src, dst = where / "src", where / "dst"
        for place, name in ((src, "f"), (dst, "other" if old is None else "f")):
            place.mkdir()
            (place / name).write_bytes(old or b"")
        with (src / "f").open("wb") as file:
            for offset, data in ((TIB, b"middle"), (2 * TIB, b"end")):
                file.seek(offset)
                file.write(data)
        began_s = time.monotonic()
        ran = run(src, dst, engine=engine, inplace=inplace, reflink="never")
        assert ran.code == 0
        assert time.monotonic() - began_s < 60
        assert os.stat(dst / "f").st_size == 2 * TIB + 3
        assert os.stat(dst / "f").st_blocks * 512 < 20 * MIB
        with (dst / "f").open("rb") as file:
            for offset, data in ((0, bytes(4 * MIB)), (TIB, b"middle"), (2 * TIB, b"end")):
                file.seek(offset)
                assert file.read(len(data)) == data


KINDS = ("ext4", "xfs", "btrfs", "tmpfs")
METHODS = ("auto", "copy_file_range", "splice", "read_write", "direct")
SHARED = [(kind, "reflink") for kind in ("xfs", "btrfs")]


@pytest.mark.parametrize(
    ("kind", "method"), [*((kind, method) for kind in KINDS for method in METHODS), *SHARED]
)
def test_holes_by_every_method(
    filesystems: Filesystems, engine: str, kind: str, method: str
) -> None:
    """Holes of SRC stay holes; a run of zeros stays one, and becomes a hole under -S."""
    need_root()
    zeros = File(b"a" * MIB + bytes(BIG) + b"end", mtime_ns=NS)
    with filesystems.mount(kind).directory() as where:
        src, dst = where / "src", where / "dst"
        holes = File(Sparse(BIG + 7, {MIB: Pattern(MIB), 20 * MIB + 9: b"x" * 9000}), mtime_ns=NS)
        make(Tree({"holes": holes, "zeros": zeros}), src)
        os.sync()
        assert run(src, dst, engine=engine, copy_method=method).code == 0
        assert_same(src, dst, holes=True)
        reflink = "always" if method == "reflink" else "never"
        wanted = "auto" if method == "reflink" else method
        other = where / "other"
        ran = run(src, other, engine=engine, copy_method=wanted, reflink=reflink, sparse=True)
        assert ran.code == 0
        assert_same(src, other)
        os.sync()
        if method != "reflink":
            assert (other / "zeros").stat().st_blocks * 512 < 4 * MIB
            assert ran.changes[b"zeros"].method == Method.READ_WRITE


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("kind", ["ext4", "btrfs"])
def test_zeros_that_are_stored_beside_holes(
    filesystems: Filesystems, engine: str, kind: str, inplace: bool
) -> None:
    """A hole of SRC is one in DST, at its place and of its length; zeros are stored as at SRC."""
    need_root()
    stored = {5 * MIB: bytes(6 * MIB), BIG - 4096: b"x" * 4096, BIG + 3 * MIB: bytes(8192)}
    with filesystems.mount(kind).directory() as where:
        src, dst = one_file(where, Sparse(BIG + 7 * MIB, stored))
        make(Tree({"f": File(Pattern(BIG), mtime_ns=1)}), dst)
        ran = run(src, dst, engine=engine, inplace=inplace, reflink="never")
        assert ran.code == 0
        assert_same(src, dst)
        assert_hashed(ran.changes[b"f"], (src / "f").read_bytes())
        os.sync()
        expected = [(at, at + len(content)) for at, content in stored.items()]
        assert stored_ranges(src / "f") == stored_ranges(dst / "f") == expected
        assert run(src, where / "thin", engine=engine, sparse=True, reflink="never").code == 0
        assert stored_ranges(where / "thin/f") == [expected[1]]


def stored_ranges(path: Path) -> list[tuple[int, int]]:
    """Return where a file has data, as the filesystem says it."""
    with path.open("rb") as file:
        return list(data_ranges(file.fileno(), path.stat().st_size))


@pytest.mark.parametrize(("sparse", "allocated"), [(False, BIG), (True, 0)])
def test_preallocated(filesystems: Filesystems, engine: str, sparse: bool, allocated: int) -> None:
    """--preallocate takes the room of holes too; under -S they stay holes."""
    with filesystems.mount("ext4").directory() as where:
        src, dst = one_file(where, SHAPES["islands"])
        ran = run(src, dst, engine=engine, preallocate=True, sparse=sparse)
        assert ran.code == 0
        assert_same(src, dst)
        stored = (dst / "f").stat().st_blocks * 512
        assert allocated <= stored <= allocated + 2 * MIB


@pytest.mark.parametrize("size", [5, BIG + 5])
@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
def test_a_reflink_in_place_of_a_longer_file(
    filesystems: Filesystems, engine: str, kind: str, size: int
) -> None:
    """The kernel refuses one that ends in the middle of a block with more behind it."""
    need_root()
    with filesystems.mount(kind).directory() as where:
        src, dst = one_file(where, Pattern(size, 1))
        make(Tree({"f": File(Pattern(size + 9 * MIB, 2), mtime_ns=1)}), dst)
        inode = os.stat(dst / "f").st_ino
        ran = run(src, dst, engine=engine, inplace=True, copy_method="reflink")
        assert (ran.code, ran.changes[b"f"].method) == (0, Method.REFLINK)
        assert_same(src, dst)
        assert os.stat(dst / "f").st_ino == inode


def test_a_hole_of_a_tebibyte(filesystems: Filesystems, engine: str) -> None:
    """Neither read, nor written, nor hashed byte by byte."""
    with filesystems.mount("ext4").directory() as where:
        src, dst = one_file(where, Sparse(TIB, {TIB // 2: b"x"}))
        ran = run(src, dst, engine=engine)
        assert ran.code == 0
        assert (dst / "f").stat().st_size == TIB
        assert (dst / "f").stat().st_blocks < 100
        with (dst / "f").open("rb") as file:
            file.seek(TIB // 2)
            assert file.read(3) == b"x\0\0"


@pytest.mark.parametrize("kind", ["ext4", "xfs", "tmpfs"])
@pytest.mark.parametrize(
    ("method", "used"),
    [
        ("read_write", Method.READ_WRITE),
        ("copy_file_range", Method.COPY_RANGE),
        ("splice", Method.SPLICE),
        ("direct", Method.DIRECT),
    ],
)
def test_a_method_that_is_asked_for(
    filesystems: Filesystems, engine: str, kind: str, method: str, used: Method
) -> None:
    """It is used, it says so, and only what passed through arsync has a hash."""
    need_root()
    with filesystems.mount(kind).directory() as where:
        src, dst = one_file(where, Pattern(BIG + 4097, 1))
        ran = run(src, dst, engine=engine, copy_method=method)
        assert ran.code == 0
        assert_same(src, dst)
        assert ran.changes[b"f"].method == used
        if used in (Method.READ_WRITE, Method.DIRECT):
            assert_hashed(ran.changes[b"f"], (src / "f").read_bytes())
        else:
            assert ran.changes[b"f"].hash == b""


def test_no_reflink(filesystems: Filesystems, engine: str) -> None:
    """--reflink=never: the bytes are copied also where they could be shared."""
    with filesystems.mount("xfs").directory() as where:
        src, dst = one_file(where, Pattern(BIG, 1))
        ran = run(src, dst, engine=engine, reflink="never")
        assert ran.changes[b"f"].method != Method.REFLINK
        assert_same(src, dst)


@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
def test_reflink(filesystems: Filesystems, engine: str, kind: str) -> None:
    """Shared as a whole, at once."""
    with filesystems.mount(kind).directory() as where:
        src, dst = one_file(where, Pattern(BIG, 1))
        ran = run(src, dst, engine=engine, copy_method="reflink")
        assert (ran.code, ran.changes[b"f"].method) == (0, Method.REFLINK)
        assert_same(src, dst)


@pytest.mark.parametrize("older", [0, 1, BIG - 9, 2 * BIG])
def test_in_place(tmp_path: Path, engine: str, older: int) -> None:
    """--inplace: the inode stays, and nothing of the old content."""
    src, dst = one_file(tmp_path, Pattern(BIG + 3, 1))
    make(Tree({"f": File(Pattern(older, 2), mtime_ns=1)}), dst)
    inode = os.stat(dst / "f").st_ino
    ran = run(src, dst, engine=engine, inplace=True, copy_method="read_write")
    assert ran.code == 0
    assert_same(src, dst)
    assert os.stat(dst / "f").st_ino == inode


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_something_else_in_its_place(tmp_path: Path, engine: str, kind: str, inplace: bool) -> None:
    """It is replaced, never written into."""
    src, dst = one_file(tmp_path, Pattern(BIG, 1))
    outside = tmp_path / "outside"
    outside.write_bytes(b"outside")
    old = {"link": Symlink(target=str(outside)), "fifo": Fifo(), "directory": {}}[kind]
    make(Tree({"f": old}), dst)
    ran = run(src, dst, engine=engine, inplace=inplace)
    assert (ran.code, ran.problems) == (0, [])
    assert_same(src, dst)
    assert outside.read_bytes() == b"outside"


def test_temporary_directory_on_another_filesystem(filesystems: Filesystems, engine: str) -> None:
    """A rename cannot come from there: it is made beside its target after all."""
    with (
        filesystems.mount("ext4").directory() as where,
        filesystems.mount("tmpfs").directory() as temp,
    ):
        src, dst = one_file(where, Pattern(BIG, 1))
        ran = run(src, dst, engine=engine, temp_dir=os.fsencode(temp))
        assert (ran.code, ran.problems) == (0, [])
        assert_same(src, dst)
        assert os.listdir(temp) == []


@pytest.mark.parametrize("method", ["read_write", "copy_file_range", "splice", "direct"])
def test_short_and_transient(filesystems: Filesystems, engine: str, method: str) -> None:
    """Short calls are gone on with, passing errors tried again."""
    with filesystems.mount("ext4").directory() as where:
        src, dst = one_file(where, Pattern(BIG + 1, 1))
        op = {"copy_file_range": Op.COPY_RANGE, "splice": Op.SPLICE}.get(method, Op.READ)
        with fault(op, Action.SHORT, 300_001, count=FOREVER):
            assert run(src, dst, engine=engine, copy_method=method).code == 0
        assert_same(src, dst)
        ops = (Op.OPEN_FILE, Op.CREATE, Op.RENAME, Op.WRITE, Op.READ)
        for number, failing in enumerate(ops if method == "read_write" else (op,)):
            other = where / f"dst{number}"
            with fault(failing, Action.ERROR, errno.ETIMEDOUT, count=2):
                ran = run(src, other, **single(engine), copy_method=method)
            assert (ran.code, ran.problems) == (0, []), failing
            assert ran.report.counts.retries >= 1
            assert_same(src, other)


def test_an_error_on_one_lane_is_the_file_s(tmp_path: Path, engine: str) -> None:
    """Whichever stretch fails: nothing with a gap gets a name."""
    src, dst = one_file(tmp_path, Pattern(3 * BIG, 1))
    for skip in (0, 40, 90):
        with fault(Op.WRITE, Action.ERROR, errno.EIO, skip=skip):
            ran = run(src, dst, engine=engine, cpu_count=4, copy_method="read_write")
        assert (ran.code, os.listdir(dst)) == (23, [])
        assert [(path, error) for path, _, error in ran.failed] == [(b"f", errno.EIO)]
        assert ran.report.copied_bytes == 0
        assert ran.report.counts.moved_bytes > 0 or skip == 0


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let every write beyond this size fail with EFBIG."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_a_lasting_error_is_not_forgotten_for_a_passing_one(tmp_path: Path, engine: str) -> None:
    """One lane stands in its first stretch while the other fails for good, then tries again."""
    src, dst = one_file(tmp_path, Pattern(3 * BIG, 1))
    settings = {"engine": engine, "cpu_count": 2, "copy_method": "read_write"}
    before_it_fails = 1 + 4 * 16 + 2 + 1  # writes of the two lanes, the failing one included
    with paused_at(Op.WRITE) as pause, running(src, dst, **settings) as ran:
        with largest_file(82 * MIB):
            pause.wait()
            while passes(Op.WRITE) < before_it_fails:
                time.sleep(0.001)
            time.sleep(0.05)  # it has passed the failpoint: the write itself is yet to fail
        with fault(Op.WRITE, Action.ERROR, errno.ETIMEDOUT):
            pause.resume()
            while not passes(Op.WRITE):
                time.sleep(0.001)
    assert (ran.code, os.listdir(dst)) == (23, [])
    assert [(path, error) for path, _, error in ran.failed] == [(b"f", errno.EFBIG)]


def test_a_full_filesystem(tmp_path: Path, engine: str) -> None:
    """Exit code 11, and nothing of the file stays."""
    need_root()
    src, _ = one_file(tmp_path, Pattern(BIG, 1))
    with filesystem("ext4", size_bytes=24 * MIB) as small:
        ran = run(src, small.path, engine=engine)
        assert ran.code == 11
        assert litter(small.path) == []
        assert os.listdir(small.path) == ["lost+found"]


@pytest.mark.parametrize("preallocate", [False, True])
def test_a_full_filesystem_written_in_place(tmp_path: Path, engine: str, preallocate: bool) -> None:
    """What was allocated for a file that has no room is given back; its name stays its own."""
    need_root()
    src, _ = one_file(tmp_path, Pattern(BIG, 1))
    with filesystem("ext4", size_bytes=24 * MIB) as small:
        ran = run(src, small.path, engine=engine, inplace=True, preallocate=preallocate)
        assert ran.code == 11
        assert os.stat(small.path / "f").st_blocks * 512 < MIB


BIG_OPS = (
    Op.OPEN_FILE,
    Op.OPEN_DIR,
    Op.OPEN_TARGET,
    Op.STAT,
    Op.READ,
    Op.SEEK,
    Op.CREATE,
    Op.WRITE,
    Op.TRUNCATE,
    Op.ALLOCATE,
    Op.REFLINK,
    Op.CHOWN,
    Op.CHMOD,
    Op.UTIMES,
    Op.RENAME,
    Op.MEMORY,
)


@pytest.mark.parametrize("op", BIG_OPS)
def test_each_pass_of_each_operation_fails_once(tmp_path: Path, engine: str, op: Op) -> None:
    """The run ends and says so, the old file stays or the new one is whole; the next run heals."""
    src, dst = one_file(tmp_path, Sparse(BIG + 5, {0: Pattern(3 * MIB), BIG: b"end"}))
    with counted():
        assert run(src, dst, **single(engine)).code == 0
        total = passes(op)
    for skip in range(0, total, max(1, total // 6)):
        os.unlink(dst / "f")
        make(Tree({"f": File(b"old", mtime_ns=1)}), dst)
        error = errno.ENOMEM if op == Op.MEMORY else errno.EIO
        with fault(op, Action.ERROR, error, skip=skip):
            ran = run(src, dst, **single(engine))
        told = f"{op.name} {skip}: {ran.problems} {ran.error!r}"
        assert litter(dst) == [], told
        if (dst / "f").stat().st_size == 3:
            assert ran.code != 0, told
        else:
            assert_same(src, dst, modes=False, owners=False, times=False)
        if ran.code == 0:
            assert_same(src, dst)
        assert run(src, dst, **single(engine)).code == 0, told
        assert_same(src, dst)
