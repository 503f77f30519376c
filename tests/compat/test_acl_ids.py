"""-A with --chown, --usermap and --groupmap: whose the entries of ACLs are at the destination."""

from __future__ import annotations

import os

import pytest

from tests.compat.arena import Arena
from tests.kit import Dir, File, Symlink, Tree, acl
from tests.kit.attributes import ACL_DEFAULT
from tests.requirements import need_unprivileged

ACL = acl("u::rwx,u:1:r--,u:2:rw-,u:1000:r-x,g::r--,g:3:r--,g:4321:rwx,m::rwx,o::r-x")
OTHER = acl("u::rwx,u:1:r-x,u:7:---,g::r--,g:3:rw-,m::rwx,o::r-x")
SRC = {"f": File(b"f", acl=ACL), "d": Dir({"g": File(acl=OTHER)}, acl=ACL, default_acl=OTHER)}
OLDER = {"f": File(b"f", acl=OTHER), "d": Dir({"g": File(acl=OTHER)}, acl=OTHER, default_acl=ACL)}

OPTIONS = [
    "-aA --chown=7:8",
    "-aA --chown=daemon",
    "-aA --usermap=0-999:7,*:8",
    "-aA --usermap=1:5000,1000:1 --groupmap=4321:1",
    "-aA --groupmap=3:9999,*:0",
    "-rlptA --usermap=*:7 --no-owner",
    "-aA --groupmap=*:7 --no-group",
    "-aA --numeric-ids --chown=7:8",
    "-dptA --numeric-ids --chown=7:8",
]


@pytest.mark.parametrize("older", ["nothing", "other ACLs"])
@pytest.mark.parametrize("options", OPTIONS)
def test_the_ids_inside_acls(options: str, older: str, arena: Arena) -> None:
    """They are mapped as rsync maps them, and a second run finds nothing to do."""
    world = {"src": SRC, "dst": OLDER if older == "other ACLs" else {}}
    arena.run(Tree(world), *options.split(), "src/", "dst")
    again = arena.run_again(*options.split(), "-i", "src/", "dst")
    assert again.arsync.stdout == b""


@pytest.mark.parametrize("options", ["-rtA", "-rtA --numeric-ids"])
def test_for_who_is_not_root(options: str, arena: Arena) -> None:
    """The ids inside ACLs are mapped although the owners stay what they are."""
    need_unprivileged()
    os.chmod(arena.place, 0o755)
    world = {"src": SRC, "dst": Dir(mode=0o777)}
    maps = ("--usermap=1:5000,*:7", "--groupmap=*:8")
    arena.run(Tree(world), *options.split(), *maps, "src/f", "dst", as_nobody=True)


def test_a_directory_on_the_way_keeps_its_acls(arena: Arena) -> None:
    """What -R makes on the way gets its ACLs once, also when nothing in it is copied."""
    world = {"src": {"a": Dir({"l": Symlink("nowhere")}, acl=ACL, default_acl=OTHER)}, "dst": {}}
    result = arena.run(Tree(world), "-rRA", "src/./a/l", "dst")
    assert result["dst/a"].xattrs[ACL_DEFAULT] == OTHER
