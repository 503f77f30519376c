"""--max-size and --min-size beside rsync: which files are left alone, and what is said of them."""

from __future__ import annotations

import pytest

from tests.compat.arena import Arena
from tests.kit import Dir, Fifo, File, HardLink, Node, Symlink, Tree

FILES: dict[str, Node] = {
    **{f"f{size}": File(b"x" * size, mtime_ns=5) for size in (0, 1, 9, 10, 11, 999, 1000, 1024)},
    "d": Dir({"big": File(b"x" * 2000), "small": File(b"x")}, mode=0o711),
    "link": Symlink("f1000"),
    "fifo": Fifo(),
    "first": File(b"l" * 50),
    "second": HardLink("src/first"),
}
THERE: dict[str, Node] = {
    "f10": File(b"other", mode=0o600),
    "f1000": Symlink("f0"),
    "f999": Dir(),
    "d": Dir({"big": File(b"older"), "extra": File()}),
    "first": File(b"l" * 50),
    "second": File(b"another"),
}


@pytest.mark.parametrize("there", [{}, THERE], ids=["new", "there"])
@pytest.mark.parametrize(
    "options",
    [
        ["--max-size=10"],
        ["--max-size=1k"],
        ["--max-size=1kb-1"],
        ["--max-size=0.01k+1"],
        ["--max-size=0"],
        ["--min-size=10"],
        ["--min-size=1K", "--info=skip"],
        ["--min-size=11", "--max-size=999", "--info=skip2"],
        ["--max-size=9", "--min-size=1000", "-vv"],
        ["--max-size=49", "-H"],
        ["--max-size=50", "-H"],
        ["--max-size=10", "--existing", "--info=skip"],
        ["--max-size=10", "--ignore-existing", "--info=skip"],
        ["--max-size=10", "-u", "-m"],
        ["--max-size=10", "--max-size=1000"],
    ],
    ids=" ".join,
)
def test_files_beyond_the_limits_are_left_alone(
    options: list[str], there: dict[str, Node], arena: Arena
) -> None:
    """Neither their content nor their attributes change; directories, links and fifos come."""
    world = Tree({"src": Dir(FILES), "dst": Dir(there)})
    if "-vv" in options or "-H" in options:  # other talk; another name comes first
        arena.run(world, "-a", *options, "src/", "dst")
    else:
        arena.lines(world, "-ai", *options, "src/", "dst")


@pytest.mark.parametrize("size", ["x", "1x", "-1", "1kbb", "99999999999p", "5-2"])
def test_sizes_that_are_none(size: str, arena: Arena) -> None:
    """A text that is no size is a usage error."""
    arena.run(Tree({"src": {}, "dst": {}}), "-a", f"--max-size={size}", "src/", "dst", code=1)
