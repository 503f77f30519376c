"""--prune-empty-dirs beside rsync: which directories are made, and what -i says of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compat.arena import Arena
from tests.compat.test_filters import assert_both_copy_the_same
from tests.kit import Dir, Fifo, File, Symlink, Tree
from tests.kit.filesystems import Filesystems
from tests.requirements import need_rsync, need_unprivileged

SRC = {
    "a": Dir(
        {"b": Dir({"c": {"f": File(b"1")}}, mode=0o711), "x": {"l": Symlink("y")}}, mode=0o750
    ),
    "e": {"e2": {"e3": {}}, "e4": {}},
    "p": {"q": {}, "r": {}},
    "full": Dir({"sub": {"g.o": File(b"2")}, "h": File(b"3"), "none": {}}, mtime_ns=7),
    "fifo": {"only": Fifo()},
    "z": File(b"z"),
}


@pytest.mark.parametrize("there", [{}, {"a": {"b": {}}, "e": {"e2": {}}, "full": {"none": {}}}])
@pytest.mark.parametrize(
    "options",
    [
        ["-a"],
        ["-aii"],
        ["-aR"],
        ["-d", "-ltp"],
        ["-rt", "--no-D"],
        ["-a", "--exclude=*.o"],
        ["-a", "--exclude=f", "--exclude=l"],
        ["-a", "--include=*/", "--include=g.o", "--exclude=*"],
        ["-a", "--filter=P q/"],
        ["-a", "--filter=P /e/e2/"],
        ["-a", "--filter=protect e3/", "--exclude=z"],
    ],
    ids=" ".join,
)
def test_directories_without_files(
    options: list[str], there: dict[str, dict[str, object]], arena: Arena
) -> None:
    """What is made, with which attributes, and what is said; protected ones stay."""
    if "--no-D" in options:
        options = [*options, "--exclude=/fifo", "--exclude=l"]
    world = Tree({"src": SRC, "dst": there})
    arena.lines(world, *options, "-im", "src/", "dst")


@pytest.mark.parametrize("sources", [["src"], ["src/e", "src/a"], ["src/e/"], ["-R", "src/e/e2"]])
def test_directories_that_are_named(sources: list[str], arena: Arena) -> None:
    """An operand is pruned as well; DST itself is not."""
    arena.lines(Tree({"src": SRC, "dst": {}}), "-aim", *sources, "dst")


@pytest.mark.parametrize("text", ["e/e2", "a/b/c", "a/b/c/f\ne", "e/\nfull/", "./e\nfull/h"])
@pytest.mark.parametrize("options", ["-aim", "-arim"])
def test_directories_that_are_listed(text: str, options: str, arena: Arena) -> None:
    """So are those of a list, and those on the way."""
    world = Tree({"src": SRC, "dst": {}, "list": File(text.encode())})
    arena.lines(world, options, "--files-from=list", "src", "dst")


def test_an_unreadable_directory_is_empty(arena: Arena) -> None:
    """What cannot be read has nothing to be made for; exit 23."""
    need_unprivileged()
    os.chmod(arena.place, 0o755)
    world = {"src": {"shut": Dir({"f": File()}, mode=0o000), "f": File()}, "dst": Dir(mode=0o777)}
    arena.run(Tree(world), "-rtm", "src/", "dst", code=23, as_nobody=True)


def test_a_directory_of_many_pages(tmp_path: Path) -> None:
    """The only file comes after thousands of directories, deep and in the long one itself."""
    need_rsync()
    for number in range(2500):
        (tmp_path / f"src/long/{number:04}/empty").mkdir(parents=True)
    (tmp_path / "src/long/2499/empty/f").touch()
    (tmp_path / "src/other/d").mkdir(parents=True)
    for number in range(1500):
        (tmp_path / f"src/other/d/{number:04}").mkdir()
    (tmp_path / "src/other/d/z").touch()
    copied = assert_both_copy_the_same(tmp_path, ["-am"], ["src/"])
    assert copied == [
        *("long", "long/2499", "long/2499/empty", "long/2499/empty/f"),
        *("other", "other/d", "other/d/z"),
    ]


NAMES = st.sampled_from(["a", "b", "c", "d"])


@given(
    files=st.lists(st.lists(NAMES, min_size=1, max_size=5).map("/".join), max_size=6),
    folders=st.lists(st.lists(NAMES, min_size=1, max_size=6).map("/".join), max_size=10),
    options=st.lists(
        st.sampled_from(["--exclude=a", "--exclude=b/c", "--exclude=/a/b", "--filter=P b/", "-R"]),
        max_size=2,
    ),
)
def test_both_prune_the_same(
    files: list[str], folders: list[str], options: list[str], filesystems: Filesystems
) -> None:
    """Random trees."""
    need_rsync()
    with filesystems.mount("ext4").directory() as place:
        (place / "src").mkdir()
        for path in folders:
            os.makedirs(place / "src" / path, exist_ok=True)
        for path in files:
            target = place / "src" / f"{path}.f"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        assert_both_copy_the_same(place, ["-am", *options], ["src/"])
