"""The reference executor, oracle of the executors in C, agrees with rsync -aHAX."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit import File, Pattern, Sparse, Tree, assert_same, make
from tests.kit.filesystems import KINDS, LIMITS, Filesystems
from tests.kit.programs import run_rsync
from tests.kit.reference import copy_tree
from tests.kit.strategies import Kinds, trees
from tests.requirements import need_rsync


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_the_reference_copies_as_rsync_does(
    kind: str, data: st.DataObject, filesystems: Filesystems
) -> None:
    """Source, the reference's copy and rsync's copy are the same in everything."""
    need_rsync()
    tree = data.draw(trees(Kinds(limits=LIMITS[kind])), "source")
    with filesystems.mount(kind).directory() as place:
        make(tree, place / "src")
        copy_tree(place / "src", place / "reference")
        assert run_rsync(["-aHAXU", "src/", "rsync"], cwd=place).code == 0
        assert_same(place / "src", place / "reference", atimes=True)
        assert_same(place / "rsync", place / "reference", atimes=True, atime_granularity_ns=10**9)


def test_the_reference_keeps_holes(each_filesystem: Path) -> None:
    """Data lies in the copy where it lies in the source, and nowhere else."""
    content = Sparse(64 << 20, {0: b"start", 8 << 20: Pattern(1 << 20), 40 << 20: b"x"})
    make(Tree({"f": File(content), "all hole": File(Sparse(1 << 20))}), each_filesystem / "src")
    copy_tree(each_filesystem / "src", each_filesystem / "dst")
    assert_same(each_filesystem / "src", each_filesystem / "dst", holes=True)
