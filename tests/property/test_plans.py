"""What is planned is done: -n, plan, apply and a run say the same of any tree and any options."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from hypothesis import assume, given, note
from hypothesis import strategies as st

from tests.kit import Tree, assert_same, make, read
from tests.kit.calls import Call, calls
from tests.kit.filesystems import LIMITS, Filesystems
from tests.kit.programs import run_arsync
from tests.kit.snapshot import without_now
from tests.kit.strategies import Kinds, edited, trees

# What calls() does not draw: what changes more than rsync's oracle could follow.
MORE = (
    (),
    (),
    ("--delete",),
    ("--delete-before", "--force"),
    ("--delete", "--max-delete=2"),
    ("--delete", "--exclude=[a-c]*"),
    ("--delete-excluded", "--exclude=*/", "-b"),
    ("--delete", "--trash-dir=../trash"),
    ("--exclude=b", "-m", "--max-size=100K"),
    ("--backup-dir=../kept", "--min-size=1"),
    ("--remove-source-files",),
)


@pytest.fixture(autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep manifests of one test apart from those of others."""
    monkeypatch.setenv("ARSYNC_STATE_DIR", str(tmp_path_factory.mktemp("state")))


def recurses(call: Call) -> bool:
    """Tell whether a call may delete, too."""
    return any(option.startswith(("-a", "-r", "-d")) for option in call.options)


def place_world(place: Path, tree: Tree, older: Tree, call: Call) -> None:
    """Make source and destination anew."""
    for name in ("src", "dst", "trash", "kept"):
        shutil.rmtree(place / name, ignore_errors=True)
    make(tree, place / "src")
    make(older, place / "dst" / os.fsdecode(call.placed))


REMOVED = b"sender removed "
"""What a plan says of --remove-source-files, and -n -i does not, as with rsync."""


@pytest.mark.parametrize("hard_links", [False, True])
@given(data=st.data())
def test_what_is_planned_is_done(
    hard_links: bool, data: st.DataObject, filesystems: Filesystems
) -> None:
    """The lines of -n -i, of `plan`, of `apply -i` and of a run are the same, and so is the end.

    Where two names of the destination are one file, what is done to the first may leave nothing to
    be said of the second, if it is looked at late: then only plans have the same lines.
    """
    kinds = Kinds(limits=LIMITS["ext4"], hard_links=hard_links)
    tree = data.draw(trees(kinds), "source")
    older = data.draw(edited(tree, kinds), "destination")
    call = data.draw(calls(tree).filter(recurses), "call")
    more = data.draw(st.sampled_from(MORE), "more")
    # Threads choose which name of a file comes first.
    options = ["--owner" if option == "-o" else option for option in call.options]
    words = [*more, "--scan-threads=1", *options, *call.sources, "dst"]
    with filesystems.mount("ext4").directory() as place:
        started_ns = time.time_ns()
        place_world(place, tree, older, call)
        before = read(place)
        dry = run_arsync(["-n", "-i", *words], cwd=place)
        note(f"dry run: {dry}")
        assume(dry.code in (0, 25))
        shown = run_arsync(["plan", *words], cwd=place)
        removed = [line for line in shown.lines if line.startswith(REMOVED)]
        assert (shown.code, [one for one in shown.lines if one not in removed]) == (
            dry.code,
            dry.lines,
        )
        written = run_arsync(["plan", *words, "-o", "-"], cwd=place)
        assert_same(before, place)
        header, *entries, _ = written.stdout.splitlines()
        assert b'"arsync_plan":1' in header
        assert planned_names(entries) == shown_names(shown.lines)
        with (place / "plan").open("wb") as file:
            file.write(written.stdout)
        applied = run_arsync(["apply", "-i", "plan"], cwd=place)
        note(f"applied: {applied}")
        assert applied.code == dry.code
        assert hard_links or applied.lines == dry.lines
        (place / "plan").unlink()
        after = without_now(read(place), started_ns)
        place_world(place, tree, older, call)
        run = run_arsync(["-i", *words], cwd=place)
        assert run.code == dry.code
        assert hard_links or run.lines == dry.lines
        assert_same(after, without_now(read(place), started_ns))


def planned_names(entries: list[bytes]) -> int:
    """Count the entries of a plan but for those that only say what is displaced."""
    found = [json.loads(line) for line in entries]
    return sum(one["kind"] != "delete" or one["reasons"] != ["type"] for one in found)


def shown_names(lines: list[bytes]) -> int:
    """Count the lines of -i that name an entry."""
    others = (b"skipping ", b"created directory ")
    return sum(not line.startswith(others) for line in lines)
