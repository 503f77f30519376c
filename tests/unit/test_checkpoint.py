"""What a run records, and what the next one makes of it."""

from __future__ import annotations

import errno
import os
import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest

from arsync.errors import LockHeldError
from arsync.manifest.format import RowState
from arsync.manifest.places import find
from arsync.manifest.store import Store
from arsync.model import Op
from arsync.options import ARCHIVE, DeletePolicy, LinkPolicy, ManifestPolicy
from arsync.sync import sync
from arsync.uring import recording
from arsync.uring.faults import FOREVER, counted, fault, passes
from tests.kit import Dir, File, HardLink, Pattern, Symlink, Tree, assert_same, make
from tests.kit.filesystems import mounted
from tests.kit.manifests import DST, Directory, Row, history, recorded
from tests.kit.syncing import BIG, CHUNK, hash_of, interrupted_at, options_of, run, single

SRC = 1


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Lend a directory for manifests."""
    return tmp_path / "state"


def policy(state: Path) -> ManifestPolicy:
    """Return the options that keep manifests there."""
    return ManifestPolicy(state_dir=str(state))


def small_tree(root: Path) -> None:
    """Make a tree with something of everything that needs no rights."""
    make(
        Tree(
            {
                "a": Dir(),
                "a/one": File(b"one"),
                "a/empty": File(b""),
                "a/link": Symlink("one"),
                "a/deep": Dir(),
                "a/deep/two": File(Pattern(CHUNK + 5)),
                "bare": Dir(mode=0o700),
                "top": File(b"top", mode=0o600),
            }
        ),
        root,
    )


def assert_row(row: Row, path: bytes) -> None:
    """Hold a recorded row against what lstat says."""
    info = os.lstat(path)
    assert row.seen["ino"] == info.st_ino
    if stat.S_ISDIR(info.st_mode):
        return
    assert (row.seen["size"], row.seen["mode"]) == (info.st_size, info.st_mode)
    assert row.seen["mtime_s"] * 10**9 + row.seen["mtime_n"] == info.st_mtime_ns
    assert row.seen["ctime_s"] * 10**9 + row.seen["ctime_n"] == info.st_ctime_ns
    assert row.seen["nlink"] == info.st_nlink


def assert_recorded(directories: dict[bytes, Directory], root: Path) -> None:
    """Hold what is recorded of a tree against the tree."""
    found = {os.path.relpath(path, root): [*dirs, *files] for path, dirs, files in os.walk(root)}
    paths = {b"" if path == "." else os.fsencode(path): names for path, names in found.items()}
    assert set(directories) == set(paths)
    for path, names in paths.items():
        rows = directories[path].rows
        assert set(rows) == {b"", *map(os.fsencode, names)}
        here = os.path.join(os.fsencode(root), path)
        info = os.stat(here)
        own = rows[b""].seen
        assert (own["mode"], own["nlink"]) == (info.st_mode, info.st_nlink)
        assert own["mtime_s"] * 10**9 + own["mtime_n"] == info.st_mtime_ns
        assert own["ctime_s"] * 10**9 + own["ctime_n"] == info.st_ctime_ns
        for name, row in rows.items():
            if name:
                assert_row(row, os.path.join(here, name))


@pytest.mark.parametrize("engine", ["uring", "sync"])
def test_both_sides_are_recorded_as_they_are(tmp_path: Path, state: Path, engine: str) -> None:
    """Each row is what lstat says after the run; each directory has converged."""
    small_tree(tmp_path / "src")
    ran = run(tmp_path / "src", tmp_path / "dst", manifest=policy(state), engine=engine)
    assert ran.code == 0
    for tree, root in ((DST, tmp_path / "dst"), (SRC, tmp_path / "src")):
        assert_recorded(recorded(state, tmp_path / "dst", tree), root)
    assert all(one.is_converged for one in recorded(state, tmp_path / "dst", SRC).values())


@pytest.mark.parametrize("size", [0, 5, CHUNK, CHUNK + 1, BIG, BIG + 7])
def test_what_was_read_is_hashed(tmp_path: Path, state: Path, size: int) -> None:
    """The hash of a copied file is recorded on both sides, with the time."""
    make(Tree({"file": File(Pattern(size))}), tmp_path / "src")
    before = int(time.time())
    run(tmp_path / "src", tmp_path / "dst", manifest=policy(state), copy_method="read_write")
    for tree in (DST, SRC):
        row = recorded(state, tmp_path / "dst", tree)[b""].rows[b"file"]
        chunked = RowState.CHUNKED if tree == DST and size > CHUNK else RowState(0)
        assert row.state == RowState.HASHED | chunked
        assert row.hash == hash_of((tmp_path / "src/file").read_bytes())
        assert before <= row.verified <= time.time()


def test_hard_links_are_recorded_with_their_last_ctime(tmp_path: Path, state: Path) -> None:
    """A further name moves the ctime of the first: the record has what is there at the end."""
    tree = {"a": Dir(), "b": Dir(), "a/first": File(b"x"), "b/second": HardLink("a/first")}
    make(Tree(tree), tmp_path / "src")
    for _ in range(2):
        run(tmp_path / "src", tmp_path / "dst", manifest=policy(state))
        assert_recorded(recorded(state, tmp_path / "dst"), tmp_path / "dst")
    assert all(one.is_converged for one in recorded(state, tmp_path / "dst", SRC).values())


def test_a_directory_of_many_pages(tmp_path: Path, state: Path) -> None:
    """It is recorded whole, and again after names came and went at its beginning."""
    make(Tree({f"f{number:05}": File(b"") for number in range(3000)}), tmp_path / "src")
    run(tmp_path / "src", tmp_path / "dst", manifest=policy(state))
    assert_recorded(recorded(state, tmp_path / "dst"), tmp_path / "dst")
    for number in range(5):
        (tmp_path / f"src/e{number}").write_bytes(b"new")
        (tmp_path / f"src/f{number:05}").unlink()
        (tmp_path / f"dst/f{number:05}").unlink()
    run(tmp_path / "src", tmp_path / "dst", manifest=policy(state))
    for tree, root in ((DST, tmp_path / "dst"), (SRC, tmp_path / "src")):
        assert_recorded(recorded(state, tmp_path / "dst", tree), root)


@pytest.mark.parametrize("commits", ["one", "many"])
def test_a_directory_of_very_many_directories(
    tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch, commits: str
) -> None:
    """They are made after their page is looked at; what is left of it is no damage."""
    if commits == "many":
        monkeypatch.setattr("arsync.recorder._GROUP_BYTES", 0)
    make(Tree({f"d{number:04d}": Dir() for number in range(1500)}), tmp_path / "src")
    for _ in range(3):
        ran = run(tmp_path / "src", tmp_path / "dst", manifest=policy(state))
        assert ran.code == 0
        below = {path for path in recorded(state, tmp_path / "dst") if path}
        assert len(below) == 1500
    for tree, root in ((DST, tmp_path / "dst"), (SRC, tmp_path / "src")):
        assert_recorded(recorded(state, tmp_path / "dst", tree), root)


def test_directories_of_many_pages_among_others(tmp_path: Path, state: Path) -> None:
    """Each page is recorded with its own directory, whatever else is scanned with the first."""
    tree: dict[str, Dir | File] = {}
    for number in range(12):
        tree[f"d{number:02}"] = Dir()
        count = 1500 if number % 3 == 1 else 3
        tree.update({f"d{number:02}/f{name:04}": File(b"") for name in range(count)})
    make(Tree(tree), tmp_path / "src")
    for _ in range(2):
        run(tmp_path / "src", tmp_path / "dst", manifest=policy(state))
        for side, root in ((DST, tmp_path / "dst"), (SRC, tmp_path / "src")):
            assert_recorded(recorded(state, tmp_path / "dst", side), root)


def test_a_run_that_changes_nothing_writes_no_page(tmp_path: Path, state: Path) -> None:
    """What has converged is as it was, but for a line of the history."""
    small_tree(tmp_path / "src")
    for _ in range(2):
        run(tmp_path / "src", tmp_path / "dst", manifest=policy(state))
    first, second = history(state, tmp_path / "dst")
    assert (first["exit"], first["files"], second["files"]) == (0, 4, 0)
    with Store(find(state, bytes(tmp_path / "dst")).store, b"") as store:
        before = store.sizes()
    run(tmp_path / "src", tmp_path / "dst", manifest=policy(state))
    with Store(find(state, bytes(tmp_path / "dst")).store, b"") as store:
        assert store.sizes() == before


def test_hashes_stay_while_nobody_writes(tmp_path: Path, state: Path) -> None:
    """A change beside a file, or of its mode, leaves what is known of its content."""
    small_tree(tmp_path / "src")
    run(tmp_path / "src", tmp_path / "dst", manifest=policy(state), copy_method="read_write")
    (tmp_path / "src/a/more").write_bytes(b"more")
    run(tmp_path / "src", tmp_path / "dst", manifest=policy(state), copy_method="read_write")
    for tree in (DST, SRC):
        rows = recorded(state, tmp_path / "dst", tree)[b"a"].rows
        assert rows[b"one"].hash == hash_of(b"one")
        assert rows[b"more"].hash == hash_of(b"more")


def test_what_failed_is_not_recorded_as_done(tmp_path: Path, state: Path) -> None:
    """A name that could not be copied is not at the destination, and its directory not done."""
    small_tree(tmp_path / "src")
    (tmp_path / "dst/a/one/stands").mkdir(parents=True)
    ran = run(tmp_path / "src", tmp_path / "dst", manifest=policy(state))
    assert ran.code == 23
    assert not recorded(state, tmp_path / "dst", SRC)[b"a"].is_converged
    rows = recorded(state, tmp_path / "dst")[b"a"].rows
    assert b"one" not in rows or rows[b"one"].state == 0


def test_nothing_is_recorded_that_is_not_on_the_disk(tmp_path: Path, state: Path) -> None:
    """Where the disk does not take what was copied, no row says that it is there."""
    small_tree(tmp_path / "src")
    with fault(Op.SYNC, value=errno.EIO, count=FOREVER):
        ran = run(tmp_path / "src", tmp_path / "dst", manifest=policy(state))
    assert ran.code == 11
    assert recorded(state, tmp_path / "dst") == {}
    assert run(tmp_path / "src", tmp_path / "dst", manifest=policy(state)).code == 0
    assert_recorded(recorded(state, tmp_path / "dst"), tmp_path / "dst")


def test_what_is_mounted_below_the_destination_is_on_its_disk_too(
    tmp_path: Path, state: Path
) -> None:
    """Each filesystem is asked before a row says what is there."""
    small_tree(tmp_path / "src")
    (tmp_path / "dst/a").mkdir(parents=True)
    with mounted("-t", "tmpfs", "tmpfs", tmp_path / "dst/a"):
        with fault(Op.SYNC, value=errno.EIO, skip=1, count=FOREVER):
            ran = run(tmp_path / "src", tmp_path / "dst", manifest=policy(state))
        assert ran.code == 11
        assert recorded(state, tmp_path / "dst") == {}


@pytest.mark.parametrize("left", [1, 2, 3, 4])
def test_a_directory_without_its_times_has_not_converged(
    tmp_path: Path, state: Path, left: int
) -> None:
    """What an interrupted run leaves for last is done by the next one, whatever is recorded."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    small_tree(src)
    with counted():
        run(src, tmp_path / "whole", manifest=ManifestPolicy(manifest=False), **single("sync"))
        skip = passes(Op.UTIMES) - left
    with interrupted_at(Op.UTIMES, skip=skip):
        assert run(src, dst, manifest=policy(state), **single("sync")).code == 20
    assert run(src, dst, manifest=policy(state)).code == 0
    assert_same(src, dst)
    assert_recorded(recorded(state, dst), dst)


def test_the_history_has_the_exit_code(tmp_path: Path, state: Path) -> None:
    """That of a full disk, and of Ctrl-C, too."""
    small_tree(tmp_path / "src")
    with fault(Op.WRITE, value=errno.ENOSPC, count=FOREVER):
        full = run(tmp_path / "src", tmp_path / "dst", manifest=policy(state))
    with interrupted_at(Op.WRITE):
        stopped = run(tmp_path / "src", tmp_path / "dst", manifest=policy(state))
    done = run(tmp_path / "src", tmp_path / "dst", manifest=policy(state))
    codes = [full.code, stopped.code, done.code]
    assert codes == [11, 20, 0]
    assert [one["exit"] for one in history(state, tmp_path / "dst")] == codes


def test_a_dry_run_records_nothing(tmp_path: Path, state: Path) -> None:
    """It reads what is there, and makes no store."""
    small_tree(tmp_path / "src")
    run(tmp_path / "src", tmp_path / "dst", manifest=policy(state), dry_run=True)
    assert not list(state.glob("*/data.mdb"))
    run(tmp_path / "src", tmp_path / "dst", manifest=policy(state))
    (tmp_path / "src/a/one").write_bytes(b"other")
    run(tmp_path / "src", tmp_path / "dst", manifest=policy(state), dry_run=True)
    assert len(history(state, tmp_path / "dst")) == 1


def test_other_options_compare_again(tmp_path: Path, state: Path) -> None:
    """What has converged without owners has not with them."""
    small_tree(tmp_path / "src")
    plain = ARCHIVE
    run(tmp_path / "src", tmp_path / "dst", plain, manifest=policy(state), chmod=())
    os.chmod(tmp_path / "dst/top", 0o640)
    ran = run(tmp_path / "src", tmp_path / "dst", plain, manifest=policy(state))
    assert set(ran.changes) == {b"top"}
    assert stat.S_IMODE(os.stat(tmp_path / "dst/top").st_mode) == 0o600


def test_a_destination_that_somebody_changed_is_put_right(tmp_path: Path, state: Path) -> None:
    """A converged directory is believed for as long as both sides are as recorded."""
    small_tree(tmp_path / "src")
    for _ in range(2):
        run(tmp_path / "src", tmp_path / "dst", manifest=policy(state))
    (tmp_path / "dst/a/one").unlink()
    (tmp_path / "dst/a/deep/two").write_bytes(b"other")
    ran = run(tmp_path / "src", tmp_path / "dst", manifest=policy(state))
    assert {b"a/one", b"a/deep/two"} <= set(ran.changes)
    assert (tmp_path / "dst/a/one").read_bytes() == b"one"
    assert_recorded(recorded(state, tmp_path / "dst"), tmp_path / "dst")


def test_a_second_run_beside_the_first_is_refused(tmp_path: Path, state: Path) -> None:
    """Exit code 41, and nothing is touched."""
    small_tree(tmp_path / "src")
    run(tmp_path / "src", tmp_path / "dst", manifest=policy(state))
    (tmp_path / "src/top").write_bytes(b"new")
    with Store(find(state, bytes(tmp_path / "dst")).store, b""):
        ran = run(tmp_path / "src", tmp_path / "dst", manifest=policy(state))
    assert isinstance(ran.error, LockHeldError)
    assert ran.code == 41
    assert (tmp_path / "dst/top").read_bytes() == b"top"


def test_single_files_get_no_store(tmp_path: Path, state: Path) -> None:
    """Nothing is recorded of them, and it would stand above all destinations below."""
    small_tree(tmp_path / "src")
    options = options_of(manifest=policy(state))
    for dst in ("dst/", "dst/other"):
        (tmp_path / "dst").mkdir(exist_ok=True)
        assert sync(tmp_path / "src/top", f"{tmp_path}/{dst}", options).exit_code == 0
    assert not list(state.glob("*/data.mdb"))
    assert sync(tmp_path / "src", tmp_path / "dst/below", options).exit_code == 0
    assert find(state, bytes(tmp_path / "dst")).is_new


def test_a_destination_below_another_shares_its_store(tmp_path: Path, state: Path) -> None:
    """What a run into a directory below records is found by a run into the whole."""
    small_tree(tmp_path / "src")
    run(tmp_path / "src", tmp_path / "dst", manifest=policy(state))
    (tmp_path / "src/a/deep/three").write_bytes(b"three")
    run(tmp_path / "src/a", tmp_path / "dst/a", manifest=policy(state))
    assert len(list(state.glob("*/data.mdb"))) == 1
    assert_recorded(recorded(state, tmp_path / "dst"), tmp_path / "dst")


def test_sources_of_one_and_of_many_pages_share_a_directory(tmp_path: Path, state: Path) -> None:
    """What one leaves at the beginning of the directory is not put before the other's pages."""
    make(Tree({f"a{number:04}": File(b"") for number in range(2500)}), tmp_path / "many")
    make(Tree({"b": File(b"b")}), tmp_path / "few")
    for names in (["few"], ["many", "few"], ["few", "many"]):
        sources = [f"{tmp_path}/{name}/" for name in names]
        ran = sync(sources, tmp_path / "dst", options_of(manifest=policy(state)))
        assert ran.exit_code == 0
        assert recorded(state, tmp_path / "dst")[b""].rows


def test_ignored_times_leave_nothing_converged(tmp_path: Path, state: Path) -> None:
    """-I copies every file, however often it has."""
    small_tree(tmp_path / "src")
    for _ in range(2):
        ran = run(tmp_path / "src", tmp_path / "dst", manifest=policy(state), ignore_times=True)
        assert {b"top", b"a/one", b"a/deep/two"} <= set(ran.changes)


def test_what_stays_in_the_way_has_not_converged(tmp_path: Path, state: Path) -> None:
    """A directory where the source has a file is an error in every run, until it can go."""
    make(Tree({"x": File(b"x")}), tmp_path / "src")
    make(Tree({"x": Dir(), "x/y": File(b"y")}), tmp_path / "dst")
    for limit, code in ((0, 23), (0, 23), (None, 0)):
        delete = DeletePolicy(when="after", max_delete=limit)
        ran = run(tmp_path / "src", tmp_path / "dst", delete=delete, manifest=policy(state))
        assert ran.code == code
    assert_recorded(recorded(state, tmp_path / "dst"), tmp_path / "dst")


def test_a_directory_where_a_file_was(tmp_path: Path, state: Path) -> None:
    """It is recorded as what it is when the run ends."""
    make(Tree({"x": Dir(), "x/y": File(b"y")}), tmp_path / "src")
    make(Tree({"x": File(b"x")}), tmp_path / "dst")
    run(tmp_path / "src", tmp_path / "dst", manifest=policy(state))
    assert_recorded(recorded(state, tmp_path / "dst"), tmp_path / "dst")


def test_a_directory_that_a_link_led_to(tmp_path: Path, state: Path) -> None:
    """-k: the source's link is followed, the destination's directory is one."""
    make(Tree({"d": Dir(), "d/f": File(b"f")}), tmp_path / "elsewhere")
    make(Tree({"link": Symlink("../elsewhere/d")}), tmp_path / "src")
    links = LinkPolicy(copy_dirlinks=True)
    run(tmp_path / "src", tmp_path / "dst", links=links, manifest=policy(state))
    assert recorded(state, tmp_path / "dst", SRC)[b""].rows[b"link"].seen["flags"]
    assert not recorded(state, tmp_path / "dst")[b""].rows[b"link"].seen["flags"]


@pytest.mark.parametrize("step", ["settle", "refresh"])
def test_what_somebody_changes_during_a_run_has_not_converged(
    tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The next run finds what changed between an entry's copy and the look at it."""
    small_tree(tmp_path / "src")
    changed = tmp_path / "dst" / ("top" if step == "settle" else "a")
    look = getattr(recording, step)
    moments = iter([changed])

    def look_late(*arguments: object) -> object:
        for path in moments:
            path.chmod(0o711)
        return look(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(f"arsync.checkpoint.{step}", look_late)
        run(tmp_path / "src", tmp_path / "dst", manifest=policy(state))
    ran = run(tmp_path / "src", tmp_path / "dst", manifest=policy(state))
    assert set(ran.changes) == {os.fsencode(changed.name)}
    assert run(tmp_path / "src", tmp_path / "dst", manifest=policy(state)).changes == {}


def test_what_somebody_writes_during_a_run_has_no_hash(
    tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was copied is not taken for what is there: -c finds it."""
    small_tree(tmp_path / "src")
    look = recording.settle
    moments = iter([tmp_path / "dst/top"])

    def look_late(*arguments: object) -> object:
        for path in moments:
            path.write_bytes(b"bad")
        return look(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("arsync.checkpoint.settle", look_late)
        run(tmp_path / "src", tmp_path / "dst", manifest=policy(state), copy_method="read_write")
    run(tmp_path / "src", tmp_path / "dst", manifest=policy(state), checksum=True)
    assert (tmp_path / "dst/top").read_bytes() == b"top"


def test_what_is_copied_in_every_run_never_converges(tmp_path: Path, state: Path) -> None:
    """Without -t the mtimes differ after the copy: it is made again, as rsync does."""
    small_tree(tmp_path / "src")
    kept = replace(ARCHIVE, times=False)
    for _ in range(2):
        ran = run(tmp_path / "src", tmp_path / "dst", kept, manifest=policy(state))
        assert {b"top", b"a/one", b"a/deep/two"} <= set(ran.changes)


def test_what_waits_for_entries_has_not_converged(tmp_path: Path, state: Path) -> None:
    """-m: a directory without files gets its mode when there are some, in whichever run."""
    for side in ("src", "dst"):
        make(Tree({"a": Dir(), "a/b": Dir()}), tmp_path / side)
    (tmp_path / "src/a").chmod(0o700)
    for _ in range(2):
        run(tmp_path / "src", tmp_path / "dst", prune_empty_dirs=True, manifest=policy(state))
    (tmp_path / "src/a/b/file").write_bytes(b"f")
    run(tmp_path / "src", tmp_path / "dst", prune_empty_dirs=True, manifest=policy(state))
    assert stat.S_IMODE(os.stat(tmp_path / "dst/a").st_mode) == 0o700
