"""Several sources that feed one destination: what each of them knows stays known."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from arsync import sync
from arsync.errors import LockHeldError
from arsync.inventory.rebuild import rebuild
from arsync.inventory.stores import locate
from arsync.manifest.format import RowState
from arsync.manifest.places import find
from arsync.manifest.reader import Reader
from arsync.manifest.store import Store
from arsync.model import Op
from arsync.options import ManifestPolicy, SyncOptions
from arsync.uring.faults import counted, passes, paused_at
from tests.kit import Dir, File, Pattern, Tree, make
from tests.kit.manifests import recorded, recorded_chunks
from tests.kit.syncing import CHUNK, hash_of, options_of

A = 1
B = 2
MANY = 1500


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Make two sources that share directories, and entries in them that only one has."""
    for name in ("a", "b"):
        shared = {
            "both": Dir(mtime_ns=10**18),
            "both/deep": Dir(mtime_ns=10**18),
            f"both/{name}": File(name.encode()),
            f"both/deep/{name}": File(Pattern(CHUNK + 5, seed=ord(name))),
            f"both/of {name}": Dir(mtime_ns=10**18),
            f"both/of {name}/file": File(b"x"),
            f"only {name}": Dir(mtime_ns=10**18),
            f"only {name}/file": File(b"y"),
        }
        make(Tree(shared), tmp_path / name)
        os.utime(tmp_path / name, ns=(10**18, 10**18))
    return tmp_path


def options(place: Path, **settings: Any) -> SyncOptions:
    """Return the options that keep manifests there."""
    trust = settings.pop("trust_dst", False)
    manifest = ManifestPolicy(state_dir=str(place / "state"), trust_dst=trust)
    return options_of(manifest=manifest, copy_method="read_write", **settings)


def copy(place: Path, *names: str, **settings: Any) -> int:
    """Sync the content of sources; return how many files were copied."""
    sources = [f"{place}/{name}/" for name in names]
    report = sync(sources, place / "dst", options(place, **settings))
    assert report.exit_code == 0
    return report.counts.done_files


def together(place: Path, **settings: Any) -> int:
    """Sync both at once."""
    return copy(place, "a", "b", **settings)


def one_by_one(place: Path, **settings: Any) -> int:
    """Sync one after the other."""
    return sum(copy(place, name, **settings) for name in ("a", "b"))


def pages(place: Path) -> list[tuple[bytes, bytes]]:
    """Return all pages of a store as they are kept."""
    with Reader(find(place / "state", bytes(place / "dst")).store) as reader:
        return [
            (bytes([tree & 0xFF, tree >> 8]) + one.path + one.place.first, one.data)
            for tree in (A, B, *reader.destinations())
            for one in reader.tree(tree)
        ]


def assert_whole(place: Path) -> None:
    """Hold the destination's rows, all of them hashed, against what is there."""
    rows = recorded(place / "state", place / "dst")
    for path, dirs, files in os.walk(place / "dst"):
        here = os.path.relpath(path, place / "dst")
        directory = rows[b"" if here == "." else os.fsencode(here)]
        assert set(directory.rows) - set(map(os.fsencode, dirs)) == {b"", *map(os.fsencode, files)}
        for name in files:
            row = directory.rows[os.fsencode(name)]
            assert row.state & RowState.HASHED
            assert row.hash == hash_of(Path(path, name).read_bytes())


both_ways = pytest.mark.parametrize("run", [together, one_by_one])


@both_ways
def test_the_second_run_finds_all_of_it_converged(place: Path, run: Any) -> None:
    """Nothing is copied, read or recorded anew, though they share directories."""
    assert run(place) == 8
    before = pages(place)
    for tree in (A, B):
        found = recorded(place / "state", place / "dst", tree)
        assert [path for path, one in found.items() if not one.is_converged] == []
    with counted():
        assert run(place) == 0
        assert not passes(Op.READ)
    assert pages(place) == before
    assert_whole(place)


@both_ways
def test_checksums_read_nothing_again(place: Path, run: Any) -> None:
    """-c takes both sides' hashes from the manifest, whichever source wrote them."""
    run(place)
    with counted():
        assert run(place, checksum=True) == 0
        assert not passes(Op.READ)


@both_ways
def test_long_directories(place: Path, run: Any) -> None:
    """Those of several pages, in which each has other names."""
    for name in ("a", "b"):
        for index in range(MANY):
            (place / name / "both" / f"{index:05} {name}").write_bytes(b"z")
        os.utime(place / name / "both", ns=(10**18, 10**18))
    assert run(place) == 8 + 2 * MANY
    assert_whole(place)
    run(place)
    before = pages(place)
    with counted():
        assert run(place, checksum=True) == 0
        assert not passes(Op.READ)
    run(place)
    assert [one for one in pages(place) if len(one[1]) > 5000] == [
        one for one in before if len(one[1]) > 5000
    ]


def test_a_source_that_takes_over_needs_no_hashes(place: Path) -> None:
    """What the runs of another source know of the destination is asked for."""
    copy(place, "a")
    make(Tree({}), place / "c")
    os.rename(place / "a", place / "c" / "moved")
    sync(f"{place}/c/moved/", place / "a", options_of())  # other inodes
    with counted():
        assert copy(place, "a", checksum=True) == 0
        assert passes(Op.OPEN_FILE) == 4  # those of the source
    with counted():
        assert copy(place, "a", checksum=True) == 0
        assert not passes(Op.READ)
    assert_whole(place)


def test_what_another_source_replaced_is_known_as_it_is(place: Path) -> None:
    """The row that was seen last counts; the other's run copies its own file again."""
    (place / "a/both/same").write_bytes(b"of a")
    (place / "b/both/same").write_bytes(b"of b!")
    assert one_by_one(place) == 10
    assert_whole(place)
    assert (place / "dst/both/same").read_bytes() == b"of b!"
    assert copy(place, "a") == 1
    assert (place / "dst/both/same").read_bytes() == b"of a"
    assert_whole(place)


def test_what_only_one_of_them_gives_is_compared_by_the_other(place: Path) -> None:
    """A directory has the first source's mode; synced alone, the second one gives its own."""
    os.chmod(place / "b/both", 0o750)
    together(place)
    assert os.stat(place / "dst/both").st_mode & 0o777 == 0o755
    together(place)
    copy(place, "b")
    assert os.stat(place / "dst/both").st_mode & 0o777 == 0o750


def test_chunks_stay_until_no_source_has_the_file(place: Path) -> None:
    """A run forgets the lists of files that it sees gone, not those of another source."""
    one_by_one(place)
    lists = {b"both/deep/a", b"both/deep/b"}
    assert set(recorded_chunks(place / "state", place / "dst")) == lists
    (place / "b/both/deep/new").write_bytes(b"")
    copy(place, "b")
    assert set(recorded_chunks(place / "state", place / "dst")) == lists
    (place / "b/both/deep/b").unlink()
    (place / "dst/both/deep/b").unlink()
    copy(place, "b")
    assert set(recorded_chunks(place / "state", place / "dst")) == {b"both/deep/a"}


def test_trust_ends_where_another_source_was(place: Path) -> None:
    """--trust-dst looks at what a run of another source may have changed."""
    copy(place, "a")
    (place / "b/both/a").write_bytes(b"not a")
    copy(place, "b")
    assert copy(place, "a", trust_dst=True) == 1
    assert (place / "dst/both/a").read_bytes() == b"a"


def test_trust_stays_where_another_source_was_elsewhere(place: Path) -> None:
    """A run into another directory of the destination gives no doubt."""
    copy(place, "a")
    sync(f"{place}/a/both/", place / "dst/both", options(place))
    sync(f"{place}/b/", place / "dst/only a", options(place))
    sync(f"{place}/a/both/", place / "dst/both", options(place))
    with counted():
        sync(f"{place}/a/both/", place / "dst/both", options(place, trust_dst=True))
        trusted = passes(Op.STAT)
    with counted():
        sync(f"{place}/a/both/", place / "dst/both", options(place))
        assert trusted < passes(Op.STAT)


def test_a_rebuild_keeps_what_every_source_knew(place: Path) -> None:
    """All hashes stay, and neither source's next run reads the destination."""
    one_by_one(place)
    rebuilt = rebuild(locate(place / "state", bytes(place / "dst")))
    assert (rebuilt.files, rebuilt.hashed, rebuilt.lost) == (8, 8, 0)
    assert_whole(place)
    with counted():
        assert one_by_one(place, checksum=True) == 0
        assert not passes(Op.READ)
    assert_whole(place)


# ------------------------------------------------------------- trees within trees


def nested(place: Path) -> tuple[Path, Path]:
    """Give a directory of the destination a store of its own, then the destination one."""
    inner = place / "dst/both"
    inner.parent.mkdir()
    sync(f"{place}/a/both/", inner, options(place))
    copy(place, "a")
    stores = [find(place / "state", bytes(one)).store for one in (inner, place / "dst")]
    return stores[0], stores[1]


def test_a_tree_within_a_tree_has_its_own_store(place: Path) -> None:
    """Each run records in the store of its destination, and reads what it recorded there."""
    inner, outer = nested(place)
    assert inner != outer
    with counted():
        report = sync(f"{place}/a/both/", place / "dst/both", options(place, checksum=True))
        assert (report.exit_code, passes(Op.READ)) == (0, 0)
    with Reader(inner) as reader:
        assert len(reader.runs()) == 2
    with Reader(outer) as reader:
        assert len(reader.runs()) == 1


def test_runs_at_two_depths_do_not_meet(place: Path) -> None:
    """Whoever comes second is told who is at it, also where each has a store."""
    inner, outer = nested(place)
    pid = f"process {os.getpid()} "
    with Store(outer, b""), pytest.raises(LockHeldError, match=pid):
        sync(f"{place}/a/both/", place / "dst/both", options(place))
    with Store(inner, b""), pytest.raises(LockHeldError, match=pid):
        copy(place, "a")
    with (
        paused_at(Op.RENAME) as pause,
        ThreadPoolExecutor() as threads,
    ):
        (place / "a/both/new").write_bytes(b"new")
        running = threads.submit(sync, f"{place}/a/both/", place / "dst/both", options(place))
        pause.wait()
        os.rename(inner / "destination.json", inner / "away")  # it was seen elsewhere
        with pytest.raises(LockHeldError):
            copy(place, "a")
        os.rename(inner / "away", inner / "destination.json")
        pause.resume()
        assert running.result().exit_code == 0
    copy(place, "a")


def test_two_state_directories_keep_no_two_runs_apart(place: Path) -> None:
    """The destination itself is locked, and the second run says who has it."""
    elsewhere = SyncOptions(manifest=ManifestPolicy(state_dir=place / "another state"))
    with paused_at(Op.RENAME) as pause, ThreadPoolExecutor() as threads:
        (place / "a/new").write_bytes(b"new")
        (place / "dst").mkdir(exist_ok=True)
        (place / "dst/new").write_bytes(b"before")
        running = threads.submit(copy, place, "a")
        pause.wait()
        with pytest.raises(LockHeldError, match=f"process {os.getpid()} on "):
            sync(f"{place}/a/", place / "dst", elsewhere)
        pause.resume()
        running.result()
    assert sync(f"{place}/a/", place / "dst", elsewhere).exit_code == 0


def test_a_tree_within_a_tree_ends_trust(place: Path) -> None:
    """What the runs into the inner one do stands in its own history."""
    nested(place)
    (place / "a/both/a").write_bytes(b"A")
    sync(f"{place}/a/both/", place / "dst/both", options(place))
    (place / "b/both/a").write_bytes(b"not a")
    sync(f"{place}/b/both/", place / "dst/both", options(place))
    copy(place, "a", trust_dst=True)
    assert (place / "dst/both/a").read_bytes() == b"A"
    sync(f"{place}/a/both/", place / "dst/both", options(place, trust_dst=True))
    assert (place / "dst/both/a").read_bytes() == b"A"


def test_a_dry_run_makes_no_state_directory(place: Path) -> None:
    """-n and plan leave nothing behind where no run has been."""
    (place / "dst").mkdir()
    assert sync(f"{place}/a/", place / "dst", options(place, dry_run=True)).exit_code == 0
    assert not (place / "state").exists()
