"""The store: what goes in comes out, damage is said, and two runs do not meet in it."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from arsync.errors import FileError, LockHeldError, ManifestCorruptError, ManifestError
from arsync.manifest import health
from arsync.manifest.format import Page, Place
from arsync.manifest.records import seal
from arsync.manifest.store import Group, Store
from arsync.model import PageFlag
from arsync.uring.records import are_sound
from tests.kit.damage import PAGE_BYTES
from tests.kit.damage import damaged as damaged_page
from tests.kit.filesystems import filesystem
from tests.kit.recorded import make_directories
from tests.manifest_pages import simple_page
from tests.requirements import need_filesystem

DST = b"/backup"


def page_bytes(directory: int, rows: int = 3, tree: int = 0) -> bytes:
    """Return the record of a small directory."""
    return simple_page(rows).encode(Place(tree, directory))


def fill(store: Store, count: int = 40, rows: int = 3) -> dict[int, bytes]:
    """Record some directories below the root, and return what is recorded of each."""
    ids = make_directories(store, [(1, b"d%03d" % index) for index in range(count)])
    pages = {directory: page_bytes(directory, rows) for directory in (1, *ids)}
    store.commit(Group(pages=[(0, one, [(b"", data)]) for one, data in pages.items()]))
    return pages


def read_back(store: Store, count: int) -> dict[int, bytes]:
    """Return what is recorded of the root and the directories of `fill`, each page checked."""
    ids = store.directory_ids([(1, b"d%03d" % index) for index in range(count)])
    known = [1, *(one for one in ids if one is not None)]
    found = {
        one: pages[0] for one, pages in zip(known, store.pages_of(0, known), strict=True) if pages
    }
    if not all(are_sound([(0, one) for one in found], list(found.values()))):
        raise ManifestCorruptError("a page is damaged")
    return found


def test_pages_come_back(tmp_path: Path) -> None:
    """What was committed is there after closing, of each tree its own."""
    with Store(tmp_path / "s", DST) as store:
        pages = fill(store)
        store.commit(Group(pages=[(1, 1, [(b"", page_bytes(1, tree=1))])]))
    with Store(tmp_path / "s", DST) as store:
        assert read_back(store, 40) == pages
        assert store.pages_of(1, [1, 2]) == [[page_bytes(1, tree=1)], []]
        assert store.sizes().rows == 41 * 4 + 4
        assert store.sizes().directories == 41
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o700


def test_directories_keep_their_ids_and_move(tmp_path: Path) -> None:
    """An id is given once; a directory that moves keeps it, and one that is gone has none."""
    with Store(tmp_path, DST) as store:
        a, b = make_directories(store, [(1, b"a"), (1, b"b")])
        assert make_directories(store, [(1, b"b"), (a, b"c")]) == [b, 4]
        store.commit(Group(pages=[(0, b, [(b"", page_bytes(b))])], chunks=[((b, b"f"), b"x" * 32)]))
        store.commit(Group(moves=[((1, b"b"), (a, b"new"))]))
        assert store.directory_ids([(1, b"b"), (a, b"new")]) == [None, b]
        assert store.pages_of(0, [b]) == [[page_bytes(b)]]
        assert store.chunks_of([(b, b"f"), (b, b"g")]) == [b"x" * 32, None]
        store.commit(Group(removals=[(a, b"new")]))
        assert store.directory_ids([(a, b"new")]) == [None]
        assert store.pages_of(0, [b]) == [[]]
        assert store.chunks_of([(b, b"f")]) == [None]
        assert make_directories(store, [(1, b"b")]) == [5]


def test_a_tree_is_read_in_the_order_of_its_paths(tmp_path: Path) -> None:
    """Parents come first, names in order of their bytes."""
    with Store(tmp_path, DST) as store:
        b, a = make_directories(store, [(1, b"b"), (1, b"a")])
        (deep,) = make_directories(store, [(a, b"\xff")])
        ids = (1, b, a, deep)
        store.commit(Group(pages=[(0, one, [(b"", page_bytes(one))]) for one in ids]))
        assert [one.path for one in store.directories(0)] == [b"", b"a", b"a/\xff", b"b"]
        assert [Page.decode(one.pages[0], Place(0, one.directory)) for one in store.directories(0)]


def test_trees_and_runs_are_kept(tmp_path: Path) -> None:
    """A source keeps its number; the history is in order."""
    with Store(tmp_path, DST) as store:
        numbers = [
            store.tree_of({"inode": inode}, same=lambda one, inode=inode: one["inode"] == inode)
            for inode in (7, 8, 7)
        ]
        assert numbers == [1, 2, 1]
        assert store.trees() == [(1, {"inode": 7}), (2, {"inode": 8})]
        store.commit(Group(runs=[{"result": 0}, {"result": 23}]))
        assert store.runs() == [(1, {"result": 0}), (2, {"result": 23})]


def test_a_missing_page_of_a_directory_is_damage(tmp_path: Path) -> None:
    """A directory of which the first or the last page is gone is not taken for a shorter one."""
    page = simple_page(3)
    only_first = Page(**{**vars(page), "flags": PageFlag.FIRST})
    with Store(tmp_path, DST) as store:
        store.commit(Group(pages=[(0, 1, [(b"", only_first.encode(Place(0, 1)))])]))
        with pytest.raises(ManifestCorruptError, match="last page"):
            store.pages_of(0, [1])


def test_the_map_grows(tmp_path: Path) -> None:
    """A group that does not fit into the map is committed all the same."""
    with Store(tmp_path, DST, map_bytes=1 << 17) as store:
        pages = fill(store, 200, 100)
        assert sum(map(len, pages.values())) > 2 << 17
        assert read_back(store, 200) == pages
    with Store(tmp_path, DST) as store:
        assert read_back(store, 200) == pages


def test_a_second_run_is_told_who_holds_the_store(tmp_path: Path) -> None:
    """Exit code 41, with the process and since when; once it has died the store is free."""
    script = (
        "import sys, time; from pathlib import Path; from arsync.manifest.store import Store\n"
        "store = Store(Path(sys.argv[1]), b'/backup'); print('open', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(LockHeldError) as caught:
            Store(tmp_path, DST)
        other.kill()
    year = time.strftime("%Y-")
    assert f"cannot lock '/backup': process {other.pid} on " in str(caught.value)
    assert f"since {year}" in str(caught.value)
    assert caught.value.exit_code == 41
    with Store(tmp_path, DST) as store:
        assert store.runs() == []


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    """Exit code 42, and the store stays as it is."""
    with Store(tmp_path, DST) as store:
        fill(store)
        value = seal("meta", b"format", (2).to_bytes(4, "little"))
        store._write(lambda txn: txn.put(b"format", value, db=store._databases["meta"]))
    with pytest.raises(ManifestError, match="its format is 2, this arsync knows 1") as caught:
        Store(tmp_path, DST)
    assert caught.value.exit_code == 42


def test_a_full_disk_leaves_the_store_as_it_was() -> None:
    """Exit code 11; what was committed before is there, also for the next run."""
    need_filesystem("tmpfs")
    with filesystem("tmpfs", size_bytes=1 << 20) as mount:
        directory = mount.path / "s"
        with Store(directory, DST) as store:
            pages = fill(store, 10)
            with pytest.raises(FileError, match="No space left on device") as caught:
                fill_until_full(store)
            assert caught.value.exit_code == 11
            assert read_back(store, 10) == pages
        with Store(directory, DST) as store:
            assert read_back(store, 10) == pages


def fill_until_full(store: Store) -> None:
    """Record directories of 1,000 rows until that fails."""
    for index in range(100):
        (directory,) = make_directories(store, [(2, b"%d" % index)])
        data = page_bytes(directory, 1000)
        store.commit(Group(pages=[(0, directory, [(b"", data)])]))


@pytest.fixture(scope="module")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, bytes]]:
    """Return a store that was closed well, and what is in it."""
    directory = tmp_path_factory.mktemp("store")
    with Store(directory, DST) as store:
        pages = fill(store, 30, 20)
        pages |= fill(store, 30, 21)
    return directory, pages


def judge(directory: Path) -> str:
    """Read a store of `small_store`; "less" says that only some of it was found, unchanged."""
    try:
        with Store(directory, DST) as store:
            found = read_back(store, 30)
    except ManifestError:
        return "error"
    expected = {one: page_bytes(one, 21) for one in range(1, 32)}
    if found == expected:
        return "right"
    return "less" if found.items() <= expected.items() else "wrong"


def verdict_on(directory: Path) -> str:
    """Judge a store in a forked child."""
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 2)
            os.write(write_fd, judge(directory).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(write_fd)
    with os.fdopen(read_fd, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(pid, 0)
    return f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else said or "failed"


def copy_of(store: Path, to: Path, *, clean: bool) -> Path:
    """Copy a store; one that is not clean looks as if its run had died."""
    to.mkdir()
    shutil.copy(store / "data.mdb", to)
    (to / "lock").write_text("" if clean else "1 1 here\n")
    return to


def test_truncation_at_every_page_is_an_error_or_harmless(
    small_store: tuple[Path, dict[int, bytes]], tmp_path: Path
) -> None:
    """A file that lost its end kills nobody, and nothing that was recorded is taken for nothing."""
    store, pages = small_store
    assert judge(copy_of(store, tmp_path / "whole", clean=True)) == "right"
    assert len(pages) == 31
    length = (store / "data.mdb").stat().st_size
    said = []
    for cut in range(PAGE_BYTES, length, PAGE_BYTES):
        copy = copy_of(store, tmp_path / f"cut{cut}", clean=True)
        os.truncate(copy / "data.mdb", cut)
        assert not health.is_whole(copy / "data.mdb")
        said.append(verdict_on(copy))
    assert set(said) <= {"error", "right"}
    assert said.count("error") > len(said) // 2


def test_300_damaged_pages_after_an_unclean_end(
    small_store: tuple[Path, dict[int, bytes]], tmp_path: Path
) -> None:
    """The walk in a child finds damage of any page, or the answer is right; nobody dies."""
    said = [verdict_on(one) for one in damaged(small_store[0], tmp_path, count=300, clean=False)]
    assert set(said) <= {"error", "right"}
    assert said.count("error") > 50


def test_300_damaged_pages_of_a_clean_store(
    small_store: tuple[Path, dict[int, bytes]], tmp_path: Path
) -> None:
    """Every entry is reached in a child first, which finds those that damage has hidden."""
    said = [verdict_on(one) for one in damaged(small_store[0], tmp_path, count=300, clean=True)]
    assert set(said) <= {"error", "right"}
    assert said.count("error") > 50


def damaged(store: Path, to: Path, *, count: int, clean: bool) -> list[Path]:
    """Return copies of a store with one page damaged each: noise, zeros, or a few flipped bits."""
    chance = random.Random(4711)
    copies = []
    for index in range(count):
        copy = copy_of(store, to / f"{index}", clean=clean)
        data = copy / "data.mdb"
        data.write_bytes(damaged_page(data.read_bytes(), chance, index % 3))
        copies.append(copy)
    return copies
