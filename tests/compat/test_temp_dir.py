"""Where --temp-dir is: below DST unless it is absolute."""

from __future__ import annotations

import pytest

from tests.compat.arena import Arena
from tests.kit import File, Tree

WORLD = {
    "src": {"f": File(b"f"), "d": {"g": File(b"g")}},
    "dst": {"temp": {}, "f": File(b"old")},
    "here": {},
}


@pytest.mark.parametrize("operands", [("src/", "dst"), ("src/f", "dst"), ("src/f", "dst/new")])
def test_a_relative_one_is_below_the_destination(operands: tuple[str, str], arena: Arena) -> None:
    """Of a file's new name it is beside that."""
    arena.run(Tree(WORLD), "-a", "--temp-dir=temp", *operands)
    arena.run_again("-a", "-T", "temp", *operands)


@pytest.mark.parametrize("where", ["here", "gone", "f", "../src/f", "/no/such/directory"])
def test_one_that_is_not_there_is_a_usage_error(where: str, arena: Arena) -> None:
    """Nothing is copied, whatever the working directory holds; a dry run says so too."""
    arena.run(Tree(WORLD), "-an", f"--temp-dir={where}", "src/", "dst", code=1)
    result = arena.run_again("-a", f"--temp-dir={where}", "src/", "dst", code=1)
    content = result["dst/f"].content
    assert content
    assert content[2] == b"old"
