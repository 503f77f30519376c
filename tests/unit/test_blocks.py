"""Chunk hashes: which are recorded, and what a changed file gets of the one that it replaces."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from arsync.figures import size
from arsync.manifest.format import RowState
from arsync.manifest.places import find
from arsync.manifest.records import ROOT
from arsync.manifest.store import Group, Store
from arsync.model import Op
from arsync.options import ManifestPolicy
from arsync.report import stats_table, summary
from arsync.uring.faults import Action, fault, paused_at
from tests.kit import Dir, File, Pattern, Sparse, Tree, assert_same, make
from tests.kit.filesystems import Filesystems, filesystem
from tests.kit.manifests import recorded, recorded_chunks
from tests.kit.recorded import hash_of as chunks_of
from tests.kit.syncing import BIG, CHUNK, Ran, assert_hashed, litter, run, running, single

MIB = 1 << 20
NS = 1_700_000_000_123_456_789

pytestmark = pytest.mark.usefixtures("no_litter")


def policy(where: Path) -> ManifestPolicy:
    """Return the options that keep manifests there."""
    return ManifestPolicy(state_dir=str(where / "state"))


def sync(where: Path, **settings: Any) -> Ran:
    """Make `dst` equal to `src`, both in one directory with the manifests."""
    return run(where / "src", where / "dst", manifest=policy(where), **settings)


def lists(where: Path) -> dict[bytes, bytes]:
    """Return the recorded lists of chunk hashes."""
    return recorded_chunks(where / "state", where / "dst")


def right_lists(where: Path) -> dict[bytes, bytes]:
    """Return the lists that the files of `dst` have."""
    found = {}
    for path in (where / "dst").rglob("*"):
        if path.is_file() and path.stat().st_size > CHUNK:
            found[bytes(path.relative_to(where / "dst"))] = chunks_of(path.read_bytes())[1]
    return found


# ------------------------------------------------------------------ what is recorded


def test_chunk_hashes_of_what_was_read(memory: Path, engine: str) -> None:
    """Files above one chunk have a list, by one lane or all; the row says so."""
    sizes = {"a": CHUNK, "b": CHUNK + 1, "d/c": 3 * CHUNK, "d/e": BIG - 1, "d/f": BIG + 7}
    files = {
        name: File(Pattern(size, seed), mtime_ns=NS)
        for seed, (name, size) in enumerate(sizes.items())
    }
    make(Tree({"d": Dir(), **files, "hole": File(Sparse(2 * BIG, {BIG: b"x"}))}), memory / "src")
    assert sync(memory, engine=engine, copy_method="read_write").code == 0
    assert lists(memory) == right_lists(memory)
    assert set(lists(memory)) == {b"b", b"d/c", b"d/e", b"d/f", b"hole"}
    rows = recorded(memory / "state", memory / "dst")
    assert rows[b""].rows[b"a"].state == RowState.HASHED
    for name in (b"b", b"hole"):
        assert rows[b""].rows[name].state == RowState.HASHED | RowState.CHUNKED


def test_lists_stay_and_go_with_their_rows(memory: Path) -> None:
    """One that needs nothing stays; one of a file that is gone, small or unhashed is forgotten."""
    names = ("stays", "gone", "small", "unhashed", "anew")
    files = {name: File(Pattern(CHUNK + 9, seed), mtime_ns=NS) for seed, name in enumerate(names)}
    make(Tree(files), memory / "src")
    sync(memory, copy_method="read_write")
    assert set(lists(memory)) == {name.encode() for name in names}
    (memory / "src/gone").unlink()
    (memory / "src/small").write_bytes(b"x")
    (memory / "src/anew").write_bytes(os.urandom(2 * CHUNK))
    assert sync(memory, copy_method="read_write").code == 0
    assert lists(memory) == {
        name: found for name, found in right_lists(memory).items() if name != b"gone"
    }
    (memory / "src/unhashed").write_bytes(os.urandom(2 * CHUNK))
    assert sync(memory, copy_method="copy_file_range").code == 0
    assert set(lists(memory)) == {b"stays", b"anew"}


@pytest.mark.parametrize("size", [CHUNK + 9, BIG + 9])
def test_a_comparison_records_lists_too(memory: Path, engine: str, size: int) -> None:
    """-c reads files that another tool has copied: from then on their chunks are known."""
    for side in ("src", "dst"):
        make(Tree({"f": File(Pattern(size), mtime_ns=NS)}), memory / side)
    sync(memory)
    assert lists(memory) == {}
    assert sync(memory, checksum=True, engine=engine).code == 0
    assert lists(memory) == right_lists(memory)


def test_lists_in_a_directory_of_many_pages(memory: Path) -> None:
    """Each page tells of its own files, and none forgets those of the others."""
    names = {f"n{number:05}": File(b"") for number in range(2500)}
    big = {f"n{at:05}": File(Pattern(CHUNK + 1, at)) for at in (3, 1500, 2499)}
    make(Tree({**names, **big}), memory / "src")
    sync(memory, copy_method="read_write")
    assert lists(memory) == right_lists(memory)
    (memory / "src/n00003").unlink()
    (memory / "src/n01500").write_bytes(os.urandom(CHUNK + 5))
    (memory / "dst/n00003").unlink()
    assert sync(memory, copy_method="read_write").code == 0
    assert lists(memory) == right_lists(memory)


# ------------------------------------------------------------- what is not written again


SIZE = BIG + CHUNK + 4097
LAST = SIZE % CHUNK


@pytest.fixture
def memory(filesystems: Filesystems) -> Iterator[Path]:
    """Lend a directory on tmpfs: nothing waits for a disk there."""
    with filesystems.mount("tmpfs").directory() as there:
        yield there


@contextmanager
def reflinks(filesystems: Filesystems, kind: str) -> Iterator[Path]:
    """Lend a directory with DST on a filesystem with reflinks; SRC is on another one."""
    with filesystems.mount(kind).directory() as there, filesystem("tmpfs") as source:
        (there / "src").symlink_to(source.path)
        yield there


@pytest.fixture
def cloning(filesystems: Filesystems) -> Iterator[Path]:
    """Lend one of xfs."""
    with reflinks(filesystems, "xfs") as there:
        yield there


@pytest.fixture(params=["xfs", "btrfs"])
def each_cloning(request: pytest.FixtureRequest, filesystems: Filesystems) -> Iterator[Path]:
    """Lend one of each."""
    with reflinks(filesystems, request.param) as there:
        yield there


def old_and_new(
    where: Path, edit: Callable[[bytearray], None], length: int = SIZE, **options: Any
) -> int:
    """Copy a file of random bytes and edit its source; return the bytes that did not change.

    What is in chunks at their old place counts, as a chunk is what can be kept.
    """
    (where / "src").mkdir(exist_ok=True)
    before = os.urandom(length)
    (where / "src/f").write_bytes(before)
    os.utime(where / "src/f", ns=(NS, NS))
    assert sync(where, **options).code == 0
    after = bytearray(before)
    edit(after)
    (where / "src/f").write_bytes(after)
    os.utime(where / "src/f", ns=(NS + 10**10, NS + 10**10))
    starts = range(0, len(after), CHUNK)
    return sum(
        len(after[at : at + CHUNK])
        for at in starts
        if after[at : at + CHUNK] == before[at : at + CHUNK]
    )


def change(at: int, length: int = 65536) -> Callable[[bytearray], None]:
    """Return what changes bytes in the middle."""

    def edit(content: bytearray) -> None:
        content[at : at + length] = os.urandom(len(content[at : at + length]))

    return edit


def append(content: bytearray) -> None:
    """Make it longer by some chunks."""
    content += os.urandom(2 * CHUNK + 5)


def cut(content: bytearray) -> None:
    """Make it shorter: the new last chunk is the beginning of an old one."""
    del content[BIG + 77 :]


def cut_in_its_last_chunk(content: bytearray) -> None:
    """Make it shorter by a byte."""
    del content[-1]


def everything(content: bytearray) -> None:
    """Change each chunk."""
    content[:] = bytes(byte ^ 1 for byte in content[:1]) * len(content)


EDITS = [
    change(10 * MIB),
    change(0, 1),
    change(SIZE - 1, 1),
    change(2 * CHUNK - 3, 6),
    append,
    cut,
    cut_in_its_last_chunk,
    everything,
]


def assert_updated(where: Path, ran: Ran, matched: int) -> None:
    """See that the copy is right, what is recorded of it, and how much was not written."""
    assert ran.code == 0
    content = (where / "src/f").read_bytes()
    assert (where / "dst/f").read_bytes() == content
    assert os.stat(where / "dst/f").st_mtime_ns == os.stat(where / "src/f").st_mtime_ns
    assert lists(where) == {b"f": chunks_of(content)[1]}
    assert_hashed(ran.changes[b"f"], content)
    counts = ran.report.counts
    assert counts.matched_bytes == matched
    assert counts.done_bytes + counts.hole_bytes == len(content)
    assert counts.moved_bytes == len(content) * (1 + counts.rereads)


@pytest.mark.parametrize("edit", EDITS)
def test_a_clone_gets_what_differs(
    cloning: Path, engine: str, edit: Callable[[bytearray], None]
) -> None:
    """The new file shares its other chunks with the old one; the old inode is not touched."""
    matched = old_and_new(cloning, edit)
    with (cloning / "dst/f").open("rb") as old:
        before = old.read()
        ran = sync(cloning, engine=engine)
        old.seek(0)
        assert old.read() == before
        assert os.stat(cloning / "dst/f").st_ino != os.fstat(old.fileno()).st_ino
    assert_updated(cloning, ran, matched)


@pytest.mark.parametrize("engine", ["uring", "sync"])
def test_a_clone_takes_no_room(each_cloning: Path, engine: str) -> None:
    """64 KiB changed in a file that the disk cannot hold twice: one chunk is written."""
    length = 216 * MIB
    matched = old_and_new(each_cloning, change(100 * MIB), length)
    assert matched == length - CHUNK
    subprocess.run(["sync", "--file-system", each_cloning], check=True)
    with (each_cloning / "dst/f").open("rb"):
        before = os.statvfs(each_cloning)
        ran = sync(each_cloning, engine=engine)
        subprocess.run(["sync", "--file-system", each_cloning], check=True)
        after = os.statvfs(each_cloning)
    assert_updated(each_cloning, ran, matched)
    assert (before.f_bfree - after.f_bfree) * after.f_bsize < 3 * CHUNK


@pytest.mark.parametrize("recorded_first", [True, False])
@pytest.mark.parametrize("edit", EDITS)
def test_in_place_only_what_differs(
    memory: Path, engine: str, edit: Callable[[bytearray], None], recorded_first: bool
) -> None:
    """By the recorded hashes, or by reading both sides."""
    matched = old_and_new(memory, edit, copy_method="read_write")
    if not recorded_first:
        shutil.rmtree(memory / "state")
        if edit is cut:  # so much of the old chunk is there, and is read
            matched += 77
        if edit is cut_in_its_last_chunk:
            matched += LAST - 1
    inode = os.stat(memory / "dst/f").st_ino
    ran = sync(memory, engine=engine, inplace=True, copy_method="read_write")
    assert_updated(memory, ran, matched)
    assert os.stat(memory / "dst/f").st_ino == inode


@pytest.mark.parametrize(("kind", "method"), [("ext4", "direct"), ("btrfs", "read_write")])
def test_in_place_by_each_method(
    filesystems: Filesystems, engine: str, kind: str, method: str
) -> None:
    """What O_DIRECT writes stands beside what is left alone."""
    with filesystems.mount(kind).directory() as where:
        matched = old_and_new(where, change(9 * MIB), copy_method=method)
        ran = sync(where, engine=engine, inplace=True, copy_method=method, reflink="never")
        assert_updated(where, ran, matched)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize(
    "small", [{"queue_depth": 1}, {"buffer_bytes": 4096, "memory_bytes": 16 * MIB, "cpu_count": 8}]
)
def test_buffers_that_hold_no_chunk(
    cloning: Path, engine: str, inplace: bool, small: dict[str, int]
) -> None:
    """A chunk that differs is then read a second time."""
    matched = old_and_new(cloning, change(5 * MIB, 6 * MIB))
    ran = sync(cloning, engine=engine, inplace=inplace, **small)
    assert_updated(cloning, ran, matched)


OTHERWISE: dict[str, dict[str, Any]] = {
    "-W": {"whole_file": True},
    "--reflink=never": {"reflink": "never"},
    "--preallocate": {"preallocate": True},
    "by splice": {"copy_method": "splice"},
}


@pytest.mark.parametrize("options", OTHERWISE.values(), ids=OTHERWISE)
def test_options_that_write_it_whole(cloning: Path, options: dict[str, Any]) -> None:
    """Nothing is shared."""
    old_and_new(cloning, change(5 * MIB))
    ran = sync(cloning, **options)
    assert (ran.code, ran.report.counts.matched_bytes) == (0, 0)
    assert (cloning / "dst/f").read_bytes() == (cloning / "src/f").read_bytes()


def test_whole_file_in_place(memory: Path, engine: str) -> None:
    """-W with --inplace reads one side and writes all of it."""
    old_and_new(memory, change(5 * MIB), copy_method="read_write")
    ran = sync(memory, engine=engine, inplace=True, whole_file=True, copy_method="read_write")
    assert_updated(memory, ran, 0)


def test_without_reflinks_it_is_written_whole(filesystems: Filesystems, engine: str) -> None:
    """ext4: a file beside the old one gets all of its bytes."""
    with filesystems.mount("ext4").directory() as where:
        old_and_new(where, change(5 * MIB))
        ran = sync(where, engine=engine)
        assert_updated(where, ran, 0)


def test_the_time_of_a_verification_is_not_moved(
    cloning: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks that are shared were not read at DST: its row keeps the time of the first copy."""
    monkeypatch.setattr("arsync.uring.recording.time.time", lambda: 1000.0)
    old_and_new(cloning, change(5 * MIB))
    monkeypatch.setattr("arsync.uring.recording.time.time", lambda: 2000.0)
    assert sync(cloning).report.counts.matched_bytes
    dst, src = (
        recorded(cloning / "state", cloning / "dst", tree)[b""].rows[b"f"] for tree in (0, 1)
    )
    assert (dst.verified, src.verified) == (1000, 2000)


# ------------------------------------------------------------------- what is not believed


def rewrite(path: Path, at: int = 20 * MIB) -> None:
    """Write into a file and put its mtime back."""
    info = path.stat()
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"somebody else's")
    os.utime(path, ns=(info.st_mtime_ns, info.st_mtime_ns))


@pytest.mark.parametrize("inplace", [False, True])
def test_a_destination_that_somebody_changed(cloning: Path, engine: str, inplace: bool) -> None:
    """Its mtime and size are as recorded, its ctime is not: its chunks are not believed."""
    matched = old_and_new(cloning, change(5 * MIB))
    rewrite(cloning / "dst/f")
    ran = sync(cloning, engine=engine, inplace=inplace)
    assert_updated(cloning, ran, matched - CHUNK if inplace else 0)


@pytest.mark.parametrize("inplace", [False, True])
def test_a_destination_that_is_changed_meanwhile(cloning: Path, engine: str, inplace: bool) -> None:
    """After the walk has seen it and before it is opened."""
    matched = old_and_new(cloning, change(5 * MIB))
    with (
        paused_at(Op.OPEN_FILE) as pause,
        running(
            cloning / "src",
            cloning / "dst",
            manifest=policy(cloning),
            engine=engine,
            inplace=inplace,
        ) as ran,
    ):
        pause.wait()
        rewrite(cloning / "dst/f")
        pause.resume()
    assert_updated(cloning, ran, matched - CHUNK if inplace else 0)


@pytest.mark.parametrize("inplace", [False, True])
def test_rehash_believes_no_chunk(cloning: Path, engine: str, inplace: bool) -> None:
    """--rehash: a clone would have to believe them, in place both sides are read."""
    matched = old_and_new(cloning, change(5 * MIB))
    manifest = replace(policy(cloning), rehash=True)
    ran = run(cloning / "src", cloning / "dst", manifest=manifest, engine=engine, inplace=inplace)
    assert_updated(cloning, ran, matched if inplace else 0)


@pytest.mark.parametrize("damage", [b"", b"x" * 16, b"x" * (16 * (SIZE // CHUNK + 1))])
def test_a_damaged_list_is_not_believed(cloning: Path, damage: bytes) -> None:
    """It is not the preimage of the row's hash, so the file is written whole."""
    old_and_new(cloning, change(5 * MIB))
    with Store(find(cloning / "state", bytes(cloning / "dst")).store, b"dst") as store:
        store.commit(Group(chunks=[((ROOT, b"f"), damage)]))
    assert_updated(cloning, sync(cloning), 0)


def test_a_list_is_gone_before_its_file_is_written_into(memory: Path, engine: str) -> None:
    """--inplace: after a crash nothing says of a half written chunk that it is the old one."""
    matched = old_and_new(memory, change(5 * MIB), copy_method="read_write")
    with (
        paused_at(Op.WRITE) as pause,
        running(
            memory / "src",
            memory / "dst",
            manifest=policy(memory),
            engine=engine,
            inplace=True,
            copy_method="read_write",
        ) as ran,
    ):
        pause.wait()
        shutil.copytree(memory / "state", memory / "meanwhile")
        pause.resume()
    assert recorded_chunks(memory / "meanwhile", memory / "dst") == {}
    assert_updated(memory, ran, matched)


# ---------------------------------------------------------------------- holes and trouble


@pytest.mark.parametrize("inplace", [False, True])
def test_holes_that_come_and_go(each_cloning: Path, engine: str, inplace: bool) -> None:
    """Holes of the source are holes of the copy, whatever the old file had there."""
    before = {0: Pattern(9 * MIB, 1), 20 * MIB: Pattern(9 * MIB, 2), BIG: Pattern(MIB, 3)}
    after = {0: Pattern(4 * MIB, 1), 13 * MIB: Pattern(MIB, 4), 20 * MIB: Pattern(9 * MIB, 2)}
    for number, parts in enumerate((before, after)):
        shutil.rmtree(each_cloning / "src/t", ignore_errors=True)
        make(Tree({"f": File(Sparse(SIZE, parts), mtime_ns=NS + number)}), each_cloning / "src/t")
        ran = run(
            each_cloning / "src/t",
            each_cloning / "dst",
            manifest=policy(each_cloning),
            engine=engine,
            inplace=inplace,
        )
        assert ran.code == 0
        assert_same(each_cloning / "src/t", each_cloning / "dst", holes=True)
    assert ran.report.counts.matched_bytes >= 2 * CHUNK
    assert ran.report.counts.hole_bytes >= 3 * CHUNK


@pytest.mark.parametrize("inplace", [False, True])
def test_a_source_that_changes_while_it_is_read(cloning: Path, engine: str, inplace: bool) -> None:
    """The second round compares with what is there by then; what the walk saw is not recorded."""
    old_and_new(cloning, change(5 * MIB))
    with (
        paused_at(Op.WRITE) as pause,
        running(
            cloning / "src",
            cloning / "dst",
            manifest=policy(cloning),
            inplace=inplace,
            copy_method="read_write",
            **single(engine),
        ) as ran,
    ):
        pause.wait()
        with (cloning / "src/f").open("r+b") as file:
            file.write(b"since it was read")
        pause.resume()
    assert (ran.code, ran.report.counts.rereads) == (0, 1)
    assert (cloning / "dst/f").read_bytes() == (cloning / "src/f").read_bytes()
    assert ran.report.counts.matched_bytes == (SIZE - CHUNK if inplace else SIZE - 2 * CHUNK)
    assert lists(cloning) == {}


@pytest.mark.parametrize("error", [errno.EOPNOTSUPP, errno.EINVAL, errno.EIO])
def test_a_clone_that_fails(cloning: Path, engine: str, error: int) -> None:
    """Then the file is written whole."""
    old_and_new(cloning, change(5 * MIB))
    with fault(Op.REFLINK, Action.ERROR, error):
        assert_updated(cloning, sync(cloning, engine=engine), 0)


def test_an_old_file_that_cannot_be_read_is_written_over(memory: Path) -> None:
    """--inplace: a read error at DST is no failure, its chunk is written."""
    matched = old_and_new(memory, change(5 * MIB), copy_method="read_write")
    shutil.rmtree(memory / "state")
    with fault(Op.READ, Action.ERROR, errno.EIO):
        ran = sync(memory, inplace=True, copy_method="read_write", **single("sync"))
    assert_updated(memory, ran, matched - CHUNK)


@pytest.mark.parametrize("op", [Op.WRITE, Op.READ])
def test_a_failure_leaves_the_old_file(cloning: Path, engine: str, op: Op) -> None:
    """A full disk, or a source that cannot be read: the old content, and no temporary name."""
    old_and_new(cloning, change(5 * MIB))
    before = (cloning / "dst/f").read_bytes()
    error = errno.ENOSPC if op is Op.WRITE else errno.EIO
    with fault(op, Action.ERROR, error):
        ran = sync(cloning, engine=engine, copy_method="read_write")
    assert ran.code == (11 if op is Op.WRITE else 23)
    assert (cloning / "dst/f").read_bytes() == before
    assert litter(cloning / "dst") == []
    assert sync(cloning, engine=engine).code == 0
    assert (cloning / "dst/f").read_bytes() == (cloning / "src/f").read_bytes()


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_any_edits(each_cloning: Path, engine: str, inplace: bool, seed: int) -> None:
    """Round after round, with the lists that the round before has recorded."""
    draw = random.Random(seed)

    def edit(content: bytearray) -> None:
        for _ in range(draw.randrange(4)):
            at = draw.randrange(len(content))
            content[at : at + draw.choice((1, 4096, CHUNK))] = draw.randbytes(
                draw.choice((1, 4096))
            )

    old_and_new(each_cloning, edit, engine=engine)
    for number in range(3):
        ran = sync(each_cloning, engine=engine, inplace=inplace)
        content = bytearray((each_cloning / "src/f").read_bytes())
        assert ran.code == 0
        assert (each_cloning / "dst/f").read_bytes() == content
        assert lists(each_cloning) == {b"f": chunks_of(bytes(content))[1]}
        edit(content)
        (each_cloning / "src/f").write_bytes(content)
        os.utime(each_cloning / "src/f", ns=(NS, NS + 10**10 * (number + 2)))


@pytest.mark.parametrize("inplace", [False, True])
def test_a_backup_is_the_old_file(cloning: Path, inplace: bool) -> None:
    """-b keeps what was there, whole."""
    matched = old_and_new(cloning, change(5 * MIB))
    before = (cloning / "dst/f").read_bytes()
    ran = sync(cloning, inplace=inplace, backup=True)
    assert (cloning / "dst/f~").read_bytes() == before
    (cloning / "dst/f~").unlink()
    assert_updated(cloning, ran, matched)


def test_the_report_says_what_was_shared(cloning: Path) -> None:
    """In the summary, in rsync's --stats and in JSON."""
    matched = old_and_new(cloning, change(5 * MIB))
    report = sync(cloning).report
    assert f"{size(matched)} shared with old files" in " ".join(summary(report).split())
    assert f"Matched data: {matched} bytes\n" in stats_table(report, 0)
    assert f"Literal data: {SIZE - matched} bytes\n" in stats_table(report, 0)
