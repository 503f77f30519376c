"""Filter rules with the modifier x beside rsync: which attributes come, stay and go."""

from __future__ import annotations

import pytest

from tests.compat.arena import Arena
from tests.kit import Dir, File, Tree

NAMES = ("user.a", "user.b", "user.ab", "user.x/y", "trusted.a")


def world() -> Tree:
    """Return a world whose destination has other attributes, and some of its own."""
    src = dict.fromkeys(NAMES, b"src")
    dst = {"user.a": b"dst", "user.ab": b"src", "user.extra": b"dst", "trusted.extra": b"dst"}
    return Tree(
        {
            "src": Dir(
                {
                    "same": File(b"f", xattrs=src),
                    "new": File(b"n", xattrs=src),
                    "other": File(b"content", xattrs=src),
                    "d": Dir({"none": File()}, xattrs=src),
                }
            ),
            "dst": Dir(
                {
                    "same": File(b"f", xattrs=dst),
                    "other": File(b"old", xattrs=dst),
                    "d": Dir({"none": File(xattrs=dst)}, xattrs=dst),
                }
            ),
        }
    )


RULES = [
    ["-x user.a"],
    ["-x! user.*"],
    ["-x system.*", "-x trusted.*"],
    ["-xr *"],
    ["-xs user.a"],
    ["+x user.a", "-x *"],
    ["Hx user.b"],
    ["Px user.extra"],
    ["Rx user.extra", "Px user.*"],
    ["Sx user.a", "Hx *"],
    ["-x /user.b"],
    ["-x **b"],
    ["-x y"],
    ["-x user.x/y"],
    ["-xp user.[ab]"],
    ["- user.a", "- same"],
]


@pytest.mark.parametrize("rules", RULES, ids=" ".join)
def test_rules_for_attributes(rules: list[str], arena: Arena) -> None:
    """The same attributes and the same lines, and nothing more to do the second time."""
    filters = [f"--filter={rule}" for rule in rules]
    arena.lines(world(), "-aiX", *filters, "src/", "dst")
    again = arena.run_again("-aiX", *filters, "src/", "dst")
    assert again.arsync.lines == again.rsync.lines


def test_acls_are_not_attributes_where_they_are_kept(arena: Arena) -> None:
    """With -A they come in any case, whatever the rules say."""
    arena.run(world(), "-aAX", "--filter=-x user.*", "src/", "dst")
