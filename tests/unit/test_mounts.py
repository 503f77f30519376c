"""Whether a walk of one directory would come into another, on real mounts and bind mounts."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from arsync.mounts import find_mount, mounts_below, read_mounts, walk_would_enter
from tests.kit.children import become_nobody, hide_proc, in_child
from tests.kit.filesystems import mounted
from tests.requirements import need_root, need_unprivileged


def enters(src: Path, dst: Path, *, one_file_system: bool = False) -> bool:
    """Ask the question of two paths."""
    return walk_would_enter(os.fsencode(src), os.fsencode(dst), one_file_system=one_file_system)


def directories(root: Path, *names: str) -> list[Path]:
    """Make directories and return their paths."""
    for name in names:
        (root / name).mkdir(parents=True, exist_ok=True)
    return [root / name for name in names]


def test_a_walk_enters_itself_and_what_is_below(tmp_path: Path) -> None:
    """Not what is above, beside, or has a name that begins the same."""
    top, below, beside, longer = directories(tmp_path, "a", "a/b/c", "x", "ab")
    assert enters(top, top)
    assert enters(top, below)
    assert not enters(below, top)
    assert not enters(top, beside)
    assert not enters(top, longer)
    assert enters(Path("/"), below)


def test_what_is_missing_is_where_it_will_be_made(tmp_path: Path) -> None:
    """The nearest directory above a destination that is not there stands for it."""
    top, beside = directories(tmp_path, "a", "x")
    (top / "file").touch()
    assert enters(top, top / "new" / "newer")
    assert enters(top, top / "file" / "below a file")
    assert not enters(top, beside / "new")


def test_symlinks_are_seen_through(tmp_path: Path) -> None:
    """A destination through a symlink is where the symlink leads."""
    top, beside = directories(tmp_path, "a", "x")
    (beside / "in").symlink_to(top)
    (top / "out").symlink_to(beside)
    assert enters(top, beside / "in" / "new")
    assert not enters(top, top / "out" / "new")


def test_a_bind_mount_of_the_source_is_the_source(tmp_path: Path) -> None:
    """A destination below a second place of the source is inside it."""
    src, below, place = directories(tmp_path, "src", "src/below", "place")
    with mounted("--bind", src, place):
        assert enters(src, place)
        assert enters(src, place / "below")
        assert enters(place, below)
        assert not enters(below, place)


def test_a_bind_mount_of_the_destination_inside_the_source(tmp_path: Path) -> None:
    """The walk comes to the destination by its second place, unless it stays on its filesystem."""
    src, place, dst = directories(tmp_path, "src", "src/with space", "dst/deep")
    with mounted("--bind", tmp_path / "dst", place):
        assert enters(src, dst)
        assert enters(src, dst / "new")
        assert not enters(src, dst, one_file_system=True)
        assert not enters(dst, src)


def test_a_bind_mount_of_another_part_is_no_danger(tmp_path: Path) -> None:
    """What is mounted inside the source holds neither the destination nor anything above it."""
    src, place, other, dst = directories(tmp_path, "src", "src/place", "other", "dst")
    with mounted("--bind", other, place):
        assert not enters(src, dst)
        assert enters(src, other)


def test_a_destination_on_its_own_filesystem_inside_the_source(tmp_path: Path) -> None:
    """A mount point in the source is entered, but for -x."""
    src, place = directories(tmp_path, "src", "src/disk")
    with mounted("-t", "tmpfs", "none", place):
        assert enters(src, place)
        assert enters(src, place / "new")
        assert not enters(src, place, one_file_system=True)


def test_what_a_mount_hides_is_not_entered(tmp_path: Path) -> None:
    """The destination lies below a mount point; the walk sees what is mounted there instead."""
    src, hidden, place = directories(tmp_path, "src", "src/d/hidden", "place")
    with mounted("--bind", hidden, place):
        assert enters(src, place)
        with mounted("-t", "tmpfs", "none", src / "d"):
            assert not enters(src, place)


def test_a_mount_below_one_that_was_mounted_over_it_is_not_entered(tmp_path: Path) -> None:
    """The longest mount point is not what is seen where another mount hides it."""
    src, inner, dst = directories(tmp_path, "src", "src/d/inner", "dst")
    with ExitStack() as stack:
        stack.enter_context(mounted("--bind", dst, inner))
        assert enters(src, dst)
        stack.enter_context(mounted("-t", "tmpfs", "none", src / "d"))
        inner.mkdir()
        assert not enters(src, dst)
        assert enters(src, inner)


def test_of_two_mounts_at_one_place_the_last_is_seen(tmp_path: Path) -> None:
    """What is below the upper one is not entered."""
    src, place, one, other = directories(tmp_path, "src", "src/d", "one", "other")
    with mounted("--bind", one, place), mounted("--bind", other, place):
        assert enters(src, other)
        assert not enters(src, one)


def test_a_directory_that_cannot_be_looked_into_is_where_it_is(tmp_path: Path) -> None:
    """Without permission for it, the destination is not taken for something above it."""
    need_unprivileged()
    src, shut = directories(tmp_path, "src", "src/shut")
    for directory in (tmp_path, *tmp_path.parents[:-2]):
        os.chmod(directory, os.stat(directory).st_mode | 0o011)
    shut.chmod(0)

    def ask() -> list[bool]:
        become_nobody()
        return [enters(src, shut / "new"), enters(shut, src / "other")]

    try:
        assert in_child(ask) == [True, False]
    finally:
        shut.chmod(0o755)


@pytest.mark.parametrize("name", ["new line\n", "tab\t", "back\\slash", "\\040"])
def test_names_that_mountinfo_escapes(tmp_path: Path, name: str) -> None:
    """Blanks, tabs, line ends and backslashes in mount points are read as they are."""
    src, place, dst = directories(tmp_path, "src", f"src/{name}", "dst")
    with mounted("--bind", dst, place):
        assert enters(src, dst)


# ----------------------------------------------------------------------- what is mounted


def test_a_mount_is_found_by_its_number_or_its_filesystem(tmp_path: Path) -> None:
    """The number tells two mounts of one filesystem apart; older kernels do not tell it."""
    (place,) = directories(tmp_path, "place")
    with mounted("-t", "tmpfs", "-o", "noexec", "a device", place):
        mounts = {one.point: one for one in read_mounts()}
        mount = mounts[os.fsencode(place)]
        stat = os.stat(place)
        dev = os.major(stat.st_dev) << 32 | os.minor(stat.st_dev)
        assert find_mount(mount.number, 0) == mount
        assert find_mount(0, dev) == mount
        assert find_mount(max(one.number for one in mounts.values()) + 1, dev) is None
    assert (mount.kind, mount.device, mount.root, mount.dev) == ("tmpfs", "a device", b"/", dev)
    assert {"rw", "noexec"} <= set(mount.options)


def test_read_only_is_said_once(tmp_path: Path) -> None:
    """A bind mount may be read-only while its filesystem is not: nothing can be written then."""
    (place,) = directories(tmp_path, "place")
    with (
        mounted("-t", "tmpfs", "none", place),
        mounted("--bind", "-o", "ro", place, place),
    ):
        *_, mount = (one for one in read_mounts() if one.point == os.fsencode(place))
    assert "ro" in mount.options
    assert "rw" not in mount.options


def test_without_proc_paths_are_compared(tmp_path: Path) -> None:
    """Nothing is known of mounts then, and a destination inside its source is seen all the same."""
    need_root()
    src, below, beside = directories(tmp_path, "src", "src/below", "src2")

    def ask() -> list[object]:
        hide_proc()
        return [list(read_mounts()), enters(src, below), enters(src, src), enters(src, beside)]

    assert in_child(ask) == [[], True, True, False]


def test_filesystems_below_a_directory_are_found_once(tmp_path: Path) -> None:
    """One mount stands for each, read-only ones for none."""
    for name in ("one", "again", "fixed"):
        (tmp_path / name).mkdir()
    with mounted("-t", "tmpfs", "tmpfs", tmp_path / "one"):
        with (
            mounted("--bind", tmp_path / "one", tmp_path / "again"),
            mounted("-t", "tmpfs", "-o", "ro", "tmpfs", tmp_path / "fixed"),
        ):
            found = [mount.point for mount in mounts_below(bytes(tmp_path))]
        assert found == [bytes(tmp_path / "one")]
        assert mounts_below(bytes(tmp_path / "one")) == []
