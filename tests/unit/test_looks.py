"""What the manifest adds to rsync's rule: changes that size and mtime do not show."""

from __future__ import annotations

import errno
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from arsync.manifest.format import Page, Place, RowState
from arsync.manifest.places import find
from arsync.manifest.store import Group, Store
from arsync.model import Op
from arsync.options import ManifestPolicy
from tests.kit import Dir, File, Pattern, Tree, make
from tests.kit.manifests import recorded
from tests.kit.syncing import BIG, CHUNK, Ran, hash_of, run

SRC = 1


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Make a tree and its copy, with hashes recorded."""
    files = {
        "small": File(b"some bytes"),
        "large": File(Pattern(CHUNK + 9)),
        "big": File(Pattern(BIG + 1)),
        "d": Dir(),
        "d/other": File(b"other"),
    }
    make(Tree(files), tmp_path / "src")
    again(tmp_path)
    return tmp_path


def again(place: Path, **settings: object) -> Ran:
    """Run once more, with options of the manifest and others."""
    names = ("ignore_ctime", "ignore_inode", "rehash", "accept_source")
    policy = {name: settings.pop(name) for name in names if name in settings}
    manifest = ManifestPolicy(state_dir=str(place / "state"), **policy)  # type: ignore[arg-type]
    return run(
        place / "src",
        place / "dst",
        manifest=manifest,
        copy_method="read_write",
        **settings,
    )


def rewrite(path: Path) -> None:
    """Change one byte and put the mtime back."""
    before = os.stat(path)
    with path.open("r+b") as file:
        file.seek(before.st_size // 2)
        file.write(b"\xff")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def assert_equal(place: Path) -> None:
    """See that both sides have the same content, and that this is what is recorded."""
    for name in ("small", "large", "big", "d/other"):
        content = (place / "src" / name).read_bytes()
        assert (place / "dst" / name).read_bytes() == content
        directory, _, base = name.rpartition("/")
        for tree in (0, SRC):
            rows = recorded(place / "state", place / "dst", tree)[directory.encode()].rows
            assert rows[base.encode()].state & ~RowState.CHUNKED == RowState.HASHED
            assert rows[base.encode()].hash == hash_of(content)


@pytest.mark.parametrize("engine", ["uring", "sync"])
@pytest.mark.parametrize("side", ["src", "dst"])
@pytest.mark.parametrize("name", ["small", "large", "big"])
def test_a_file_rewritten_with_its_mtime_put_back(
    place: Path, side: str, name: str, engine: str
) -> None:
    """It is found on either side, and only it is copied."""
    rewrite(place / side / name)
    ran = again(place, engine=engine)
    assert ran.code == 0
    assert set(ran.changes) == {name.encode()}
    assert (ran.report.counts.checked_files, ran.report.counts.done_files) == (1, 1)
    assert_equal(place)
    assert again(place).report.counts.checked_files == 0


@pytest.mark.parametrize("side", ["src", "dst"])
def test_another_inode_with_the_same_stat(place: Path, side: str) -> None:
    """A file put in place of another one is looked at."""
    path = place / side / "small"
    before = os.stat(path)
    path.with_name("new").write_bytes(b"other byte")
    os.utime(path.with_name("new"), ns=(before.st_atime_ns, before.st_mtime_ns))
    path.with_name("new").rename(path)
    os.utime(path.parent, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert b"small" in again(place).changes
    assert_equal(place)


@pytest.mark.parametrize("side", ["src", "dst"])
def test_a_ctime_that_moved_for_nothing(place: Path, side: str) -> None:
    """The file is read, found equal, and neither shown nor read again."""
    os.chmod(place / side / "small", 0o644)
    os.utime(place / side / "small", ns=(7, os.stat(place / side / "small").st_mtime_ns))
    ran = again(place)
    assert (set(ran.changes), ran.report.counts.checked_files) == (set(), 1)
    assert again(place).report.counts.checked_files == 0
    assert_equal(place)


def test_what_is_to_be_ignored(place: Path) -> None:
    """--ignore-ctime leaves a rewritten file alone, as rsync does."""
    rewrite(place / "src/small")
    ran = again(place, ignore_ctime=True)
    assert (set(ran.changes), ran.report.counts.checked_files) == (set(), 0)


@pytest.mark.parametrize("side", ["src", "dst"])
@pytest.mark.parametrize("skip", ["size_only", "ignore_existing", "checksum"])
def test_a_run_that_does_not_look_leaves_the_doubt(place: Path, skip: str, side: str) -> None:
    """What moved since it was recorded is looked at by the first run that does."""
    rewrite(place / side / "small")
    again(place, **{skip: True})
    ran = again(place)
    assert set(ran.changes) == (set() if skip == "checksum" else {b"small"})
    assert_equal(place)


@pytest.mark.parametrize("skip", ["size_only", "ignore_existing"])
def test_a_row_stays_racy_until_somebody_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, skip: str
) -> None:
    """Where times are coarse, a change in the moment of the scan moves no time."""
    make(Tree({"file": File(b"some bytes"), "empty": File(b"")}), tmp_path / "src")
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["arsync.sync"], "find_ctime_granule_ns", lambda *_: 10**11)
        again(tmp_path)
    again(tmp_path, **{skip: True})
    assert again(tmp_path).report.counts.checked_files == 1
    assert again(tmp_path).report.counts.checked_files == 0


def test_a_dry_run_looks_too(place: Path) -> None:
    """It shows what would be copied, and writes nothing."""
    rewrite(place / "src/small")
    rewrite(place / "dst/large")
    before = (place / "dst/large").read_bytes()
    ran = again(place, dry_run=True)
    assert set(ran.changes) == {b"small", b"large"}
    assert (place / "dst/large").read_bytes() == before


def test_checksums_are_not_read_twice(place: Path) -> None:
    """-c compares recorded hashes; --rehash reads both sides."""
    ran = again(place, checksum=True)
    assert (set(ran.changes), ran.report.counts.checked_files) == (set(), 0)
    ran = again(place, checksum=True, rehash=True)
    assert (set(ran.changes), ran.report.counts.checked_files) == (set(), 4)


def test_checksums_of_what_was_adopted_are_recorded(tmp_path: Path) -> None:
    """A copy that somebody else made has none; the first -c reads it, the second does not."""
    for side in ("src", "dst"):
        make(Tree({"file": File(b"content", mtime_ns=10**18)}), tmp_path / side)
    assert again(tmp_path).report.counts.checked_files == 0
    first = again(tmp_path, checksum=True)
    second = again(tmp_path, checksum=True)
    assert (first.report.counts.checked_files, second.report.counts.checked_files) == (1, 0)


def test_what_the_mtimes_hide_from_c(place: Path) -> None:
    """With -c a file whose mtime alone differs is compared by its hash, and gets the mtime."""
    os.utime(place / "src/small", ns=(5, 5))
    ran = again(place, checksum=True)
    assert ran.report.counts.done_files == 0
    assert os.stat(place / "dst/small").st_mtime_ns == 5


# --------------------------------------------------- a source that has lost its content


def decay(place: Path, name: str) -> bytes:
    """Change one byte of a source's file without any timestamp, as a failing disk does."""
    path = place / "src" / name
    content = path.read_bytes()
    before = recorded(place / "state", place / "dst", SRC)[b""].rows[name.encode()]
    rewrite(path)
    after = os.stat(path)
    # The test cannot set a ctime; so what is recorded moves instead.
    found = find(place / "state", bytes(place / "dst"))
    with Store(found.store, b"") as store:
        (chain,) = store.pages_of(SRC, [1])
        page = Page.decode(chain[0], Place(SRC, 1, b""))
        index = page.names.index(name.encode())
        seen = dict(page.seen)
        for column, value in (
            ("ctime_s", after.st_ctime_ns // 10**9),
            ("ctime_n", after.st_ctime_ns % 10**9),
        ):
            seen[column] = (*seen[column][:index], value, *seen[column][index + 1 :])
        data = replace(page, seen=seen).encode(Place(SRC, 1, b""))
        store.commit(Group(pages=[(SRC, 1, [(b"", data)])]))
    assert before.hash == hash_of(content)
    return content


@pytest.mark.parametrize("engine", ["uring", "sync"])
@pytest.mark.parametrize("name", ["small", "large", "big"])
def test_a_source_that_decays_does_not_replace_a_good_copy(
    place: Path, name: str, engine: str
) -> None:
    """It is reported, each time, until somebody says that it is to be copied."""
    content = decay(place, name)
    for _ in range(2):
        ran = again(place, checksum=True, rehash=True, engine=engine)
        assert ran.failed == [(name.encode(), Op.VERIFY, errno.EBADMSG)]
        assert ran.code == 23
        assert (place / "dst" / name).read_bytes() == content
    os.utime(place / "dst" / name, ns=(9, 9))
    assert again(place, engine=engine).code == 23
    assert (place / "dst" / name).read_bytes() == content
    assert again(place, engine=engine, accept_source=(name.encode(),)).code == 0
    assert (place / "dst" / name).read_bytes() == (place / "src" / name).read_bytes() != content
    assert_equal(place)


def test_a_source_that_decays_is_copied_where_no_copy_is_better(place: Path) -> None:
    """A destination that has not the recorded content either is not protected."""
    decay(place, "small")
    (place / "dst/small").write_bytes(b"some0bytes")
    assert again(place).code == 0
    assert (place / "dst/small").read_bytes() == (place / "src/small").read_bytes()
