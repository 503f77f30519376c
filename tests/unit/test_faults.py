"""The executor where calls fail: each operation in turn, short, transient, for ever."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import subprocess
import tempfile
import traceback
from dataclasses import replace
from pathlib import Path

import pytest

from arsync.errors import FileError, InternalError
from arsync.model import ChangeFlag, Kind, Op, ProblemKind
from arsync.options import ARCHIVE, ManifestPolicy
from arsync.uring.faults import FOREVER, Action, counted, fault, passes
from tests.kit import (
    Device,
    Dir,
    Fifo,
    File,
    HardLink,
    Pattern,
    Sparse,
    Symlink,
    Tree,
    acl,
    assert_same,
    make,
    read,
)
from tests.kit.children import become_nobody, in_child
from tests.kit.filesystems import Filesystems, filesystem
from tests.kit.syncing import litter, open_descriptors, run, single
from tests.requirements import need_root, need_unprivileged, need_uring

MIB = 1 << 20
BUFFER = 64 << 10
NS = 1_700_000_000_123_456_789


pytestmark = pytest.mark.usefixtures("no_litter")


def some_files(where: Path) -> tuple[Path, Path]:
    """Make a source of small files and ones of several buffers."""
    src = where / "src"
    few = {str(size): File(Pattern(size, size)) for size in (0, 1, BUFFER, 3 * BUFFER + 5)}
    make(Tree({**few, "d": {str(one): File(b"%d" % one) for one in range(30)}}), src)
    return src, where / "dst"


# ------------------------------------------------------ short, interrupted, transient


@pytest.mark.parametrize("op", [Op.READ, Op.WRITE, Op.COPY_RANGE, Op.SPLICE])
@pytest.mark.parametrize("most", [1000, 4096])
def test_short_transfers(tmp_path: Path, engine: str, op: Op, most: int) -> None:
    """A call that moves less than asked for is followed by another one."""
    src, dst = some_files(tmp_path)
    method = {Op.COPY_RANGE: "copy_file_range", Op.SPLICE: "splice"}.get(op, "read_write")
    with fault(op, Action.SHORT, most, count=FOREVER):
        ran = run(src, dst, engine=engine, copy_method=method, buffer_bytes=BUFFER)
        assert passes(op) >= 4 * BUFFER // most
    assert (ran.code, ran.problems) == (0, [])
    assert_same(src, dst)


@pytest.mark.parametrize("op", [Op.OPEN_FILE, Op.READ, Op.CREATE, Op.WRITE, Op.STAT, Op.RENAME])
def test_interrupted_calls_are_repeated(tmp_path: Path, engine: str, op: Op) -> None:
    """EINTR is nobody's failure, and no retry that anybody hears of."""
    src, dst = some_files(tmp_path)
    make(Tree({"d": {"1": File(b"old")}}), dst)
    with fault(op, Action.ERROR, errno.EINTR, count=7):
        ran = run(src, dst, engine=engine, buffer_bytes=BUFFER)
        assert passes(op) > 7
    assert (ran.code, ran.report.counts.retries) == (0, 0)
    assert_same(src, dst)


TRANSIENT = (errno.EAGAIN, errno.EBUSY, errno.ESTALE, errno.ETIMEDOUT)
TRIED_AGAIN = (
    Op.OPEN_FILE,
    Op.READ,
    Op.CREATE,
    Op.WRITE,
    Op.MKDIR,
    Op.RENAME,
    Op.SYMLINK,
    Op.MKNOD,
    Op.LINK,
)


@pytest.mark.parametrize("op", TRIED_AGAIN)
def test_transient_errors_are_tried_again_and_counted(tmp_path: Path, engine: str, op: Op) -> None:
    """A few failures that pass cost a pause and a number in the report."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    tree = {"f": File(b"f"), "l": Symlink(target="f"), "p": Fifo(), "g": HardLink(target="f")}
    make(Tree({**tree, "d": {"x": File(b"x")}}), src)
    make(Tree({"f": File(b"old"), "g": File(b"old")}), dst)
    for error in TRANSIENT:
        shutil.rmtree(dst)
        make(Tree({"f": File(b"old"), "g": File(b"old", mtime_ns=1)}), dst)
        with fault(op, Action.ERROR, error, count=2):
            ran = run(src, dst, **single(engine))
            assert passes(op) >= 2
        assert (ran.code, ran.problems) == (0, [])
        would_block = error == errno.EAGAIN and op in (Op.OPEN_FILE, Op.READ)
        assert ran.report.counts.retries >= (0 if would_block else 1)
        assert_same(src, dst)


def test_a_transient_error_that_stays_is_a_failure(tmp_path: Path, engine: str) -> None:
    """After a few tries the file is given up, and nothing of it stays."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    make(Tree({"f": File(b"f"), "g": File(b"g")}), src)
    with fault(Op.WRITE, Action.ERROR, errno.ETIMEDOUT, count=FOREVER):
        ran = run(src, dst, **single(engine))
    assert ran.code == 23
    assert [error for _, _, error in ran.failed] == [errno.ETIMEDOUT] * 2
    assert ran.report.counts.retries >= 2
    assert os.listdir(dst) == []


# --------------------------------------------------------- descriptors and memory


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
@pytest.mark.parametrize("op", [Op.OPEN_FILE, Op.CREATE, Op.OPEN_DIR, Op.OPEN_TARGET, Op.MKDIR])
def test_scarce_resources_are_waited_for(tmp_path: Path, engine: str, op: Op, error: int) -> None:
    """Fewer in flight, and on: nothing fails."""
    src, dst = some_files(tmp_path)
    make(Tree({"d": {"1": File(b"old", mode=0o600)}}), dst)
    roots = 4 if op == Op.OPEN_DIR else 0  # passes before the walk begins
    with fault(op, Action.ERROR, error, skip=roots + 1, count=3):
        ran = run(src, dst, **single(engine))
    if error == errno.ENOMEM and op == Op.OPEN_DIR and ran.error:
        assert "memory" in str(ran.error)  # the scan has nothing to wait for
        return
    assert (ran.code, ran.problems) == (0, [])
    assert_same(src, dst)


def test_descriptors_run_out_while_many_are_in_flight(tmp_path: Path) -> None:
    """Opens wait on the ring, all at once; some fail for want of descriptors and come again."""
    need_uring()
    src, dst = tmp_path / "src", tmp_path / "dst"
    make(Tree({f"f{one}": File(Pattern(1000, one)) for one in range(300)}), src)
    with fault(Op.CREATE, Action.ERROR, errno.EMFILE, skip=20, count=40):
        ran = run(src, dst, **single("uring"), queue_depth=64)
    assert (ran.code, ran.problems) == (0, [])
    assert ran.report.counts.retries >= 1
    assert_same(src, dst)


@pytest.mark.parametrize("limit", [20, 24, 40, 64])
def test_a_really_low_limit_of_descriptors(tmp_path: Path, engine: str, limit: int) -> None:
    """With hardly any descriptors the run is slow, and ends well."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    tree = {f"d{one}": {f"f{two}": File(b"%d" % two) for two in range(9)} for one in range(40)}
    make(Tree(tree), src)

    def work() -> object:
        used = max(map(int, os.listdir("/proc/self/fd")))
        os.closerange(3, used + 1)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        ran = run(src, dst, engine=engine)
        return [ran.code, [str(one) for one in ran.problems], str(ran.error)]

    assert in_low_child(work) == [0, [], "None"]
    assert_same(src, dst)


def in_low_child(work: object) -> object:
    """Run in a child that closes what it inherits; its answer comes by way of a file."""
    with tempfile.TemporaryDirectory() as directory:
        answer = Path(directory) / "answer"
        pid = os.fork()
        if pid == 0:
            try:
                value = work()  # type: ignore[operator]
            except BaseException:
                value = traceback.format_exc()
            answer.write_text(json.dumps(value))
            os._exit(0)
        os.waitpid(pid, 0)
        return json.loads(answer.read_text())


# ------------------------------------------------------------------------ the ring


def evict(directory: Path) -> None:
    """Drop the content of all files from the page cache: reading them would block."""
    for path in directory.rglob("*"):
        if path.is_file():
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


@pytest.mark.parametrize("error", [errno.EBUSY, errno.EAGAIN, errno.EINTR])
def test_a_ring_that_takes_nothing_just_now(filesystems: Filesystems, error: int) -> None:
    """A full completion queue or no memory: reap, and tell it again."""
    need_uring()
    with filesystems.mount("ext4").directory() as where:
        src, dst = some_files(where)
        evict(src)
        with fault(Op.RING_SUBMIT, Action.ERROR, error, count=5):
            ran = run(src, dst, **single("uring"), buffer_bytes=BUFFER)
            assert passes(Op.RING_SUBMIT) > 5
        assert (ran.code, ran.problems) == (0, [])
        assert ran.report.counts.punted > 0
        assert_same(src, dst)


@pytest.mark.parametrize("skip", [0, 1, 2])
@pytest.mark.parametrize("big", [False, True])
def test_a_ring_that_is_lost(filesystems: Filesystems, skip: int, big: bool) -> None:
    """What it has taken it answers; the rest is done by plain calls, and nothing is missing."""
    need_uring()
    with filesystems.mount("ext4").directory() as where:
        src, dst = some_files(where)
        if big:
            make(Tree({"big": File(Pattern(33 * MIB))}), src)
        evict(src)
        with fault(Op.RING_SUBMIT, Action.ERROR, errno.EIO, skip=skip, count=FOREVER):
            ran = run(src, dst, **single("uring"), buffer_bytes=BUFFER, copy_method="read_write")
            assert passes(Op.RING_SUBMIT) > skip
        assert (ran.code, ran.problems) == (0, [])
        assert_same(src, dst)
        files = [one for one in ran.changes.values() if one.kind == Kind.DATA]
        assert all(one.flags & ChangeFlag.HASHED for one in files)


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSYS, errno.ENOMEM])
def test_no_ring_is_to_be_had(tmp_path: Path, error: int) -> None:
    """The run goes on with plain calls and says why; --engine=uring says it and stops."""
    need_uring()
    src, dst = some_files(tmp_path)
    with fault(Op.RING_SETUP, Action.ERROR, error, count=FOREVER):
        ran = run(src, dst)
    assert (ran.code, ran.report.engine) == (0, "sync")
    assert ran.report.engine_note
    assert_same(src, dst)


def test_a_ring_that_is_refused_to_a_lane(tmp_path: Path) -> None:
    """Probing had one, a lane gets none: it works with plain calls, and the report says why."""
    need_uring()
    src, dst = some_files(tmp_path)
    with fault(Op.RING_SETUP, Action.ERROR, errno.ENOMEM, skip=1, count=FOREVER):
        ran = run(src, dst)
        assert passes(Op.RING_SETUP) > 1
    assert (ran.code, ran.report.engine) == (0, "sync")
    assert "io_uring" in ran.report.engine_note
    assert_same(src, dst)


# ------------------------------------------------------------ permissions and errors


def let_everybody_pass(path: Path) -> None:
    """Make a temporary directory reachable for who is not its owner."""
    for directory in (path, *path.parents[:-2]):
        os.chmod(directory, os.stat(directory).st_mode | 0o011)


def test_without_permission(tmp_path: Path, engine: str) -> None:
    """As somebody else: what cannot be read fails alone, what cannot be owned is nobody's."""
    need_root()
    need_unprivileged()
    let_everybody_pass(tmp_path)
    src, dst = tmp_path / "src", tmp_path / "dst"
    tree = {
        "open": File(b"open", mode=0o644),
        "closed": File(b"closed", mode=0o600),
        "suid": File(b"suid", mode=0o4755, uid=3, gid=3),
        "dir": Dir({"f": File(b"f", mode=0o444)}, mode=0o555),
        "closed dir": Dir({"f": File(b"f")}, mode=0o700),
    }
    make(Tree(tree), src)
    dst.mkdir()
    os.chown(dst, 65534, 65534)

    def work() -> object:
        become_nobody()
        ran = run(src, dst, ARCHIVE, engine=engine)
        return [ran.code, sorted([path.decode(), error] for path, _, error in ran.failed)]

    code, failed = in_child(work)
    assert code == 23
    assert failed == [["closed", errno.EACCES], ["closed dir", errno.EACCES]]
    assert (dst / "open").read_bytes() == b"open"
    assert (dst / "suid").stat().st_uid == 65534
    assert (dst / "dir" / "f").read_bytes() == b"f"
    assert (dst / "dir").stat().st_mode & 0o7777 == 0o555
    assert not (dst / "closed").exists()


def test_a_directory_that_cannot_be_read_is_made(tmp_path: Path, engine: str) -> None:
    """With -X too, as by rsync; it is one problem, and nothing follows from it."""
    need_root()
    need_unprivileged()
    let_everybody_pass(tmp_path)
    src, dst = tmp_path / "src", tmp_path / "dst"
    make(Tree({"q": {"shut": Dir({"f": File(b"f")}, mode=0o711)}, "f": File(b"f")}), src)
    dst.mkdir()
    os.chown(dst, 65534, 65534)

    def work() -> object:
        become_nobody()
        ran = run(src, dst, replace(ARCHIVE, xattrs=True), engine=engine)
        return [ran.code, [[path.decode(), error] for path, _, error in ran.failed]]

    assert in_child(work) == [23, [["q/shut", errno.EACCES]]]
    assert (dst / "q" / "shut").stat().st_mode & 0o7777 == 0o711
    assert os.listdir(dst / "q" / "shut") == []


@pytest.mark.parametrize("op", [Op.READ, Op.WRITE])
def test_an_error_of_the_disk_costs_the_file(tmp_path: Path, engine: str, op: Op) -> None:
    """EIO: reported with path, operation and errno; the old file stays; the others arrive."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    make(Tree({name: File(name.encode() * 10) for name in "abc"}), src)
    make(Tree({"a": File(b"old a", mtime_ns=1), "b": File(b"old b", mtime_ns=1)}), dst)
    with fault(op, Action.ERROR, errno.EIO):
        ran = run(src, dst, **single(engine))
    assert ran.code == 23
    ((path, failed_op, error),) = ran.failed
    assert (failed_op, error) == (op, errno.EIO)
    assert ran.report.failure_count == 1
    failed = path.decode()
    for name in "abc":
        now = (dst / name).read_bytes() if (dst / name).exists() else b""
        old = {"a": b"old a", "b": b"old b", "c": b""}[name]
        assert now == (old if name == failed else name.encode() * 10)


# ------------------------------------------------------------------- in the way


def test_a_directory_in_the_way(tmp_path: Path, engine: str) -> None:
    """Empty, it gives way; with something in it the file fails, and it stays as it is."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    make(Tree({"a": File(b"a"), "b": File(b"b"), "c": Symlink(target="x"), "d": Fifo()}), src)
    old = {"x": File(b"precious")}
    make(Tree({"a": {}, "b": old, "c": old, "d": old}), dst)
    ran = run(src, dst, engine=engine)
    assert ran.code == 23
    assert {path for path, _, _ in ran.failed} == {b"b", b"c", b"d"}
    assert {error for _, _, error in ran.failed} == {errno.ENOTEMPTY}
    assert (dst / "a").read_bytes() == b"a"
    for name in "bcd":
        assert (dst / name / "x").read_bytes() == b"precious"


@pytest.mark.parametrize("inplace", [False, True])
def test_something_else_where_a_directory_goes(tmp_path: Path, engine: str, inplace: bool) -> None:
    """A file, a link to a directory outside, a fifo: the directory replaces it."""
    src, dst, outside = tmp_path / "src", tmp_path / "dst", tmp_path / "outside"
    outside.mkdir()
    entry = {"f": File(b"f"), "e": {"g": File(b"g")}}
    make(Tree(dict.fromkeys("abc", entry) | {"d": {}}), src)
    old = {"a": File(b"x"), "b": Symlink(target=str(outside)), "c": Fifo(), "d": File(b"y")}
    make(Tree(old), dst)
    ran = run(src, dst, engine=engine, inplace=inplace)
    assert (ran.code, ran.problems) == (0, [])
    assert_same(src, dst)
    assert os.listdir(outside) == []


def test_a_running_program(tmp_path: Path, engine: str) -> None:
    """A rename replaces it; in place it cannot be written to: that file fails."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    make(Tree({"sleep": File(b"new", mode=0o755), "other": File(b"other")}), src)
    dst.mkdir()
    shutil.copy(shutil.which("sleep") or "/bin/sleep", dst / "sleep")
    old = (dst / "sleep").read_bytes()
    with subprocess.Popen([dst / "sleep", "60"]) as program:
        try:
            ran = run(src, dst, engine=engine, inplace=True)
            assert ran.failed == [(b"sleep", Op.OPEN_TARGET, errno.ETXTBSY)]
            assert ran.code == 23
            assert (dst / "sleep").read_bytes() == old
            assert (dst / "other").read_bytes() == b"other"
            assert run(src, dst, engine=engine).code == 0
            assert_same(src, dst)
        finally:
            program.kill()


def test_an_immutable_file(filesystems: Filesystems, engine: str) -> None:
    """It is not replaced, nor linked to, nor written into: reported, and everything else done."""
    with filesystems.mount("ext4").directory() as where:
        src, dst = where / "src", where / "dst"
        make(Tree({"f": File(b"new"), "g": File(b"g")}), src)
        make(Tree({"f": File(b"old", mtime_ns=1)}), dst)
        subprocess.run(["chattr", "+i", dst / "f"], check=True)
        try:
            for inplace in (False, True):
                ran = run(src, dst, engine=engine, inplace=inplace)
                assert ran.code == 23
                assert [(path, error) for path, _, error in ran.failed] == [(b"f", errno.EPERM)]
                assert (dst / "f").read_bytes() == b"old"
                assert litter(dst) == []
        finally:
            subprocess.run(["chattr", "-i", dst / "f"], check=True)
        assert (dst / "g").read_bytes() == b"g"


# ------------------------------------------------------------- nothing can be written


def complete_or_absent(src: Path, dst: Path) -> int:
    """Fail when a file of `dst` is not the whole one of `src`; return how many there are."""
    count = 0
    for path in dst.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (src / path.relative_to(dst)).read_bytes(), path
            count += 1
    return count


@pytest.mark.parametrize("big", [False, True])
def test_a_full_filesystem(tmp_path: Path, engine: str, big: bool) -> None:
    """The run stops with exit code 11; what is there is whole; nothing else is."""
    need_root()
    src = tmp_path / "src"
    files = {f"f{one}": File(Pattern(300_000, one)) for one in range(40)}
    if big:
        files = {"small": File(b"small"), "big": File(Pattern(33 * MIB))}
    make(Tree({"d": files, "e": {"f": {"g": File(b"g")}}}), src)
    with filesystem("tmpfs", size_bytes=6 * MIB) as small:
        before = open_descriptors()
        ran = run(src, small.path, engine=engine)
        assert open_descriptors() == before
        assert isinstance(ran.error, FileError)
        assert "No space left on device" in str(ran.error)
        assert ran.code == 11
        assert litter(small.path) == []
        assert complete_or_absent(src, small.path) >= 1


def test_a_filesystem_without_inodes(tmp_path: Path, engine: str) -> None:
    """No more names: as with no more blocks."""
    need_root()
    src = tmp_path / "src"
    make(Tree({f"d{one}": {"f": File(b"f"), "l": Symlink(target="f")} for one in range(30)}), src)
    with filesystem("tmpfs", options="nr_inodes=40") as small:
        ran = run(src, small.path, engine=engine)
        assert ran.code == 11
        assert litter(small.path) == []
        complete_or_absent(src, small.path)


def test_a_read_only_filesystem(tmp_path: Path, engine: str) -> None:
    """Nothing can be written: exit code 11 and a sentence that says so."""
    need_root()
    src = tmp_path / "src"
    make(Tree({"f": File(b"f"), "d": {"g": File(b"g")}}), src)
    with filesystem("tmpfs", size_bytes=MIB) as small:
        subprocess.run(["mount", "-o", "remount,ro", small.path], check=True)
        ran = run(src, small.path, engine=engine)
        assert ran.code == 11
        assert "read-only" in str(ran.error)


# ----------------------------------------------------- what the destination cannot hold

ATTRIBUTE_OPS = (Op.CHOWN, Op.CHMOD, Op.UTIMES, Op.SET_XATTR, Op.SET_ACL)


@pytest.mark.parametrize("op", ATTRIBUTE_OPS)
@pytest.mark.parametrize("error", [errno.EPERM, errno.EOPNOTSUPP])
def test_attributes_that_cannot_be_set_are_a_warning(
    tmp_path: Path, engine: str, op: Op, error: int
) -> None:
    """One summarised warning a kind, the content arrives, exit code 23 as rsync's."""
    need_root()
    src, dst = tmp_path / "src", tmp_path / "dst"
    attributes = {"xattrs": {"user.x": b"1"}, "acl": acl("u::rw-,u:7:r--,g::r--,m::r--,o::---")}
    rich = {"mode": 0o640, "uid": 5, "gid": 6, "mtime_ns": NS, **attributes}
    make(Tree({"f": File(b"f", **rich), "d": Dir({"g": File(b"g", **rich)}, **rich)}), src)
    with fault(op, Action.ERROR, error, count=FOREVER):
        ran = run(src, dst, engine=engine)
        assert passes(op) >= 2
    assert (ran.code, ran.failed) == (23, [])
    assert {problem[1:] for problem in ran.of(ProblemKind.CANNOT_HOLD)} == {(op, error)}
    assert len(ran.report.warnings) == 1
    assert_same(src, dst, modes=False, owners=False, times=False, xattrs=False, acls=False)
    again = run(src, dst, engine=engine)
    assert again.code == 0
    assert_same(src, dst)


# --------------------------------------------------------------------- hard links


def test_too_many_links(tmp_path: Path, engine: str) -> None:
    """EMLINK: a further name begins a new file, and the next ones are linked to that."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    names = {f"n{one:03}": HardLink(target="a") for one in range(50)}
    make(Tree({"a": File(b"content", mtime_ns=NS), **names}), src)
    with fault(Op.LINK, Action.ERROR, errno.EMLINK, skip=20):
        ran = run(src, dst, **single(engine))
    assert (ran.code, ran.problems) == (0, [])
    assert_same(src, dst, links=False)
    assert len({os.stat(dst / name).st_ino for name in os.listdir(dst)}) == 2
    assert ran.report.counts.done_links + ran.report.counts.done_files == 51


@pytest.mark.parametrize("what", ["nothing", "old file", "old file of the same size"])
def test_a_first_name_that_fails(tmp_path: Path, engine: str, what: str) -> None:
    """The others are copied, and never linked to the old file that still has the first name."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    make(
        Tree({"a": File(b"content", mtime_ns=NS), **{n: HardLink(target="a") for n in "bcd"}}),
        src,
    )
    old = {"nothing": {}, "old file": {"a": File(b"old")}}.get(
        what, {"a": File(b"CONTENT", mtime_ns=NS - 5)}
    )
    make(Tree(old), dst)
    with fault(Op.WRITE, Action.ERROR, errno.EIO):
        ran = run(src, dst, **single(engine))
    assert ran.code == 23
    assert [path for path, _, _ in ran.failed] == [b"a"]
    for name in "bcd":
        assert (dst / name).read_bytes() == b"content"
    assert len({os.stat(dst / name).st_ino for name in "bcd"}) == 1
    assert run(src, dst, engine=engine).code == 0
    assert_same(src, dst)


@pytest.mark.parametrize("kind", [Symlink(target="x", mtime_ns=NS), Fifo(mtime_ns=NS)])
def test_a_first_name_that_is_no_file_fails(
    tmp_path: Path, engine: str, kind: Symlink | Fifo
) -> None:
    """A link or a fifo of many names is made anew like a file."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    make(Tree({"a": kind, "b": HardLink(target="a"), "c": HardLink(target="a")}), src)
    op = Op.SYMLINK if isinstance(kind, Symlink) else Op.MKNOD
    with fault(op, Action.ERROR, errno.EIO):
        ran = run(src, dst, **single(engine))
    assert [path for path, _, _ in ran.failed] == [b"a"]
    assert os.lstat(dst / "b").st_ino == os.lstat(dst / "c").st_ino
    assert run(src, dst, engine=engine).code == 0
    assert_same(src, dst)


# ----------------------------------------------------------------- the other side


NONE = ManifestPolicy(manifest=False)
"""What a manifest cannot look at is not recorded, and nothing more."""


@pytest.mark.parametrize("op", [Op.OPEN_DIR, Op.READ_DIR])
def test_the_whole_source_is_seen_though_the_destination_is_unreadable(
    tmp_path: Path, engine: str, op: Op
) -> None:
    """Whatever directory cannot be read: each entry of SRC arrives or is reported."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    new = {f"d{one}": {"f": File(b"%d" % one), "e": {"g": File(b"g")}} for one in range(3)}
    make(Tree(new), src)
    make(Tree({f"d{one}": {"f": File(b"old")} for one in range(2)}), dst)
    with counted():
        run(src, tmp_path / "count", manifest=NONE, **single(engine))
    with counted():
        run(src, dst, manifest=NONE, **single(engine))
        total = passes(op)
    for skip in range(total):
        shutil.rmtree(dst)
        make(Tree({f"d{one}": {"f": File(b"old")} for one in range(2)}), dst)
        with fault(op, Action.ERROR, errno.EIO, skip=skip):
            ran = run(src, dst, manifest=NONE, **single(engine))
        if ran.error:
            continue
        reported = {path for path, _, _ in ran.failed}
        here = read(dst)
        for path in read(src):
            parents = {path[:at] for at in range(len(path)) if path[at : at + 1] == b"/"}
            assert path in here or reported & (parents | {path, b""}), (skip, path, ran.problems)
        assert ran.code == 23, skip
        assert run(src, dst, engine=engine).code == 0
        assert_same(src, dst)


# -------------------------------------------------------------- each call, in turn

NO_FAILURE_POSSIBLE = {Op.NONE, Op.RING_SETUP, Op.RING_SUBMIT}
"""RING_*: answered with plain calls, and tested above."""

CLEANING = {Op.UNLINK, Op.RMDIR}
"""What cannot be removed stays: then a temporary name may be left."""


def rich_trees() -> tuple[Tree, Tree]:
    """Describe a source of everything, and an older state of it."""
    extra = {"xattrs": {"user.x": b"1"}, "acl": acl("u::rw-,u:7:r--,g::r--,m::r--,o::---")}
    src = {
        "f": File(b"new content", mode=0o640, uid=5, mtime_ns=NS, **extra),
        "same": File(b"same", mtime_ns=NS, mode=0o600, uid=1, **extra),
        "sparse": File(Sparse(3 * BUFFER, {2 * BUFFER: b"x"}), mtime_ns=NS),
        "long": File(Pattern(2 * BUFFER + 3), mtime_ns=NS),
        "link": Symlink(target="f", mtime_ns=NS),
        "fifo": Fifo(mode=0o600, mtime_ns=NS),
        "null": Device(major=1, minor=3),
        "hard": HardLink(target="f"),
        "was dir": File(b"file"),
        "was file": {"x": File(b"x")},
        "new": {"a": File(b"a", **extra), "sub": {"b": File(b"b")}},
        "dir": Dir({"c": File(b"c")}, mode=0o750, mtime_ns=NS, xattrs={"user.d": b"d"}),
        "empty": {},
    }
    dst = {
        "f": File(b"old", mtime_ns=1),
        "same": File(b"same", mtime_ns=NS, xattrs={"user.stray": b"1"}),
        "link": Symlink(target="elsewhere"),
        "hard": File(b"another"),
        "was dir": {},
        "was file": File(b"file before"),
        "dir": {"c": File(b"old c")},
    }
    return Tree(src), Tree(dst)


def contents(directory: Path) -> dict[bytes, object]:
    """Return what each entry but a directory holds."""
    return {
        path: (entry.kind, entry.content, entry.target, entry.device)
        for path, entry in read(directory).items()
        if entry.kind != "directory"
    }


@pytest.mark.parametrize("op", sorted(set(Op) - NO_FAILURE_POSSIBLE))
def test_each_pass_of_each_operation_fails_once(tmp_path: Path, engine: str, op: Op) -> None:
    """The run ends, and says so; under each name is the old or the new; the next run heals it."""
    need_root()
    src, dst = tmp_path / "src", tmp_path / "dst"
    new_tree, old_tree = rich_trees()
    settings = {**single(engine), "buffer_bytes": BUFFER}
    if op in (Op.COPY_RANGE, Op.SPLICE):
        settings["copy_method"] = {Op.COPY_RANGE: "copy_file_range"}.get(op, "splice")
    if op == Op.ALLOCATE:
        settings["preallocate"] = True
    make(new_tree, src)
    make(old_tree, dst)
    new, old = contents(src), contents(dst)
    with counted():
        assert run(src, dst, **settings).code == 0
        total = passes(op)
    assert_same(src, dst)
    step = max(1, total // 12)
    error = errno.ENOMEM if op == Op.MEMORY else errno.EIO
    for skip in range(0, total, step):
        shutil.rmtree(dst)
        make(old_tree, dst)
        with fault(op, Action.ERROR, error, skip=skip):
            ran = run(src, dst, **settings)
        told = f"{op.name} {skip}: {ran.problems} {ran.error!r}"
        assert not isinstance(ran.error, InternalError), told
        if op not in CLEANING:
            assert litter(dst) == [], told
        for path, entry in contents(dst).items():
            if b".arsync." not in path:
                assert entry in (new.get(path), old.get(path)), (path, told)
        if ran.code == 0:
            assert_same(src, dst)
        for path in map(os.fsdecode, litter(dst)):
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
        assert run(src, dst, **settings).code == 0, told
        assert_same(src, dst)
