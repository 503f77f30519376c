"""rsync is the oracle: any tree, any options, the same destination and the same exit code."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import assume, given, note
from hypothesis import strategies as st

from tests.kit import Aspects, Dir, Tree, assert_same, differences, make, read
from tests.kit.calls import Call, calls
from tests.kit.filesystems import KINDS, LIMITS, Filesystems, Limits
from tests.kit.programs import Outcome, run_arsync, run_rsync
from tests.kit.snapshot import without_now
from tests.kit.strategies import Kinds, edited, plain_names, trees
from tests.requirements import need_rsync, need_uring

ENGINES = ("uring", "sync")
MAPPING = ("--chown=", "--usermap=", "--groupmap=")


def place_destination(call: Call, older: Tree, dst: Path) -> None:
    """Make a destination that holds an older state of the source where the call will put it."""
    make(older, dst / call.placed.decode())
    if call.placed:
        # Last, because making what is in it has just moved its time.
        make(Tree(root=Dir(mtime_ns=0)), dst)


def copies_acls_as_xattrs(call: Call) -> bool:
    """Tell whether rsync copies ACLs unasked, or unmapped, through xfs's trusted.SGI_ACL_*."""
    maps = [option for option in call.options if option.startswith(MAPPING)]
    return "-X" in call.options and ("-A" not in call.options or bool(maps))


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_both_leave_the_same(kind: str, data: st.DataObject, filesystems: Filesystems) -> None:
    """The installed rsync and both engines of arsync make the same of the same destination."""
    need_rsync()
    need_uring()
    kinds = Kinds(limits=LIMITS[kind])
    tree = data.draw(trees(kinds), "source")
    older = data.draw(edited(tree, kinds), "destination")
    call = data.draw(calls(tree), "call")
    with filesystems.mount(kind).directory() as place:
        make(tree, place / "src")
        for program in ("rsync", *ENGINES):
            place_destination(call, older, place / program)
        started_ns = time.time_ns()
        expected = run_rsync(call.args("rsync"), cwd=place)
        note(f"rsync: exit {expected.code}, {expected.stderr!r}")
        assume(expected.code in (0, 23))
        # After a read error rsync deletes no more, arsync deletes nothing.
        assume(expected.code == 0 or not call.deletes)
        # A link to a directory above it: rsync goes round until stopped, arsync says what it is.
        assume(b"Too many levels of symbolic links" not in expected.stderr)
        # Below a file of DST that --ignore-existing keeps rsync looks for a directory's entries.
        assume(b"failed to stat" not in expected.stderr)
        # Of a file's names in several directories one that is there already may come too late.
        assume(not ("-H" in call.options and call.backs_up))
        for engine in ENGINES:
            found = run_arsync([f"--engine={engine}", *call.args(engine)], cwd=place)
            note(f"arsync, engine {engine}: exit {found.code}, {found.stderr!r}")
            assert_same(
                without_now(read(place / "rsync"), started_ns),
                without_now(read(place / engine), started_ns),
                **call.aspects(),
                acls=not (kind == "xfs" and copies_acls_as_xattrs(call)),
            )
            assert found.code == expected.code


# What rsync prints oddly: after chown has cleared setuid or capabilities it compares with what is
# left, and prints a `p` or `x` that -n does not; under -A with --chmod it prints `a` for some equal
# default ACLs; which of several hard links it copies is its own choice; long lines are cut.
ITEMIZED = Kinds(
    names=plain_names,
    limits=Limits(xattr_bytes=3000, symlink_bytes=100),
    hard_links=False,
    acls=False,
    privileges=False,
)
SETTING_BITS = ("--chmod=D2755,F640", "--chmod=F+x,g+s")


def sets_no_bits(call: Call) -> bool:
    """Tell whether a call leaves setuid and setgid alone."""
    return not set(call.options).intersection(SETTING_BITS)


def deletes_first(call: Call) -> bool:
    """Tell whether rsync shows a directory because a deletion has moved its time; -n does not."""
    return bool({"--delete", "--del", "--delete-during", "--delete-before"} & set(call.options))


def itemized(outcome: Outcome) -> list[bytes]:
    """Return the lines of -i: not that rsync says each time what it was not asked to copy."""
    return [line for line in outcome.lines if not line.startswith(b"skipping ")]


@given(data=st.data())
def test_both_say_the_same(data: st.DataObject, filesystems: Filesystems) -> None:
    """What -i prints is the same line by line, with -n too, and -n changes nothing."""
    need_rsync()
    tree = data.draw(trees(ITEMIZED), "source")
    older = data.draw(edited(tree, ITEMIZED), "destination")
    call = data.draw(calls(tree).filter(sets_no_bits), "call")
    assume(not deletes_first(call))
    with filesystems.mount("ext4").directory() as place:
        make(tree, place / "src")
        for program in ("rsync", "arsync"):
            place_destination(call, older, place / program)
        before = read(place / "arsync")
        expected = run_rsync(["-i", *call.args("rsync")], cwd=place)
        assume(expected.code == 0)
        dry = run_arsync(["-n", "-i", *call.args("arsync")], cwd=place)
        assert differences(read(place / "arsync"), before, Aspects(atimes=True, holes=True)) == []
        real = run_arsync(["-i", *call.args("arsync")], cwd=place)
        assert itemized(real) == itemized(expected)
        assert itemized(dry) == itemized(expected)
