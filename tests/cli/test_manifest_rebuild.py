"""`arsync manifest rebuild`: what can still be read stays, and nothing is blessed."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from arsync.cli.run import run
from arsync.manifest import lock
from arsync.manifest.format import RowState
from arsync.manifest.records import seal
from arsync.manifest.store import Group, Store
from arsync.manifest.walk import walk
from tests.kit import Dir, File, HardLink, Pattern, Symlink, Tree, assert_same, make
from tests.kit.manifests import DST, Row, history, recorded
from tests.kit.programs import run_arsync

SRC = 1
PAGE_BYTES = 4096
TREE = {
    "a": {"one": File(b"1"), "deep": {"two": File(b"2"), "link": Symlink("two")}},
    "b": {"three": File(b"3"), "name": HardLink("a/one")},
    "bare": Dir(),
    "big": File(Pattern((9 << 20) + 7)),
    "many": {f"f{number:04}": File(b"%d" % number) for number in range(1500)},
}


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Lend a directory in memory with a source that has been copied, and name the manifests'."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="arsync-test-rebuild-", dir=memory) as name:
        monkeypatch.setenv("ARSYNC_STATE_DIR", f"{name}/state")
        make(Tree(TREE), Path(name, "src"))
        for _ in range(2):
            assert sync(Path(name)) == b""
        yield Path(name)


def sync(place: Path, *options: str, code: int = 0) -> bytes:
    """Run; return what it says on the standard error."""
    paths = [f"{place}/src/", f"{place}/dst"]
    done = run_arsync(["-aH", "--copy-method=read_write", *options, *paths])
    assert done.code == code, done.stderr
    return done.stderr


def store_of(place: Path) -> Path:
    """Return the only store."""
    (found,) = (place / "state").glob("*/destination.json")
    return found.parent


def rebuild(place: Path, capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    """Rebuild; return what is said, and see that the result is sound."""
    capsys.readouterr()
    assert run(["manifest", "rebuild", str(place / "dst")]) == code
    out, err = capsys.readouterr()
    if not code:
        assert err == ""
        walk(store_of(place))
        assert not list((place / "state").glob("*.new-*"))
    return out if not code else err


def rows(place: Path, tree: int = DST) -> dict[bytes, Row]:
    """Return the recorded rows of a tree by their paths; directories by their own rows."""
    return {
        os.path.join(path, name): row
        for path, one in recorded(place / "state", place / "dst", tree).items()
        for name, row in one.rows.items()
        if not name or row.seen["type"] != DT_DIR
    }


DT_DIR = 4


def test_what_is_whole_stays(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All rows, hashes, chunk hashes and the history are as before; nothing has converged."""
    before = [rows(place, tree) for tree in (DST, SRC)]
    with Store(store_of(place), b"") as store:
        (big,) = store.chunks_of([(1, b"big")])
    lines = history(place / "state", place / "dst")
    said = rebuild(place, capsys)
    # no run hashes a further name: a/one or b/name
    assert said.splitlines()[1:] == ["  1,504 kept their hashes", "  1 have no hash"]
    assert [rows(place, tree) for tree in (DST, SRC)] == before
    assert history(place / "state", place / "dst") == lines
    with Store(store_of(place), b"") as store:
        assert store.chunks_of([(1, b"big")]) == [big]
    sources = recorded(place / "state", place / "dst", SRC).values()
    assert not any(one.is_converged for one in sources)
    assert os.listdir(place / "state") == [store_of(place).name]
    assert sync(place) == b""
    sources = recorded(place / "state", place / "dst", SRC).values()
    assert all(one.is_converged for one in sources)


def test_what_changed_meanwhile_is_not_blessed(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The next run finds a file that was rewritten with its mtime put back, on either side."""
    for path in ("dst/a/one", "src/a/deep/two"):
        info = (place / path).stat()
        (place / path).write_bytes(b"x")
        os.utime(place / path, ns=(info.st_atime_ns, info.st_mtime_ns))
    (place / "dst/b/three").write_bytes(b"longer")
    (place / "dst/many/f0007").unlink()
    said = rebuild(place, capsys)
    assert "  2 are read by the next run: their ctime or inode has moved\n" in said
    assert "  2 have no hash\n" in said
    assert "  2 hashes are lost: of files that are gone, or not what they were\n" in said
    found = rows(place)
    # only one of a file's names is hashed, whichever came first
    names = {found[b"a/one"].state, found[b"b/name"].state}
    assert names == {RowState.HASHED | RowState.RACY, RowState.RACY}
    assert found[b"b/three"].state == 0
    assert b"many/f0007" not in found
    sync(place)
    assert (place / "dst/a/deep/two").read_bytes() == b"x"
    assert_same(place / "src", place / "dst")


def test_what_is_gone_is_forgotten(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Directories that the destination has no more leave nothing behind, on any side."""
    shutil.rmtree(place / "dst/a/deep")
    shutil.rmtree(place / "dst/many")
    rebuild(place, capsys)
    for tree in (DST, SRC):
        assert {b"a/deep/", b"many/"}.isdisjoint(rows(place, tree))
    with Store(store_of(place), b"") as store:
        assert {one for _, one, _ in store.chains()} <= {1, *(i for _, i in store.directory_keys())}
    sync(place)
    assert_same(place / "src", place / "dst")


def test_chunk_hashes_that_are_lost(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file's own hash stays, and says that there are none of its chunks."""
    with Store(store_of(place), b"") as store:
        store.commit(Group(chunks=[((1, b"big"), bytes(48))]))
    before = rows(place)[b"big"]
    rebuild(place, capsys)
    after = rows(place)[b"big"]
    assert (before.state, after.state) == (RowState.HASHED | RowState.CHUNKED, RowState.HASHED)
    assert after.hash == before.hash


def damage_page(data: Path, chance: Random) -> None:
    """Overwrite one page with noise."""
    pages = data.stat().st_size // PAGE_BYTES
    with data.open("r+b") as file:
        file.seek(chance.randrange(pages) * PAGE_BYTES)
        file.write(chance.randbytes(PAGE_BYTES))


def test_after_damage_of_any_page(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is kept was recorded like that, the old one is aside, and the next run is right."""
    chance = Random(11)
    before = rows(place)
    whole = (store_of(place) / "data.mdb").read_bytes()
    asides: set[str] = set()
    for _ in range(12):
        (store_of(place) / "data.mdb").write_bytes(whole)
        damage_page(store_of(place) / "data.mdb", chance)
        damaged = (store_of(place) / "data.mdb").read_bytes()
        said = rebuild(place, capsys)
        after = rows(place)
        assert set(after) == set(before)
        for path, row in after.items():
            assert row.seen == before[path].seen
            assert row.state == 0 or (row.state | RowState.CHUNKED, row.hash) == (
                before[path].state | RowState.CHUNKED,
                before[path].hash,
            )
        for aside in set(os.listdir(place / "state")) - asides - {store_of(place).name}:
            assert f"  what was there is now '{place / 'state' / aside}'\n" in said
            assert (place / "state" / aside / "data.mdb").read_bytes() == damaged
            shutil.rmtree(place / "state" / aside)
        assert sync(place) == b""
        assert_same(place / "src", place / "dst")


@pytest.mark.parametrize("how", ["missing", "empty", "cut", "noise", "half"])
def test_a_store_of_which_little_is_left(
    place: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    """All files are recorded without a hash where nothing can be read, and the next run goes on."""
    data = store_of(place) / "data.mdb"
    content = data.read_bytes()
    if how == "missing":
        data.unlink()
    elif how == "empty":
        data.write_bytes(b"")
    elif how == "cut":
        data.write_bytes(content[: 3 * PAGE_BYTES])
    elif how == "noise":
        data.write_bytes(Random(1).randbytes(len(content)))
    else:
        data.write_bytes(content[: len(content) // 2])
    said = rebuild(place, capsys)
    assert " have no hash\n" in said
    assert "  damaged: " in said
    assert set(rows(place)) >= {b"a/one", b"big", b"many/f1499", b"bare/"}
    assert sync(place) == b""
    assert sync(place, "-c", "--rehash") == b""
    assert_same(place / "src", place / "dst")


def test_a_newer_format_is_left_alone(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 42, and not a byte is touched."""
    path = store_of(place)
    with Store(path, b"") as store:
        value = seal("meta", b"format", (2).to_bytes(4, "little"))
        store._write(lambda txn: txn.put(b"format", value, db=store._databases["meta"]))
    before = (path / "data.mdb").read_bytes()
    assert "its format is 2, this arsync knows 1" in rebuild(place, capsys, code=42)
    assert os.listdir(place / "state") == [path.name]
    assert (path / "data.mdb").read_bytes() == before
    assert not lock.look(path / "lock").is_left


def test_a_run_that_holds_it(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 41 while a run is at it."""
    with Store(store_of(place), b""):
        assert "has held it since" in rebuild(place, capsys, code=41)
    assert len(os.listdir(place / "state")) == 1


def test_a_destination_that_is_away(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 3: what is not there cannot be read, and the manifest stays."""
    before = json.loads((store_of(place) / "destination.json").read_text())
    (place / "dst").rename(place / "elsewhere")
    assert "is not there to be read" in rebuild(place, capsys, code=3)
    (place / "elsewhere").rename(place / "dst")
    assert json.loads((store_of(place) / "destination.json").read_text()) == before
