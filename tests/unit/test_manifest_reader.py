"""Reading a store that nobody holds, that a run holds, and that a run has left."""

from __future__ import annotations

import fcntl
import os
import random
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from arsync.errors import ManifestCorruptError, ManifestError, SelectionError
from arsync.manifest import lock
from arsync.manifest.format import Page, Place
from arsync.manifest.reader import Reader
from arsync.manifest.records import seal
from arsync.manifest.store import Group, Store
from arsync.model import PageFlag
from tests.kit.recorded import make_directories, run_of
from tests.manifest_pages import simple_page

DST = b"/backup"

# Holds a store and commits a directory for each line that it reads.
RUN = """
import sys
from pathlib import Path
from arsync.manifest.format import Place
from arsync.manifest.store import Group, Store
from arsync.model import PageFlag
from tests.kit.recorded import make_directories
from tests.manifest_pages import simple_page

with Store(Path(sys.argv[1]), b"/backup") as store:
    print("open", flush=True)
    for number, line in enumerate(sys.stdin):
        (one,) = make_directories(store, [(1, b"new%d" % number)])
        store.commit(Group(pages=[(0, one, [(b"", simple_page(3).encode(Place(0, one)))])]))
        print("done", flush=True)
"""


def page_bytes(directory: int, rows: int = 3) -> bytes:
    """Return the record of a small directory."""
    return simple_page(rows).encode(Place(0, directory))


def fill(path: Path, rows: int = 3) -> list[int]:
    """Record b, a and a/c below the root; return the ids of all four."""
    with Store(path, DST) as store:
        b, a = make_directories(store, [(1, b"b"), (1, b"a")])
        (c,) = make_directories(store, [(a, b"c")])
        ids = [1, b, a, c]
        store.commit(Group(pages=[(0, one, [(b"", page_bytes(one, rows))]) for one in ids]))
    return ids


def commit(run: subprocess.Popen[str]) -> None:
    """Let the other process commit a directory."""
    assert run.stdin is not None
    assert run.stdout is not None
    run.stdin.write("\n")
    run.stdin.flush()
    assert run.stdout.readline() == "done\n"


def paths(reader: Reader) -> list[bytes]:
    """Return the directories that a reader sees."""
    return [one.path for one in reader.tree(0)]


def test_a_tree_comes_in_the_order_of_its_paths(tmp_path: Path) -> None:
    """Parents first, names in order, from any directory on; each with its place."""
    _, _, a, c = fill(tmp_path)
    with Reader(tmp_path) as reader:
        assert paths(reader) == [b"", b"a", b"a/c", b"b"]
        assert [one.path for one in reader.tree(0, a)] == [b"", b"c"]
        assert [one.place for one in reader.tree(0, c)] == [Place(0, c)]
        assert reader.find_directory(b"a/c") == c
        assert reader.find_directory(b"") == 1
        assert reader.find_directory(b"a/x/y") is None
        assert list(reader.tree(1)) == []


def test_the_page_of_a_name_is_found(tmp_path: Path) -> None:
    """Also in a directory of several pages, and at both ends of what is recorded."""
    page = simple_page(3)
    first = replace(page, flags=PageFlag.FIRST)
    columns = {name: values[1:] for name, values in page.seen.items()}
    last = replace(
        page,
        flags=PageFlag.LAST,
        names=(b"m", b"n", b"o"),
        targets=page.targets[1:],
        seen=columns,
        states=page.states[1:],
        hashes=page.hashes[1:],
        verified=page.verified[1:],
    )
    records = [(b"", first.encode(Place(0, 1))), (b"m", last.encode(Place(0, 1, b"m")))]
    with Store(tmp_path, DST) as store:
        store.commit(Group(pages=[(0, 1, records)]))
    with Reader(tmp_path) as reader:
        firsts = {}
        for name in (b"a", b"f0002", b"m", b"n", b"z"):
            found = reader.page_with(0, 1, name)
            assert found is not None
            firsts[name] = found.place.first
        assert firsts == {b"a": b"", b"f0002": b"", b"m": b"m", b"n": b"m", b"z": b"m"}
        assert reader.page_with(0, 2, b"a") is None
        assert reader.page_with(1, 1, b"a") is None
        assert [one.place.first for one in reader.tree(0)] == [b"", b"m"]


@pytest.mark.parametrize("flags", [PageFlag.FIRST, PageFlag.LAST])
def test_a_missing_page_is_damage(flags: PageFlag, tmp_path: Path) -> None:
    """A directory without its first or its last page is not taken for a shorter one."""
    page = simple_page(3)
    place = Place(0, 1)
    if not flags & PageFlag.FIRST:
        columns = {name: values[1:] for name, values in page.seen.items()}
        page = replace(page, names=page.names[1:], targets=page.targets[1:], seen=columns)
        page = replace(page, states=page.states[1:], hashes=page.hashes[1:])
        page = replace(page, verified=page.verified[1:])
        place = Place(0, 1, b"f0000")
    data = replace(page, flags=flags).encode(place)
    with Store(tmp_path, DST) as store:
        store.commit(Group(pages=[(0, 1, [(place.first, data)])]))
    with Reader(tmp_path) as reader, pytest.raises(ManifestCorruptError, match="page of a direc"):
        list(reader.tree(0))


def test_a_run_goes_on_beside_a_reader(tmp_path: Path) -> None:
    """Who reads sees one moment, whatever is committed meanwhile, and is told who holds it."""
    fill(tmp_path)
    before = [b"", b"a", b"a/c", b"b"]
    with run_of(tmp_path, RUN) as run:
        commit(run)
        with Reader(tmp_path) as reader:
            assert reader.lock.is_held
            assert reader.lock.holder is not None
            assert reader.lock.holder.pid == run.pid
            seen = reader.tree(0)
            assert next(seen).path == b""
            for _ in range(20):
                commit(run)
            assert [one.path for one in seen] == [*before[1:], b"new0"]
        with Reader(tmp_path) as reader:
            assert paths(reader) == [*before, *sorted(b"new%d" % one for one in range(21))]
    with Reader(tmp_path) as reader:
        assert reader.lock == lock.LockState(is_held=False, is_left=False)


def test_looking_at_a_lock_ends_no_run(tmp_path: Path) -> None:
    """A run that begins while somebody looks waits for that moment; a real holder is final."""
    path = tmp_path / "lock"
    assert lock.look(path) == lock.LockState(is_held=False, is_left=False)
    path.touch()
    script = (
        "import fcntl, sys, time; file = open(sys.argv[1]); fcntl.flock(file, fcntl.LOCK_SH)\n"
        "print('looking', flush=True); time.sleep(0.03)"
    )
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "looking\n"
        lock_fd, was_clean = lock.hold(path, DST)
    assert was_clean
    assert lock.look(path).is_held
    fcntl.flock(lock_fd, fcntl.LOCK_UN)
    state = lock.look(path)
    assert state.is_left
    assert state.holder is not None
    assert state.holder.pid == os.getpid()
    lock.release(lock_fd, clean=True)


def test_what_a_dead_run_has_left_is_walked_first(tmp_path: Path) -> None:
    """Its store is read if nothing is wrong with it; a damaged page is said with exit code 42."""
    fill(tmp_path)
    with run_of(tmp_path, RUN) as run:
        run.kill()
    with Reader(tmp_path) as reader:
        assert reader.lock.is_left
        assert paths(reader) == [b"", b"a", b"a/c", b"b"]
    with Store(tmp_path, DST) as store:
        store.commit(Group(pages=[(0, 1, [(b"", page_bytes(2))])]))
    (tmp_path / "lock").write_text("1 1 here\n")
    with pytest.raises(ManifestCorruptError) as caught:
        Reader(tmp_path)
    assert caught.value.exit_code == 42


def test_a_truncated_store_is_said_at_every_page(tmp_path: Path) -> None:
    """The length is looked at before the file is mapped, so nobody dies of SIGBUS."""
    fill(tmp_path)
    length = (tmp_path / "data.mdb").stat().st_size
    said = []
    for cut in range(length - 4096, 0, -4096):
        os.truncate(tmp_path / "data.mdb", cut)
        try:
            with Reader(tmp_path) as reader:
                said.append(len(paths(reader)))
        except ManifestError:
            said.append(42)
    assert set(said) <= {4, 42}
    assert 42 in said


@pytest.mark.parametrize("content", [None, b""])
def test_an_empty_store_holds_nothing(content: bytes | None, tmp_path: Path) -> None:
    """A store whose run died before its first transaction is empty, not damaged."""
    if content is not None:
        (tmp_path / "data.mdb").write_bytes(content)
    with pytest.raises(SelectionError, match="nothing is recorded in"):
        Reader(tmp_path)
    assert not (tmp_path / "lock.mdb").exists()


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    """Exit code 42, as for a run."""
    with Store(tmp_path, DST) as store:
        value = seal("meta", b"format", (2).to_bytes(4, "little"))
        store._write(lambda txn: txn.put(b"format", value, db=store._databases["meta"]))
    with pytest.raises(ManifestError, match="its format is 2"):
        Reader(tmp_path)


def verdict_on(path: Path) -> str:
    """Say what a reader in a process of its own makes of the store of `fill`."""
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            os.write(write_fd, judge(path).encode())
        finally:
            os._exit(0)
    os.close(write_fd)
    with os.fdopen(read_fd) as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    return f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else said or "failed"


def judge(path: Path) -> str:
    """Read everything; "less" says that only some of it was found, unchanged."""
    whole = [(b"", 1), (b"a", 3), (b"a/c", 4), (b"b", 2)]
    expected = [(where, page_bytes(one, 400)) for where, one in whole]
    try:
        with Reader(path) as reader:
            found = [(one.path, one.data) for one in reader.tree(0)]
            for page in reader.tree(0):
                Page.decode(page.data, page.place)
    except ManifestError:
        return "error"
    if found == expected:
        return "right"
    return "less" if set(found) < set(expected) else "wrong"


def test_damage_of_a_clean_store_kills_no_reader(tmp_path: Path) -> None:
    """A child reads every entry first: of 150 damaged pages none is a signal or a wrong answer."""
    fill(tmp_path / "whole", rows=400)
    data = (tmp_path / "whole" / "data.mdb").read_bytes()
    assert verdict_on(tmp_path / "whole") == "right"
    chance = random.Random(4711)
    said = []
    for index in range(150):
        damaged = bytearray(data)
        start = chance.randrange(len(data) // 4096) * 4096
        if index % 3 == 0:
            damaged[start : start + 4096] = chance.randbytes(4096)
        elif index % 3 == 1:
            damaged[start : start + 4096] = bytes(4096)
        else:
            for _ in range(3):
                damaged[start + chance.randrange(4096)] ^= 1 << chance.randrange(8)
        copy = tmp_path / f"{index}"
        copy.mkdir()
        (copy / "data.mdb").write_bytes(damaged)
        said.append(verdict_on(copy))
    assert set(said) <= {"error", "right", "less"}
    assert said.count("error") > 30
    assert said.count("less") < 5


def test_memory_does_not_grow_with_what_is_recorded(tmp_path: Path) -> None:
    """A tree is read a page at a time, a flat directory too."""
    peaks = []
    for count in (2, 40):
        path = tmp_path / f"{count}"
        with Store(path, DST) as store:
            ids = make_directories(store, [(1, b"d%03d" % number) for number in range(count)])
            pages = [(0, one, [(b"", page_bytes(one, 1000))]) for one in (1, *ids)]
            pages += [(1, 1, flat_directory(count))]
            store.commit(Group(pages=pages))
        with Reader(path) as reader:
            tracemalloc.start()
            assert sum(1 for tree in (0, 1) for _ in reader.tree(tree)) == 2 * count + 1
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def flat_directory(count: int) -> list[tuple[bytes, bytes]]:
    """Return the pages of one directory of source 1, 1,000 entries each."""
    whole = simple_page(1000)
    pages = []
    for number in range(count):
        start = 0 if number == 0 else 1
        names = tuple(name and b"%03d-%b" % (number, name) for name in whole.names[start:])
        page = replace(
            whole,
            flags=PageFlag.FIRST * (number == 0) | PageFlag.LAST * (number == count - 1),
            names=names,
            targets=whole.targets[start:],
            seen={name: values[start:] for name, values in whole.seen.items()},
            states=whole.states[start:],
            hashes=whole.hashes[start:],
            verified=whole.verified[start:],
        )
        first = names[0] if start else b""
        pages.append((first, page.encode(Place(1, 1, first))))
    return pages
