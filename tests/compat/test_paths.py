"""How sources and destination are named, and what lands where: a test for each of rsync's rules."""

from __future__ import annotations

import pytest

from tests.compat.arena import Arena
from tests.kit import Dir, Fifo, File, Symlink, Tree, make
from tests.kit.programs import run_arsync

SRC = {"src": {"f": File(b"f"), "d": {"g": File(b"g")}}, "other": {"h": File(b"h")}}


def test_a_trailing_slash_copies_what_is_inside(arena: Arena) -> None:
    """With a slash after SRC its entries land in DST, and DST gets the metadata of SRC."""
    world = {"src": Dir({"f": File(b"f")}, mode=0o750, mtime_ns=5), "dst": Dir(mode=0o700)}
    result = arena.run(Tree(world), "-a", "src/", "dst")
    assert "dst/f" in result
    assert (result["dst"].mode, result["dst"].mtime_ns) == (0o750, 5)


def test_without_a_slash_the_directory_itself_is_copied(arena: Arena) -> None:
    """Without a slash DST gets a directory that is called as SRC."""
    result = arena.run(Tree({**SRC, "dst": {}}), "-a", "src", "dst")
    assert "dst/src/d/g" in result


def test_a_slash_after_the_destination_means_nothing(arena: Arena) -> None:
    """DST and DST/ are the same when DST is a directory."""
    result = arena.run(Tree({**SRC, "dst": {}}), "-a", "src/", "dst/")
    assert "dst/d/g" in result


@pytest.mark.parametrize("src", ["src/.", "src//", "./src/", "src/d/..", "src/./"])
def test_other_ways_to_name_what_is_inside(src: str, arena: Arena) -> None:
    """A source that ends in a dot, in two dots or in several slashes is its content."""
    result = arena.run(Tree({**SRC, "dst": {}}), "-a", src, "dst")
    assert "dst/d/g" in result


@pytest.mark.parametrize("src", ["src", "src/"])
def test_a_missing_destination_is_made(src: str, arena: Arena) -> None:
    """DST's own directory is made when only that is missing."""
    result = arena.run(Tree(SRC), "-a", src, "dst")
    assert "dst/f" in result or "dst/src/f" in result


def test_a_missing_parent_of_the_destination_is_an_error(arena: Arena) -> None:
    """Without --mkpath nothing above DST is made: exit 11."""
    arena.run(Tree(SRC), "-a", "src/", "not/there/dst", code=11)


def test_a_missing_parent_of_a_new_name_is_an_error(arena: Arena) -> None:
    """Of a file's new name it is exit 3, of a directory's 11."""
    arena.run(Tree(SRC), "-a", "src/f", "not/there/g", code=3)
    arena.run_again("-a", "src/f", "not/there/g/", code=11)
    arena.run_again("-a", "src/f", "src/d/g", "not/there/g", code=11)


@pytest.mark.parametrize("dst", ["new/path/dst", "new/path/dst/", "dst"])
def test_mkpath_makes_the_way_to_the_destination(dst: str, arena: Arena) -> None:
    """With --mkpath every missing part of DST is made."""
    result = arena.run(Tree(SRC), "-a", "--mkpath", "src/", dst)
    assert f"{dst.rstrip('/')}/d/g" in result


def test_mkpath_of_a_file_keeps_its_name_open(arena: Arena) -> None:
    """With --mkpath a single file lands as DST when that ends in no slash, in it otherwise."""
    assert "new/name" in arena.run(Tree(SRC), "-a", "--mkpath", "src/f", "new/name")
    assert "new/dir/f" in arena.run_again("-a", "--mkpath", "src/f", "new/dir/")


def test_a_file_lands_in_a_directory(arena: Arena) -> None:
    """A file as SRC and a directory as DST: it lands in there under its own name."""
    result = arena.run(Tree({**SRC, "dst": {}}), "-a", "src/f", "dst")
    assert "dst/f" in result


def test_a_file_lands_as_a_file(arena: Arena) -> None:
    """A file as SRC and a name that is not there as DST: it lands under that name."""
    result = arena.run(Tree(SRC), "-a", "src/f", "new name")
    assert "new name" in result


def test_a_file_replaces_a_file(arena: Arena) -> None:
    """A file as SRC and a file as DST: that one is replaced."""
    result = arena.run(Tree({**SRC, "dst": File(b"older", mode=0o600)}), "-a", "src/f", "dst")
    assert result["dst"].content == result["src/f"].content


def test_a_file_with_a_slash_after_a_missing_destination(arena: Arena) -> None:
    """A file as SRC and `dst/` that is not there as DST: the directory is made."""
    result = arena.run(Tree(SRC), "-a", "src/f", "dst/")
    assert "dst/f" in result


def test_several_sources_need_a_directory(arena: Arena) -> None:
    """Two sources cannot land on a file: exit 3."""
    arena.run(Tree({**SRC, "dst": File()}), "-a", "src/f", "other/h", "dst", code=3)


def test_a_directory_cannot_land_on_a_file(arena: Arena) -> None:
    """A directory as SRC and a file as DST: exit 3, and the file is as it was."""
    arena.run(Tree({**SRC, "dst": File(b"kept")}), "-a", "src/", "dst", code=3)


def test_several_sources_land_together(arena: Arena) -> None:
    """Entries, a directory and the content of another land side by side in DST, which is made."""
    result = arena.run(Tree(SRC), "-a", "src/f", "src/d", "other/", "dst")
    assert all(path in result for path in ("dst/f", "dst/d/g", "dst/h"))


def test_the_first_of_two_equal_names_wins(arena: Arena) -> None:
    """Two sources hold a file of one name: the first one's file lands."""
    world = {"one": {"f": File(b"first")}, "two": {"f": File(b"second!")}, "dst": {}}
    result = arena.run(Tree(world), "-a", "one/", "two/", "dst")
    assert result["dst/f"].content == result["one/f"].content


def test_two_sources_with_one_directory_are_merged(arena: Arena) -> None:
    """Two sources hold a directory of one name: what is in either lands."""
    world = {
        "one": {"d": Dir({"f": File(b"1")}, mode=0o750)},
        "two": {"d": Dir({"g": File(b"2")}, mode=0o700)},
        "dst": {},
    }
    result = arena.run(Tree(world), "-a", "one/", "two/", "dst")
    assert "dst/d/f" in result
    assert "dst/d/g" in result


def test_a_missing_source_does_not_stop_the_others(arena: Arena) -> None:
    """One of two sources is missing: the other is copied, exit 23."""
    result = arena.run(Tree({**SRC, "dst": {}}), "-a", "missing", "src/f", "dst", code=23)
    assert "dst/f" in result
    assert b"missing" in result.arsync.stderr


def test_relative_keeps_the_whole_path(arena: Arena) -> None:
    """With -R the path of SRC as it is written lands below DST, with its directories' metadata."""
    world = {"a": Dir({"b": Dir({"f": File(b"f")}, mode=0o711)}, mode=0o750), "dst": {}}
    result = arena.run(Tree(world), "-aR", "a/b/f", "dst")
    assert (result["dst/a"].mode, result["dst/a/b"].mode) == (0o750, 0o711)
    assert "dst/a/b/f" in result


def test_relative_starts_at_a_dot(arena: Arena) -> None:
    """With -R only what follows /./ lands below DST."""
    world = {"a": {"b": {"c": {"f": File(b"f")}}}, "dst": {}}
    result = arena.run(Tree(world), "-aR", "a/./b/c", "dst")
    assert "dst/b/c/f" in result
    assert "dst/a" not in result


def test_relative_copies_only_the_way_to_its_sources(arena: Arena) -> None:
    """With -R a directory on the way lands without its other entries."""
    world = {"a": {"b": {"f": File()}, "not this": File(), "c": {"g": File()}}, "dst": {}}
    result = arena.run(Tree(world), "-aR", "a/b", "a/c/g", "dst")
    assert "dst/a/b/f" in result
    assert "dst/a/c/g" in result
    assert "dst/a/not this" not in result


THROUGH_LINKS = Tree(
    {
        "src": {
            "a": Dir({"f": File(b"f")}, mode=0o710),
            "l": Symlink("a"),
            "up": Symlink("."),
            "out": Symlink("../other"),
        },
        "other": {"g": File(b"g")},
    }
)


@pytest.mark.parametrize(
    "operands",
    [
        ["src/l/f"],
        ["src/l/"],
        ["src/l/."],
        ["src/l"],
        ["src/./l/f"],
        ["src/up/"],
        ["src/up/up/l/f"],
        ["src/out/g", "src/up/a/f"],
        ["src/l", "src/l/f"],
        ["src/l/f", "src/l"],
        ["src/l", "src/l/"],
    ],
)
@pytest.mark.parametrize("options", ["-aR", "-aRK", "-aRH"])
def test_relative_makes_directories_of_links_on_the_way(
    operands: list[str], options: str, arena: Arena
) -> None:
    """A symlink that the path leads through lands as the directory that it leads to."""
    arena.run(THROUGH_LINKS, options, *operands, "dst")


@pytest.mark.parametrize("options", ["-aRL", "-aRk"])
def test_relative_through_links_that_are_followed_anyway(options: str, arena: Arena) -> None:
    """With -L and -k, too, the path leads through its symlinks."""
    result = arena.run(THROUGH_LINKS, options, "src/l/f", "src/out", "dst")
    assert "dst/src/l/f" in result
    assert "dst/src/out/g" in result


def test_relative_with_a_leading_dot_takes_that_directory_along(arena: Arena) -> None:
    """With -R the dot of ./src is a directory on the way: DST gets its metadata."""
    world = Tree({"src": {"f": File(b"f")}, "dst": Dir(mode=0o755)}, Dir(mode=0o711))
    assert arena.run(world, "-aR", "./src", "dst")["dst"].mode == 0o711


def test_dirs_copies_directories_without_their_content(arena: Arena) -> None:
    """With -d and no -r a directory that is named lands empty, one with a slash one level deep."""
    result = arena.run(Tree({**SRC, "dst": {}}), "-d", "src", "other/", "dst")
    assert "dst/src" in result
    assert "dst/src/f" not in result
    assert "dst/h" in result


def test_without_recursion_directories_are_skipped(arena: Arena) -> None:
    """With neither -r nor -d directories are left out and files land."""
    result = arena.run(Tree({**SRC, "dst": {}}), "-t", "src", "src/f", "dst")
    assert "dst/src" not in result
    assert "dst/f" in result


def test_what_is_no_file_is_skipped_unless_asked_for(arena: Arena) -> None:
    """With -r alone symlinks and fifos are left out, exit 0."""
    world = {"src": {"l": Symlink("f"), "f": File(), "p": Fifo()}, "dst": {}}
    result = arena.run(Tree(world), "-rt", "src/", "dst")
    assert "dst/f" in result
    assert "dst/l" not in result
    assert "dst/p" not in result


def test_a_symlink_as_source_is_a_symlink(arena: Arena) -> None:
    """SRC is a symlink to a directory: without a slash the link lands, with one the content."""
    world = {**SRC, "link": Symlink("src"), "dst": {}}
    assert arena.run(Tree(world), "-a", "link", "dst")["dst/link"].kind == "symlink"
    assert "dst/d/g" in arena.run_again("-a", "link/", "dst")


def test_a_symlink_as_destination_is_followed(arena: Arena) -> None:
    """DST is a symlink to a directory: the content lands there and the link stays."""
    result = arena.run(Tree({**SRC, "real": {}, "dst": Symlink("real")}), "-a", "src/", "dst")
    assert "real/d/g" in result
    assert result["dst"].kind == "symlink"


def test_names_of_any_bytes(arena: Arena) -> None:
    """Sources with newlines, quotes, stars and bytes that are no text are taken as they are."""
    names = [b"new\nline", b"*", b"quo'te\"", b"\xff\xfe", b" lead", b"tr "]
    world = {b"src": {name: {b"f": File(name)} for name in names}, b"dst": {}}
    result = arena.run(Tree(world), "-a", *(b"src/" + name for name in names), "dst")
    assert all(b"dst/" + name + b"/f" in result.world for name in names)


def test_a_name_that_looks_like_an_option_follows_two_dashes(arena: Arena) -> None:
    """After -- a name that starts with a dash is a source."""
    result = arena.run(Tree({"-rf": File(b"x"), "dst": {}}), "-a", "--", "-rf", "dst")
    assert "dst/-rf" in result


@pytest.mark.parametrize("sources", [["one/", "two/"], ["one/f", "two/f"], ["one/f", "two/"]])
@pytest.mark.parametrize("options", ["-a", "-an"])
def test_a_directory_after_a_file_of_its_name_is_an_error(
    sources: list[str], options: str, arena: Arena
) -> None:
    """Unlike rsync, which copies the directory alone, arsync says which entry it left out."""
    make(Tree({"one": {"f": File(b"f")}, "two": {"f": {"g": File(b"g")}}, "dst": {}}), arena.place)
    ran = run_arsync([f"--engine={arena.engine}", options, *sources, "dst"], cwd=arena.place)
    assert ran.code == 23
    assert ran.stderr == b"arsync: cannot create the directory 'dst/f': Not a directory\n"
    assert (arena.place / "dst" / "f").is_file() == (options == "-a")


def test_a_file_after_a_directory_of_its_name_is_left_out(arena: Arena) -> None:
    """The directory counts, wherever the file stands."""
    world = Tree({"one": {"f": {"g": File(b"g")}}, "two": {"f": File(b"f")}, "dst": {}})
    assert "dst/f/g" in arena.run(world, "-a", "one/", "two/", "dst")


@pytest.mark.parametrize("options", ["-aK", "-aKn"])
def test_a_link_that_leads_out_of_the_destination_stays(options: str, arena: Arena) -> None:
    """With -K it is neither followed nor replaced: what belongs there is an error."""
    world = {
        "src": {"data": {"f": File(b"f")}},
        "vol": {},
        "dst": {"data": Symlink("../vol"), "to nothing": Symlink("../nowhere")},
    }
    arena.run(Tree(world), options, "src/", "dst", code=23)


@pytest.mark.parametrize("operand", ["src/./f", "src/d/./g", "src/f"])
@pytest.mark.parametrize("dst", ["dst", "dst/"])
def test_relative_without_directories_on_the_way(operand: str, dst: str, arena: Arena) -> None:
    """A file alone lands as DST, as without -R; with directories on the way DST is one, too."""
    arena.run(Tree(SRC), "-aR", operand, dst)
