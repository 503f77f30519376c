"""What happens to what DST holds already: replaced, updated, left alone, or in the way."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.compat.arena import LONG_AGO_NS, Arena
from tests.kit import (
    Device,
    Dir,
    Fifo,
    File,
    HardLink,
    Node,
    Pattern,
    Socket,
    Sparse,
    Symlink,
    Tree,
    acl,
    capability,
    make,
)
from tests.kit.filesystems import filesystem
from tests.requirements import need_unprivileged

NODES: dict[str, Node] = {
    "file": File(b"content"),
    "empty directory": Dir(),
    "symlink": Symlink("nowhere"),
    "fifo": Fifo(),
    "socket": Socket(),
    "device": Device("c", 1, 3),
}


@pytest.mark.parametrize("new", NODES)
@pytest.mark.parametrize("old", NODES)
def test_any_type_replaces_any_other(old: str, new: str, arena: Arena) -> None:
    """An entry of one type makes way for one of another, and of its own."""
    world = {"src": {"x": NODES[new]}, "dst": {"x": NODES[old]}}
    result = arena.run(Tree(world), "-a", "src/", "dst")
    assert result["dst/x"].kind == result["src/x"].kind


def test_a_directory_takes_the_place_of_a_file(arena: Arena) -> None:
    """A directory with entries lands where a file was."""
    world = {"src": {"x": {"y": File(b"y")}}, "dst": {"x": File(b"was here")}}
    assert "dst/x/y" in arena.run(Tree(world), "-a", "src/", "dst")


@pytest.mark.parametrize("new", [name for name in NODES if name != "empty directory"])
def test_a_directory_with_entries_stays_in_the_way(new: str, arena: Arena) -> None:
    """Without --delete or --force a directory that is not empty is not replaced: exit 23."""
    world = {"src": {"x": NODES[new], "z": File()}, "dst": {"x": {"kept": File()}}}
    result = arena.run(Tree(world), "-a", "src/", "dst", code=23)
    assert "dst/x/kept" in result
    assert "dst/z" in result


@pytest.mark.parametrize("new", [name for name in NODES if name != "empty directory"])
def test_what_is_in_the_way_is_seen_before_anything_is_made(new: str, arena: Arena) -> None:
    """Nothing is made beside a directory that stays: not even the time of its parent moves."""
    world = {"src": {"x": NODES[new]}, "dst": {"x": {"kept": File()}}}
    arena.run(Tree(world), "-a", "src/x", "dst/", code=23)


def test_what_only_the_destination_has_stays(arena: Arena) -> None:
    """Without --delete extra entries are left as they are."""
    world = {"src": {"a": File(b"a")}, "dst": {"b": File(b"b"), "d": {"c": File()}}}
    result = arena.run(Tree(world), "-a", "src/", "dst")
    assert "dst/b" in result
    assert "dst/d/c" in result


def test_the_quick_check_believes_size_and_time(arena: Arena) -> None:
    """Same size and same mtime is equal, whatever the content."""
    world = {"src": {"a": File(b"new")}, "dst": {"a": File(b"old")}}
    result = arena.run(Tree(world), "-a", "src/", "dst")
    assert result["dst/a"].content != result["src/a"].content


def test_one_nanosecond_makes_a_difference(arena: Arena) -> None:
    """Times are compared to the nanosecond, as rsync does with --modify-window=-1."""
    world = {"src": {"a": File(b"new", mtime_ns=LONG_AGO_NS + 1)}, "dst": {"a": File(b"old")}}
    result = arena.run(Tree(world), "-a", "src/", "dst")
    assert result["dst/a"].content == result["src/a"].content
    assert result["dst/a"].mtime_ns == LONG_AGO_NS + 1


def test_without_times_everything_of_another_time_is_copied_again(arena: Arena) -> None:
    """Without -t an equal file of another time is written again."""
    world = {"src": {"a": File(b"1", mtime_ns=5)}, "dst": {"a": File(b"2", mtime_ns=7)}}
    result = arena.run(Tree(world), "-r", "src/", "dst")
    assert result["dst/a"].content == result["src/a"].content


def test_only_metadata_is_set_where_only_metadata_differs(arena: Arena) -> None:
    """Mode, owner and time of an equal file are set, and its inode stays."""
    src = File(b"same", mode=0o4711, uid=5, gid=6)
    world = {"src": {"a": src}, "dst": {"a": File(b"same", mode=0o600)}}
    arena.run(Tree(world), "-n", "-a", "src/", "dst")
    inode = os.stat(arena.place / "arsync/dst/a").st_ino
    result = arena.run_again("-a", "src/", "dst")
    assert os.stat(arena.place / "arsync/dst/a").st_ino == inode
    assert (result["dst/a"].mode, result["dst/a"].uid) == (0o4711, 5)


def test_a_changed_file_becomes_a_new_inode(arena: Arena) -> None:
    """An update leaves another name of the old inode with the old content."""
    world = {"src": {"a": File(b"newer")}, "dst": {"a": File(b"old")}, "keep": HardLink("dst/a")}
    result = arena.run(Tree(world), "-a", "src/", "dst")
    assert result["keep"].content != result["dst/a"].content


def test_inplace_writes_into_the_same_inode(arena: Arena) -> None:
    """With --inplace another name of the file changes with it."""
    world = {
        "src": {"a": File(b"new and longer"), "b": File(b"short")},
        "dst": {"a": File(b"old"), "b": File(Pattern(100_000))},
        "keep": HardLink("dst/a"),
        "too": HardLink("dst/b"),
    }
    result = arena.run(Tree(world), "-a", "--inplace", "src/", "dst")
    assert result["keep"].content == result["src/a"].content
    assert result["too"].content == result["src/b"].content


def test_omitted_directory_times_are_left_to_the_clock(arena: Arena) -> None:
    """With -O a directory that is written into gets the time of now, another keeps its own."""
    world = {
        "src": {"d": Dir({"f": File(b"f")}, mtime_ns=5), "e": Dir(mtime_ns=6)},
        "dst": {"e": Dir(mtime_ns=7)},
    }
    result = arena.run(Tree(world), "-a", "-O", "src/", "dst")
    assert result["dst/e"].mtime_ns == 7
    assert result["dst/d"].mtime_ns != 5
    assert result["dst/d/f"].mtime_ns == LONG_AGO_NS


def test_omitted_link_times_are_left_to_the_clock(arena: Arena) -> None:
    """With -J a new symlink gets the time of now, an equal one keeps its own."""
    world = {
        "src": {"new": Symlink("x", mtime_ns=5), "old": Symlink("y", mtime_ns=5)},
        "dst": {"old": Symlink("y", mtime_ns=9)},
    }
    result = arena.run(Tree(world), "-a", "-J", "src/", "dst")
    assert result["dst/old"].mtime_ns == 9
    assert result["dst/new"].mtime_ns != 5


def test_a_symlink_of_another_target_is_replaced(arena: Arena) -> None:
    """A symlink is equal when its target is, and its time is set alone."""
    world = {
        "src": {"a": Symlink("new"), "b": Symlink("same", mtime_ns=5)},
        "dst": {"a": Symlink("old"), "b": Symlink("same", mtime_ns=6)},
    }
    result = arena.run(Tree(world), "-a", "src/", "dst")
    assert result["dst/a"].target == b"new"
    assert result["dst/b"].mtime_ns == 5


def test_keep_dirlinks_goes_through_the_link(arena: Arena) -> None:
    """With -K a symlink to a directory at DST stands for the directory; without, it is replaced."""
    world = {
        "src": {"d": {"f": File(b"f")}},
        "dst": {"d": Symlink("real"), "real": {"g": File(b"g")}},
    }
    # -O, because rsync sets the time of the symlink instead of the directory's.
    result = arena.run(Tree(world), "-aKO", "src/", "dst")
    assert result["dst/d"].kind == "symlink"
    assert "dst/real/f" in result
    assert arena.run_again("-a", "src/", "dst")["dst/d"].kind == "directory"


def test_copy_links_copies_what_links_lead_to(arena: Arena) -> None:
    """With -L files and directories land instead of links, and a dangling one is exit 23."""
    world = {
        "src": {"f": File(b"f"), "to f": Symlink("f"), "to d": Symlink("d"), "d": {"g": File()}},
        "dst": {},
    }
    result = arena.run(Tree(world), "-aL", "src/", "dst")
    assert (result["dst/to f"].kind, result["dst/to d/g"].kind) == ("file", "file")


def test_copy_links_cannot_copy_what_is_not_there(arena: Arena) -> None:
    """With -L a dangling link is reported and left out, the rest lands: exit 23."""
    world = {"src": {"bad": Symlink("nowhere"), "f": File(b"f")}, "dst": {}}
    result = arena.run(Tree(world), "-aL", "src/", "dst", code=23)
    assert "dst/f" in result
    assert "dst/bad" not in result


def test_copy_dirlinks_follows_links_to_directories_only(arena: Arena) -> None:
    """With -k a link to a directory becomes the directory, a link to a file stays a link."""
    world = {
        "src": {"f": File(b"f"), "to f": Symlink("f"), "to d": Symlink("d"), "d": {"g": File()}},
        "dst": {},
    }
    result = arena.run(Tree(world), "-ak", "src/", "dst")
    assert (result["dst/to f"].kind, result["dst/to d"].kind) == ("symlink", "directory")


UNSAFE = {
    "src": {
        "inside": Symlink("f"),
        "outside": Symlink("../other"),
        "absolute": Symlink("/etc/hostname"),
        "d": {"up": Symlink("../f"), "too far": Symlink("../../other")},
        "f": File(b"f"),
    },
    "other": File(b"other"),
    "dst": {},
}


def test_safe_links_leaves_out_what_leads_outside(arena: Arena) -> None:
    """With --safe-links only links that stay within the tree land."""
    result = arena.run(Tree(UNSAFE), "-a", "--safe-links", "src/", "dst")
    links = sorted(path for path, entry in result.world.items() if entry.kind == "symlink")
    assert [path for path in links if path.startswith(b"dst")] == [b"dst/d/up", b"dst/inside"]


def test_copy_unsafe_links_copies_what_leads_outside(arena: Arena) -> None:
    """With --copy-unsafe-links files land for links that leave the tree."""
    result = arena.run(Tree(UNSAFE), "-a", "--copy-unsafe-links", "src/", "dst")
    assert result["dst/outside"].content == result["other"].content
    assert result["dst/inside"].kind == "symlink"


def test_hard_links_stay_together(arena: Arena) -> None:
    """With -H names of one inode are one inode again, across directories and among symlinks."""
    world = {
        "src": {
            "a": File(b"shared"),
            "d": {"b": HardLink("src/a"), "e": {"c": HardLink("src/a")}},
            "l": Symlink("nowhere"),
            "m": HardLink("src/l"),
            "p": Fifo(),
            "q": HardLink("src/p"),
        },
        "dst": {"a": File(b"older"), "d": {"b": File(b"shared")}},
    }
    result = arena.run(Tree(world), "-aH", "src/", "dst")
    assert result["dst/a"].links == (b"dst/a", b"dst/d/b", b"dst/d/e/c")
    assert result["dst/l"].links == (b"dst/l", b"dst/m")


def test_without_hard_links_each_name_is_a_file(arena: Arena) -> None:
    """Without -H every name gets its own inode."""
    world = {"src": {"a": File(b"shared"), "b": HardLink("src/a")}, "dst": {}}
    assert arena.run(Tree(world), "-a", "src/", "dst")["dst/a"].links == ()


def test_a_name_that_joins_a_group_is_linked(arena: Arena) -> None:
    """With -H an equal but separate file at DST becomes a link of its group."""
    world = {
        "src": {"a": File(b"x"), "b": HardLink("src/a")},
        "dst": {"a": File(b"x"), "b": File(b"x")},
    }
    result = arena.run(Tree(world), "-aH", "src/", "dst")
    assert result["dst/a"].links == (b"dst/a", b"dst/b")


def test_attributes_land_and_extra_ones_go(arena: Arena) -> None:
    """With -X attributes become those of SRC, capabilities too; without they are not looked at."""
    src = File(b"x", xattrs={"user.new": b"1", "security.capability": capability(1 << 10)})
    world = {"src": {"a": src}, "dst": {"a": File(b"x", xattrs={"user.old": b"2"})}}
    assert arena.run(Tree(world), "-a", "src/", "dst")["dst/a"].xattrs == {"user.old": b"2"}
    assert arena.run_again("-aX", "src/", "dst")["dst/a"].xattrs == src.xattrs


def test_acls_land_and_extra_ones_go(arena: Arena) -> None:
    """With -A ACLs become those of SRC, default ones too, and one that SRC has not goes."""
    text = "u::rwx,u:1:rwx,g::r-x,m::rwx,o::---"
    world = {
        "src": {"a": File(acl=acl(text)), "b": File(), "d": Dir(default_acl=acl(text))},
        "dst": {"b": File(acl=acl(text)), "d": {}},
    }
    result = arena.run(Tree(world), "-aA", "src/", "dst")
    assert list(result["dst/a"].xattrs) == ["system.posix_acl_access"]
    assert list(result["dst/d"].xattrs) == ["system.posix_acl_default"]
    assert result["dst/b"].xattrs == {}


def test_new_entries_get_what_the_default_acl_of_their_directory_says(arena: Arena) -> None:
    """Without -p a new file in a directory with a default ACL gets its mode by that."""
    default = Dir(default_acl=acl("u::rwx,u:1:rwx,g::r-x,m::rwx,o::---"))
    world = {"src": {"a": File(mode=0o666), "d": Dir(mode=0o777)}, "dst": default}
    assert "dst/a" in arena.run(Tree(world), "-rt", "src/", "dst")


@pytest.mark.parametrize("mode", [0o644, 0o4755, 0o666, 0o000])
def test_without_perms_an_old_file_keeps_its_mode(mode: int, arena: Arena) -> None:
    """Without -p a new file's mode obeys the umask, and an old one's stays."""
    world = {
        "src": {"new": File(b"n", mode=mode), "old": File(b"longer", mode=mode)},
        "dst": {"old": File(b"o", mode=0o640)},
    }
    result = arena.run(Tree(world), "-rt", "src/", "dst")
    assert result["dst/old"].mode == 0o640


def test_sparse_writes_zeros_as_holes(arena: Arena) -> None:
    """With -S a file of zeros takes no space, and contents are the same."""
    world = {"src": {"zeros": File(bytes(1 << 20)), "mixed": File(bytes(70_000) + b"x")}, "dst": {}}
    result = arena.run(Tree(world), "-aS", "src/", "dst")
    assert result["dst/zeros"].data == ()
    for program in ("rsync", "arsync"):
        assert (arena.place / program / "dst/zeros").stat().st_blocks == 0


def test_a_sparse_source_lands_equal(arena: Arena) -> None:
    """A file with holes at its start, middle and end has the same content after the copy."""
    content = Sparse(8 << 20, {1 << 20: b"x", 4 << 20: Pattern(100_000)})
    world = {"src": {"a": File(content)}, "dst": {}}
    result = arena.run(Tree(world), "-a", "src/", "dst")
    assert result["dst/a"].content == result["src/a"].content


def make_unreadable(world: Path) -> None:
    """Give everything to the user who will copy, but for one file and one directory."""
    for path in [world, *world.rglob("*")]:
        os.chown(path, 65534, 65534, follow_symlinks=False)
    for name in ("secret", "closed"):
        os.chmod(world / "src" / name, 0)


def test_what_cannot_be_read_costs_only_itself(arena: Arena) -> None:
    """Without root's rights an unreadable file and directory are left out: exit 23."""
    need_unprivileged()
    os.chmod(arena.place, 0o755)
    world = {
        "src": {
            "secret": File(b"s"),
            "closed": {"f": File()},
            "open": File(b"o"),
            "d": {"g": File()},
        },
        "dst": {},
    }
    args = ("-a", "src/", "dst")
    result = arena.run(Tree(world), *args, code=23, as_nobody=True, prepare=make_unreadable)
    assert "dst/open" in result
    assert "dst/d/g" in result
    assert "dst/secret" not in result


def give_to_nobody(world: Path) -> None:
    """Give a whole world to the user who will copy, but for what belongs to others in SRC."""
    for path in [world, world / "dst", *(world / "src").rglob("*"), world / "src"]:
        os.chown(path, 65534, 65534, follow_symlinks=False)
    os.chown(world / "src/foreign", 1, 1)


def test_without_root_owners_stay_the_copying_users(arena: Arena) -> None:
    """Without root's rights -a asks for no owner, keeps modes and times, and exits 0."""
    need_unprivileged()
    os.chmod(arena.place, 0o755)
    world = {"src": {"foreign": File(b"f", mode=0o644), "p": Fifo(), "l": Symlink("x")}, "dst": {}}
    args = ("-a", "src/", "dst")
    result = arena.run(Tree(world), *args, as_nobody=True, prepare=give_to_nobody)
    assert (result["dst/foreign"].uid, result["dst/p"].kind) == (65534, "fifo")


@pytest.mark.parametrize(("option", "lands"), [("-x", False), ("--no-x", True), ("-xx", False)])
def test_one_file_system_stops_at_a_mount(option: str, lands: bool, arena: Arena) -> None:
    """With -x a mount point lands empty, with -xx not at all, otherwise with what is in it."""
    world = {"src": {"mounted": {}, "d": {"f": File(b"f")}}, "dst": {}}
    with ExitStack() as stack:

        def mount(world: Path) -> None:
            path = world / "src/mounted"
            stack.enter_context(filesystem("tmpfs", size_bytes=1 << 20, at=path))
            make(Tree({"g": File(b"g")}, Dir(mode=0o755)).at(LONG_AGO_NS), path)

        result = arena.run(Tree(world), "-a", option, "src/", "dst", prepare=mount)
    assert ("dst/mounted/g" in result) is lands
    assert "dst/d/f" in result


@pytest.mark.parametrize(
    "options",
    [
        ("--chmod=u+rwX,go-w",),
        ("--chmod=D2755,F640",),
        ("--chmod=a=rX", "--chmod=Fu+w"),
        ("--chown=5:6",),
        ("--chown=daemon",),
        ("--usermap=0:9,*:8",),
        ("--groupmap=root:7", "--usermap=daemon:3"),
        ("--numeric-ids", "--no-g"),
    ],
)
def test_modes_and_owners_are_changed_on_the_way(options: tuple[str, ...], arena: Arena) -> None:
    """Each of --chmod, --chown, --usermap and --groupmap has rsync's meaning for new and old."""
    world = {
        "src": {
            "f": File(b"f", mode=0o4751, uid=0, gid=0),
            "g": File(b"g", mode=0o606, uid=1, gid=1),
            "d": Dir({"h": File(mode=0o400, uid=1000, gid=1000)}, mode=0o700),
            "l": Symlink("f", uid=1, gid=1),
        },
        "dst": {"g": File(b"g", mode=0o644), "d": Dir(mode=0o1777)},
    }
    arena.run(Tree(world), "-a", *options, "src/", "dst")


def test_a_second_run_changes_nothing(arena: Arena) -> None:
    """After a run the same command finds nothing to do and prints nothing."""
    world = {
        "src": {"f": File(b"f"), "l": Symlink("f"), "p": Fifo(), "d": Dir(mtime_ns=-5)},
        "dst": {},
    }
    arena.run(Tree(world), "-aHAX", "src/", "dst")
    assert arena.run_again("-aHAXi", "src/", "dst").arsync.stdout == b""


def test_links_seen_through_are_further_names_of_their_file(arena: Arena) -> None:
    """-L with -H: a link to a file of several names becomes one more; of a single one, a copy."""
    world = {
        "src": {
            "a": File(b"shared"),
            "b": HardLink("src/a"),
            "to a": Symlink("a"),
            "alone": File(b"alone"),
            "to alone": Symlink("alone"),
        }
    }
    result = arena.run(Tree(world), "-aHL", "src/", "dst")
    assert result["dst/to a"].links == (b"dst/a", b"dst/b", b"dst/to a")
    assert result["dst/to alone"].links == ()
    assert arena.run_again("-aHLi", "src/", "dst").arsync.stdout == b""
