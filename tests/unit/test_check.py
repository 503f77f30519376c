"""-c: contents are read on both sides and compared, by either engine, in a dry run too."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from arsync.execute import Lanes
from arsync.model import ChangeFlag, Kind, Op, ProblemKind, State, Why
from arsync.options import ARCHIVE, DeletePolicy, DeleteTime, SyncOptions, UpdatePolicy
from arsync.plan import Phase, Unit
from arsync.scan import Walk, Whole
from arsync.settings import EngineChoice, make_settings
from arsync.uring import Batch, Identity, Rules
from arsync.uring.faults import FOREVER, Action, counted, fault, passes, paused_at
from arsync.uring.scanner import Root, Scanner, scan_flags
from tests.kit import File, HardLink, Pattern, Tree, assert_same, make, read
from tests.kit.syncing import assert_hashed, hash_of, interrupted_at, run, running, single

MIB = 1 << 20
BUFFER = 64 << 10
NS = 1_700_000_000_123_456_789
LATER_NS = NS + 5 * 10**9

pytestmark = pytest.mark.usefixtures("no_litter")

SIZES = pytest.mark.parametrize(
    "size",
    [1, BUFFER, BUFFER + 1, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1, 33 * MIB + 5],
    ids=["byte", "buffer", "buffers", "below", "chunk", "above", "big"],
)
SIDES = pytest.mark.parametrize("size", [BUFFER, 3 * BUFFER, 33 * MIB], ids=["one", "few", "big"])


def pair(tmp_path: Path, src: File, dst: File) -> tuple[Path, Path]:
    """Make two trees of one file, `f`."""
    make(Tree({"f": src}).at(NS), tmp_path / "src")
    make(Tree({"f": dst}).at(NS), tmp_path / "dst")
    return tmp_path / "src", tmp_path / "dst"


def spoil(path: Path, at: int) -> None:
    """Change one byte, and no time that rsync looks at."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@SIZES
def test_equal_contents_need_nothing(tmp_path: Path, engine: str, size: int) -> None:
    """Nothing is written or told, not even a ctime moves, and the file counts as compared."""
    src, dst = pair(tmp_path, *[File(Pattern(size, 1), mtime_ns=NS)] * 2)
    before = (dst / "f").stat()
    ran = run(src, dst, engine=engine, checksum=True, buffer_bytes=BUFFER)
    assert (ran.code, ran.changes) == (0, {})
    counts = ran.report.counts
    assert (counts.checked_files, counts.checked_bytes) == (1, size)
    assert (counts.plan_checks, counts.plan_check_bytes) == (1, size)
    assert (counts.plan_files, counts.plan_metas, counts.done_files, counts.moved_bytes) == (0,) * 4
    after = (dst / "f").stat()
    assert (after.st_ino, after.st_ctime_ns) == (before.st_ino, before.st_ctime_ns)


@SIZES
def test_equal_contents_of_another_time_get_it(tmp_path: Path, engine: str, size: int) -> None:
    """Only the time is set, and the content's hash is known."""
    content = Pattern(size, 1)
    src, dst = pair(tmp_path, File(content, mtime_ns=LATER_NS), File(content, mtime_ns=NS))
    inode = (dst / "f").stat().st_ino
    ran = run(src, dst, engine=engine, checksum=True, buffer_bytes=BUFFER)
    change = ran.changes[b"f"]
    assert (change.kind, change.why, change.state) == (Kind.META, Why.MTIME, State.DONE)
    assert_hashed(change, bytes(content))
    assert (dst / "f").stat().st_ino == inode
    assert ran.report.counts.done_metas == ran.report.counts.plan_metas == 1
    assert_same(src, dst)


@SIZES
@pytest.mark.parametrize("end", ["first", "last"])
def test_one_byte_differs(tmp_path: Path, engine: str, size: int, end: str) -> None:
    """It is copied although size and time are equal."""
    content = Pattern(size, 1)
    src, dst = pair(tmp_path, *[File(content, mtime_ns=NS)] * 2)
    spoil(dst / "f", 0 if end == "first" else size - 1)
    assert run(src, dst, engine=engine).changes == {}
    ran = run(src, dst, engine=engine, checksum=True, buffer_bytes=BUFFER, reflink="never")
    change = ran.changes[b"f"]
    assert (change.kind, change.why) == (Kind.DATA, Why.CONTENT | Why.CHECKSUM)
    assert change.done_bytes == size
    counts = ran.report.counts
    assert (counts.checked_files, counts.checked_bytes) == (1, size)
    assert (counts.plan_files, counts.plan_bytes, counts.done_files) == (1, size, 1)
    assert (counts.done_bytes, counts.moved_bytes) == (size, size)
    assert_same(src, dst)


def test_another_size_is_copied_unread(tmp_path: Path, engine: str) -> None:
    """Nothing is compared, and the reason is that of -c as well, as rsync shows it."""
    src, dst = pair(tmp_path, File(b"12", mtime_ns=NS), File(b"123", mtime_ns=NS))
    ran = run(src, dst, engine=engine, checksum=True)
    assert ran.changes[b"f"].why == Why.SIZE | Why.CONTENT | Why.CHECKSUM
    assert ran.report.counts.checked_files == 0
    assert_same(src, dst)


def test_empty_files_are_not_read(tmp_path: Path, engine: str) -> None:
    """What has no bytes is equal."""
    src, dst = pair(tmp_path, File(mtime_ns=LATER_NS), File(mtime_ns=NS))
    with counted():
        ran = run(src, dst, engine=engine, checksum=True)
        assert passes(Op.READ) == 0
    assert ran.changes[b"f"].why == Why.MTIME
    assert ran.report.counts.plan_checks == 0


@pytest.mark.parametrize("size", [3 * MIB, 40 * MIB], ids=["small", "big"])
@pytest.mark.parametrize("side", ["src", "dst"])
def test_holes_are_zeros(tmp_path: Path, engine: str, size: int, side: str) -> None:
    """A hole on one side equals zeros on the other, and a zero that is none differs."""
    holes = File(Pattern(5000, 1), mtime_ns=NS)
    src, dst = pair(tmp_path, holes, holes)
    for name in ("src", "dst"):
        path = tmp_path / name / "f"
        with path.open("r+b") as file:
            file.seek(0, os.SEEK_END)
            if name != side:
                file.write(bytes(size - 5000))
            file.truncate(size)
        os.utime(path, ns=(NS, NS))
    assert (tmp_path / side / "f").stat().st_blocks * 512 < size
    assert run(src, dst, engine=engine, checksum=True).changes == {}
    spoil(dst / "f", size // 2)
    ran = run(src, dst, engine=engine, checksum=True)
    assert ran.changes[b"f"].why & ~Why.CTIME == Why.CONTENT | Why.CHECKSUM
    assert_same(src, dst)


@SIDES
@pytest.mark.parametrize("moves", [True, False], ids=["copied", "same"])
def test_a_source_that_changes_meanwhile(
    tmp_path: Path, engine: str, size: int, moves: bool
) -> None:
    """It is copied by the rules of a copy, whether its content became another or not."""
    src, dst = pair(tmp_path, *[File(Pattern(size, 1), mtime_ns=NS)] * 2)
    reads = {BUFFER: 1, 3 * BUFFER: 3}.get(size, 4)
    with (
        paused_at(Op.READ, skip=reads) as pause,
        running(src, dst, **single(engine), checksum=True, buffer_bytes=BUFFER) as ran,
    ):
        pause.wait()
        spoil(src / "f", size - 1)
        if not moves:
            spoil(src / "f", size - 1)
        pause.resume()
    assert ran.code == 0
    assert ran.changes[b"f"].kind == Kind.DATA
    assert not ran.changes[b"f"].flags & ChangeFlag.UNSTABLE
    assert_same(src, dst)


@pytest.mark.parametrize("size", [3 * BUFFER, 33 * MIB], ids=["small", "big"])
def test_a_destination_that_changes_meanwhile(tmp_path: Path, engine: str, size: int) -> None:
    """A byte that moves after it was read is not taken for equal."""
    src, dst = pair(tmp_path, *[File(Pattern(size, 1), mtime_ns=NS)] * 2)
    with (
        paused_at(Op.READ, skip=2) as pause,
        running(src, dst, **single(engine), checksum=True, buffer_bytes=BUFFER) as ran,
    ):
        pause.wait()
        spoil(dst / "f", 0)
        pause.resume()
    assert ran.changes[b"f"].kind == Kind.DATA
    assert_same(src, dst)


@SIDES
@pytest.mark.parametrize("op", [Op.OPEN_TARGET, Op.READ])
def test_a_destination_that_cannot_be_read(tmp_path: Path, engine: str, size: int, op: Op) -> None:
    """It is copied, as rsync does it."""
    src, dst = pair(tmp_path, *[File(Pattern(size, 1), mtime_ns=NS)] * 2)
    with fault(op, value=errno.EIO):
        ran = run(src, dst, **single(engine), checksum=True, buffer_bytes=BUFFER)
    assert (ran.code, ran.problems) == (0, [])
    assert (ran.changes[b"f"].kind, ran.changes[b"f"].state) == (Kind.DATA, State.DONE)
    assert ran.report.counts.checked_bytes == size
    assert_same(src, dst)


@SIDES
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_source_that_cannot_be_opened(
    tmp_path: Path, engine: str, size: int, dry_run: bool
) -> None:
    """It fails, and the destination stays as it is."""
    src, dst = pair(tmp_path, *[File(Pattern(size, 1), mtime_ns=NS)] * 2)
    before = read(dst)
    with fault(Op.OPEN_FILE, value=errno.EACCES, count=FOREVER):
        ran = run(src, dst, **single(engine), checksum=True, dry_run=dry_run)
    assert ran.failed == [(b"f", Op.OPEN_FILE, errno.EACCES)]
    assert (ran.code, ran.report.counts.failed) == (23, 1)
    assert_same(before, dst)


@SIDES
def test_a_source_that_vanishes(tmp_path: Path, engine: str, size: int) -> None:
    """It is told as vanished: exit code 24."""
    src, dst = pair(tmp_path, *[File(Pattern(size, 1), mtime_ns=NS)] * 2)
    with (
        paused_at(Op.OPEN_FILE) as pause,
        running(src, dst, **single(engine), checksum=True) as ran,
    ):
        pause.wait()
        (src / "f").unlink()
        pause.resume()
    assert ran.code == 24
    assert [path for path, _, _ in ran.of(ProblemKind.VANISHED)] == [b"f"]


@SIDES
@pytest.mark.parametrize("op", [Op.STAT, Op.READ, Op.OPEN_FILE, Op.OPEN_TARGET, Op.MEMORY])
def test_whatever_fails_is_told_or_put_right(
    tmp_path: Path, engine: str, size: int, op: Op
) -> None:
    """No single failure makes a check pass for equal what is not."""
    src, dst = pair(tmp_path, *[File(Pattern(size, 1), mtime_ns=NS)] * 2)
    spoil(dst / "f", size - 1)
    wrong = (dst / "f").read_bytes()
    for skip in range(0, 24, 1 if size < MIB else 3):
        (dst / "f").write_bytes(wrong)
        os.utime(dst / "f", ns=(NS, NS))
        with fault(op, value=errno.EIO, skip=skip):
            ran = run(src, dst, **single(engine), checksum=True, buffer_bytes=BUFFER)
        told = ran.error is not None or ran.code == 23
        assert told or (dst / "f").read_bytes() == (src / "f").read_bytes(), skip


def test_descriptors_that_run_out(tmp_path: Path, engine: str) -> None:
    """A check waits for them, and is not given up."""
    src, dst = pair(tmp_path, *[File(b"x", mtime_ns=NS)] * 2)
    with fault(Op.OPEN_TARGET, value=errno.EMFILE, count=5):
        ran = run(src, dst, **single(engine), checksum=True)
    assert (ran.code, ran.changes, ran.report.counts.retries) == (0, {}, 5)


def test_a_passing_error_is_tried_again(tmp_path: Path, engine: str) -> None:
    """The side is read anew, and found equal."""
    src, dst = pair(tmp_path, *[File(b"x", mtime_ns=NS)] * 2)
    with fault(Op.OPEN_TARGET, value=errno.ESTALE, count=2):
        ran = run(src, dst, **single(engine), checksum=True)
    assert (ran.code, ran.changes, ran.report.counts.retries) == (0, {}, 2)


@SIDES
def test_short_reads(tmp_path: Path, engine: str, size: int) -> None:
    """A read that falls short is no difference."""
    src, dst = pair(tmp_path, *[File(Pattern(size, 1), mtime_ns=NS)] * 2)
    with fault(Op.READ, Action.SHORT, value=1000, count=100):
        ran = run(src, dst, **single(engine), checksum=True, buffer_bytes=BUFFER)
    assert (ran.code, ran.changes) == (0, {})


@SIDES
def test_ctrl_c_in_the_middle(tmp_path: Path, engine: str, size: int) -> None:
    """What is not compared to its end is not taken for anything; each file is old or new."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    files = {f"f{number}": File(Pattern(size, 1)) for number in range(max(3, 2 * MIB // size))}
    for root in (src, dst):
        make(Tree(files).at(NS), root)
    for name in files:
        spoil(dst / name, 0)
    old, new = (dst / "f0").read_bytes(), (src / "f0").read_bytes()
    with interrupted_at(Op.READ):
        ran = run(src, dst, **single(engine), checksum=True, buffer_bytes=BUFFER)
    assert ran.code == 20
    assert all((dst / name).read_bytes() in (old, new) for name in files)
    assert all(one.state != State.DONE or one.kind != Kind.META for one in ran.changes.values())
    assert run(src, dst, engine=engine, checksum=True).code == 0
    assert_same(src, dst)


def test_many_files_at_once(tmp_path: Path, engine: str) -> None:
    """Of many files in flight each gets its own answer."""
    names = [f"f{number}" for number in range(700)]
    files = {name: File(Pattern(at * 97 + 8, at)) for at, name in enumerate(names)}
    for root in ("src", "dst"):
        make(Tree(files).at(NS), tmp_path / root)
    for name in names[::9]:
        spoil(tmp_path / "dst" / name, 7)
    ran = run(tmp_path / "src", tmp_path / "dst", engine=engine, checksum=True)
    copied = {os.fsdecode(path) for path, one in ran.changes.items() if one.kind == Kind.DATA}
    assert copied == set(names[::9])
    assert ran.report.counts.checked_files == 700
    assert_same(tmp_path / "src", tmp_path / "dst")


@SIDES
def test_a_dry_run_compares_and_touches_nothing(tmp_path: Path, engine: str, size: int) -> None:
    """It tells what a run would copy, and what it would not."""
    same, other = File(Pattern(size, 1), mtime_ns=NS), File(Pattern(size, 2), mtime_ns=NS)
    dated = File(Pattern(size, 1), mtime_ns=LATER_NS)
    make(
        Tree({"d": {"equal": same, "dated": dated, "other": same, "new": same}}).at(NS),
        tmp_path / "src",
    )
    make(Tree({"d": {"equal": same, "dated": same, "other": other}}).at(NS), tmp_path / "dst")
    src, dst = tmp_path / "src", tmp_path / "dst"
    before = read(dst)
    dry = run(src, dst, engine=engine, checksum=True, dry_run=True)
    assert_same(before, dst, holes=True)
    assert dry.changes[b"d/other"].state == State.PLANNED
    assert (dry.report.copied_files, dry.report.copied_bytes) == (2, 2 * size)
    assert dry.report.counts.checked_files == 3
    assert dry.report.counts.done_files == dry.report.counts.done_metas == 0
    wet = run(src, dst, engine=engine, checksum=True)
    assert {path: (one.kind, one.why) for path, one in dry.changes.items()} == {
        path: (one.kind, one.why) for path, one in wet.changes.items()
    }
    assert wet.report.copied_files == 2
    assert_same(src, dst)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_dry_run_deletes_nothing(tmp_path: Path, engine: str, when: DeleteTime) -> None:
    """Lanes that are there to compare leave extras alone, and they are told."""
    make(Tree({"d": {"f": File(b"f")}}).at(NS), tmp_path / "src")
    extras = {"d": {"f": File(b"F"), "x": File(b"x")}, "x": {"y": {"z": File(b"z")}}}
    make(Tree(extras).at(NS), tmp_path / "dst")
    src, dst = tmp_path / "src", tmp_path / "dst"
    before = read(dst)
    delete = DeletePolicy(when=when)
    dry = run(src, dst, engine=engine, checksum=True, delete=delete, dry_run=True)
    assert_same(before, dst)
    wet = run(src, dst, engine=engine, checksum=True, delete=delete)
    assert {path: one.kind for path, one in dry.changes.items()} == {
        path: one.kind for path, one in wet.changes.items()
    }
    assert set(dry.changes) == {b"d/f", b"d/x", b"x", b"x/y", b"x/y/z"}
    assert_same(src, dst)


def test_further_names_in_a_dry_run(tmp_path: Path, engine: str) -> None:
    """What is linked already is told only where its file is going to be another."""
    make(
        Tree(
            {
                "a": File(b"a", mtime_ns=NS),
                "a2": HardLink("a"),
                "b": File(b"b", mtime_ns=NS),
                "b2": HardLink("b"),
                "c": File(b"c", mtime_ns=NS),
                "c2": HardLink("c"),
            }
        ).at(NS),
        tmp_path / "src",
    )
    make(
        Tree(
            {
                "a": File(b"a", mtime_ns=LATER_NS),
                "a2": HardLink("a"),
                "b": File(b"B", mtime_ns=NS),
                "b2": HardLink("b"),
                "c": File(b"c", mtime_ns=NS),
                "c2": File(b"c", mtime_ns=NS),
            }
        ).at(NS),
        tmp_path / "dst",
    )
    for dry_run in (True, False):
        ran = run(tmp_path / "src", tmp_path / "dst", engine=engine, checksum=True, dry_run=dry_run)
        assert {path: one.kind for path, one in ran.changes.items() if path} == {
            b"a": Kind.META,
            b"b": Kind.DATA,
            b"b2": Kind.LINK,
            b"c2": Kind.LINK,
        }
    assert_same(tmp_path / "src", tmp_path / "dst")
    ran = run(tmp_path / "src", tmp_path / "dst", engine=engine, checksum=True)
    assert ran.changes == {}
    assert ran.report.counts.done_links == 0


def test_a_further_name_is_not_up_to_date_before_it_is_linked(tmp_path: Path, engine: str) -> None:
    """Nobody compares its content: it leaves the source only when it is linked."""
    make(Tree({"a": File(b"some"), "b": HardLink("a")}).at(NS), tmp_path / "src")
    make(Tree({"a": File(b"same"), "b": File(b"same")}).at(NS), tmp_path / "dst")
    with fault(Op.LINK, value=errno.EIO, count=FOREVER):
        ran = run(
            tmp_path / "src",
            tmp_path / "dst",
            **single(engine),
            checksum=True,
            remove_source_files=True,
        )
    assert ran.failed == [(b"b", Op.LINK, errno.EIO)]
    assert os.listdir(tmp_path / "src") == ["b"]


@SIDES
@pytest.mark.parametrize("known", [ChangeFlag.KNOWS_SRC, ChangeFlag.KNOWS_DST])
@pytest.mark.parametrize("equal", [True, False])
def test_a_hash_that_is_known(
    tmp_path: Path, engine: str, size: int, known: ChangeFlag, equal: bool
) -> None:
    """Only the other side is read."""
    content = bytes(Pattern(size, 1))
    src, dst = pair(tmp_path, File(content, mtime_ns=NS), File(content, mtime_ns=NS))
    if not equal:
        spoil((dst if known == ChangeFlag.KNOWS_SRC else src) / "f", 0)
    units: list[Unit] = []

    def know(batch: Batch) -> None:
        change = batch.raw.changes[0]
        change.kind, change.flags = Kind.CHECK, int(known)
        change.hash = hash_of(content)

    ops = {ChangeFlag.KNOWS_SRC: Op.OPEN_FILE, ChangeFlag.KNOWS_DST: Op.OPEN_TARGET}
    with counted():
        run_altered(tmp_path, engine, units.append, know)
        assert passes(ops[known]) == (1 if not equal and known == ChangeFlag.KNOWS_SRC else 0)
    (change,) = [unit.batch.raw.changes[0] for unit in units if unit.batch.raw.change_count]
    assert change.state == State.DONE
    assert change.kind == (Kind.META if equal else Kind.DATA)
    if equal:
        assert bytes(change.hash) == hash_of(content)
    assert (dst / "f").read_bytes() == (src / "f").read_bytes()


def run_altered(
    tmp_path: Path, engine: str, receive: Callable[[Unit], None], alter: Callable[[Batch], None]
) -> None:
    """Run -c from src to dst, each batch with a change being altered before it is executed."""
    options = SyncOptions(preserve=ARCHIVE, update=UpdatePolicy(checksum=True))
    rules = Rules(options, 1, Identity.current())
    choice = EngineChoice(ring=engine == "uring", note="", lanes=1, scan_threads=1)
    with (
        Root(os.fsencode(tmp_path / "src")) as src,
        Root(os.fsencode(tmp_path / "dst")) as dst,
    ):
        scanner = Scanner(src, dst, scan_flags(options, as_root=True))
        work = Lanes(make_settings(options, choice, src, dst, -1), rules, 1, receive)

        def feed(batch: Batch, parents: Sequence[Batch]) -> None:
            if batch.change_count:
                alter(batch)
            work.add(batch, parents, Phase.COPY)

        try:
            Walk(scanner, rules, (Whole(),), feed).run()
            work.drain()
        finally:
            work.finish()
            del scanner
