"""Which store belongs to a destination: mounted elsewhere, cloned, or below another one."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from arsync.errors import FileError, ManifestCorruptError, ManifestError, NotSupportedError
from arsync.manifest import places
from arsync.manifest.identity import Identity, identify, identify_above
from arsync.manifest.places import Found, find, settle
from tests.kit.filesystems import filesystem
from tests.requirements import need_filesystem, need_root

DISKS = ("ext4", "xfs", "btrfs")
MKFS = {"ext4": ("-q", "-F"), "xfs": ("-q", "-f"), "btrfs": ("-q", "-f")}


def known(state: Path, dst: Path) -> Found:
    """Make a store for a destination that has none."""
    found = find(state, bytes(dst))
    assert found.is_new
    settle(found)
    return found


@contextmanager
def mounted(image: Path, options: str) -> Iterator[Path]:
    """Mount an image in a directory of its own."""
    place = Path(tempfile.mkdtemp(prefix="arsync-test-"))
    subprocess.run(["mount", "-o", f"loop,{options}", image, place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)
        place.rmdir()


@contextmanager
def disk(kind: str) -> Iterator[Path]:
    """Make an image of a filesystem in memory, with a directory `backup` in it."""
    need_filesystem(kind)
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="arsync-test-") as directory:
        image = Path(directory, "disk")
        with image.open("wb") as file:
            file.truncate(320 << 20)
        subprocess.run([f"mkfs.{kind}", *MKFS[kind], image], check=True, capture_output=True)
        with mounted(image, "rw") as place:
            (place / "backup").mkdir()
        yield image


@pytest.mark.parametrize("kind", DISKS)
def test_a_disk_mounted_elsewhere_is_known_and_its_clone_is_not(kind: str, tmp_path: Path) -> None:
    """The UUID finds it again; a copy of the image has that, too, but is another medium."""
    state = tmp_path / "state"
    with disk(kind) as image, ExitStack() as stack:
        with mounted(image, "rw") as place:
            root, below = known(state, place), find(state, bytes(place / "backup"))
            assert root.destination.filesystem
            assert len(root.destination.filesystem) == 32
            assert root.destination.born_ns or kind == "xfs"
            assert (below.store, below.below) == (root.store, b"backup")
        clone = shutil.copy(image, image.with_name("clone"))
        place = stack.enter_context(mounted(image, "ro"))
        again = find(state, bytes(place))
        assert (again.store, again.is_new) == (root.store, False)
        assert again.destination.path == str(place) != root.destination.path
        if kind == "btrfs":  # the kernel refuses a second filesystem of one UUID
            stack.close()
        options = "ro,nouuid" if kind == "xfs" else "ro"
        other = find(state, bytes(stack.enter_context(mounted(Path(clone), options))))
        assert other.is_new
        assert other.destination.looks_like(root.destination)
        assert other.clones == (root.store,)


def test_two_subvolumes_are_two_trees(tmp_path: Path) -> None:
    """Each root of a subvolume is inode 256: the subvolume's id tells them apart."""
    need_filesystem("btrfs")
    with filesystem("btrfs") as mount:
        for name in ("a", "b"):
            command = ["btrfs", "subvolume", "create", mount.path / name]
            subprocess.run(command, check=True, capture_output=True)
        one, other = (identify(bytes(mount.path / name)) for name in ("a", "b"))
        assert one.inode == other.inode
        assert one.filesystem == other.filesystem
        assert not replace(one, born_ns=0).is_same(replace(other, born_ns=0))
        above = [below for _, below in identify_above(bytes(mount.path / "a"))]
        assert above == [b"", b"a"]
        assert find(tmp_path, bytes(mount.path / "a")).is_new


def test_a_directory_below_finds_the_nearest_store(tmp_path: Path) -> None:
    """A run into a part of a recorded destination uses that store; its own, where it has one."""
    deep = tmp_path / "dst" / "a" / "b"
    deep.mkdir(parents=True)
    state = tmp_path / "state"
    inner = known(state, deep)
    assert find(state, bytes(deep)).store == inner.store
    outer = known(state, tmp_path / "dst")
    found = find(state, bytes(deep))
    assert (found.store, found.below, found.above) == (inner.store, b"", (outer.store,))
    found = find(state, bytes(deep.parent))
    assert (found.store, found.below, found.inside) == (outer.store, b"a", (inner.store,))
    found = find(state, bytes(tmp_path / "dst"))
    assert (found.store, found.below, found.inside) == (outer.store, b"", (inner.store,))
    found = find(state, bytes(tmp_path))
    assert found.is_new
    assert set(found.inside) == {inner.store, outer.store}


def test_only_who_writes_makes_the_state_directory(tmp_path: Path) -> None:
    """Who looks for a store leaves no trace."""
    assert find(tmp_path / "state", bytes(tmp_path), make=False).is_new
    assert not (tmp_path / "state").exists()


def test_a_bind_mount_does_not_hide_what_is_above(tmp_path: Path) -> None:
    """A directory that is mounted by itself is still below the recorded one."""
    need_root()
    deep, seen = tmp_path / "dst" / "a", tmp_path / "seen"
    deep.mkdir(parents=True)
    seen.mkdir()
    state = tmp_path / "state"
    outer = known(state, tmp_path / "dst")
    subprocess.run(["mount", "--bind", deep, seen], check=True)
    try:
        found = find(state, bytes(seen))
    finally:
        subprocess.run(["umount", seen], check=True)
    assert (found.store, found.below) == (outer.store, b"a")


def test_two_stores_that_match_are_named(tmp_path: Path) -> None:
    """There is no guessing between them."""
    dst, state = tmp_path / "dst", tmp_path / "state"
    dst.mkdir()
    first = known(state, dst).store
    second = state / "copy"
    shutil.copytree(first, second)
    with pytest.raises(ManifestError) as caught:
        find(state, bytes(dst))
    assert str(first) in str(caught.value)
    assert str(second) in str(caught.value)


def test_a_directory_made_anew_is_another_tree(tmp_path: Path) -> None:
    """The path alone says nothing, and neither does an inode that is used again."""
    one = Identity("u", 0, 2, 5, "wwid:x/1", "/mnt")
    assert one.is_same(replace(one, path="/media"))
    assert one.is_same(replace(one, device=""))
    assert not one.is_same(replace(one, device="wwid:y/1"))
    for other in (
        replace(one, filesystem="v"),
        replace(one, subvolume=5),
        replace(one, inode=3),
        replace(one, born_ns=6),
    ):
        assert not one.looks_like(other)
    assert Identity.from_json(identify(bytes(tmp_path)).as_json()) == identify(bytes(tmp_path))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"inode": 1}', "\x00"])
def test_a_damaged_identity_is_said(text: str, tmp_path: Path) -> None:
    """A store whose tree cannot be read is not passed over: it might be the one."""
    store = tmp_path / "store"
    store.mkdir()
    (store / "destination.json").write_text(text)
    with pytest.raises(ManifestCorruptError, match="cannot read the manifest: "):
        find(tmp_path, bytes(tmp_path))


def test_a_network_filesystem_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 43 and a sentence; what is here stands for NFS."""
    directory_fd = os.open(tmp_path, 0)
    here = places.probe_origin(directory_fd).magic
    os.close(directory_fd)
    monkeypatch.setitem(places._REFUSED, here, "NFS")
    with pytest.raises(NotSupportedError, match="it is on NFS") as caught:
        find(tmp_path / "state", bytes(tmp_path))
    assert caught.value.exit_code == 43


def test_stores_are_kept_where_the_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """The option, ARSYNC_STATE_DIR, XDG_STATE_HOME when it is absolute, the home directory."""
    monkeypatch.chdir("/usr")
    monkeypatch.setenv("ARSYNC_STATE_DIR", "state")
    assert places.state_directory("/on/the/disk") == Path("/on/the/disk")
    assert places.state_directory("") == Path("/usr/state")
    monkeypatch.setenv("ARSYNC_STATE_DIR", "")
    monkeypatch.setenv("HOME", "/home/x")
    monkeypatch.setenv("XDG_STATE_HOME", "/var/state")
    assert places.state_directory() == Path("/var/state/arsync")
    for other in ("relative", ""):
        monkeypatch.setenv("XDG_STATE_HOME", other)
        assert places.state_directory() == Path("/home/x/.local/state/arsync")


def test_a_file_is_no_state_directory(tmp_path: Path) -> None:
    """The sentence names it, and what is wrong with it."""
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match=r"cannot keep manifests in '.*/file': Not a directory"):
        find(tmp_path / "file", bytes(tmp_path))
