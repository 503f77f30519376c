"""--trust-dst: what is recorded speaks for the destination, and only where it may be believed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from arsync.errors import UsageError
from arsync.manifest.places import find
from arsync.manifest.store import Group, Store
from arsync.model import Op
from arsync.options import DeletePolicy, LinkPolicy, ManifestPolicy
from arsync.uring.faults import counted, passes
from tests.kit import Dir, File, HardLink, Symlink, Tree, assert_same, make
from tests.kit.manifests import history
from tests.kit.syncing import Ran, options_of, run

TREE = {
    "a": {"one": File(b"1"), "deep": {"two": File(b"2"), "link": Symlink("two")}},
    "b": {"three": File(b"3"), "name": HardLink("a/one")},
    "c": Dir(),
    "top": File(b"top"),
}


@pytest.fixture
def tmp_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Lend a directory in memory, where a barrier costs nothing."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path_factory.mktemp("trust")
        return
    with tempfile.TemporaryDirectory(prefix="arsync-test-trust-", dir="/dev/shm") as place:
        yield Path(place)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Lend a directory for manifests."""
    return tmp_path / "state"


def walk(tmp_path: Path, *, trust: bool = False, **settings: Any) -> Ran:
    """Run, with or without --trust-dst."""
    policy = ManifestPolicy(state_dir=str(tmp_path / "state"), trust_dst=trust)
    return run(tmp_path / "src", tmp_path / "dst", manifest=policy, **settings)


def settled(tmp_path: Path, tree: dict[str, Any] | None = None, **settings: Any) -> None:
    """Make a source and have all of it converged at the destination."""
    make(Tree(TREE if tree is None else tree), tmp_path / "src")
    for _ in range(2):
        assert walk(tmp_path, **settings).code == 0


def changed(ran: Ran) -> Iterable[bytes]:
    """Return the paths that a run reported."""
    return sorted(ran.changes)


def test_the_destination_is_not_looked_at(tmp_path: Path) -> None:
    """Only its root is opened, and what somebody else did in it is not seen."""
    settled(tmp_path)
    (tmp_path / "dst/a/deep/two").write_bytes(b"other")
    (tmp_path / "dst/b/three").unlink()
    ran = walk(tmp_path, trust=True)
    assert (ran.code, changed(ran), ran.report.manifest_note) == (0, [], "")
    assert (tmp_path / "dst/a/deep/two").read_bytes() == b"other"
    ran = walk(tmp_path)
    assert {b"a/deep/two", b"b/three"} <= set(ran.changes)
    assert_same(tmp_path / "src", tmp_path / "dst")


def test_it_costs_no_call_a_directory(tmp_path: Path) -> None:
    """Beside the roots, half as many directories are read and half as many names looked at."""
    settled(tmp_path, {f"d{number}": {"f": File(b""), "g": File(b"")} for number in range(20)})
    counts = []
    for trust in (False, True):
        with counted():
            walk(tmp_path, trust=trust)
            counts.append((passes(Op.READ_DIR), passes(Op.STAT)))
    (read, stats), (trusted_read, trusted_stats) = counts
    assert read - trusted_read >= 20
    assert stats - trusted_stats >= 60


def test_where_the_source_moved_the_destination_is_looked_at(tmp_path: Path) -> None:
    """A directory with something to do is walked: what somebody put there is seen in time."""
    settled(tmp_path, backup=True)
    (tmp_path / "dst/a/one").write_bytes(b"somebody's, and longer")
    (tmp_path / "dst/b/new").write_bytes(b"somebody's")
    (tmp_path / "src/a/more").write_bytes(b"more")
    (tmp_path / "src/b/new").write_bytes(b"new")
    ran = walk(tmp_path, trust=True, backup=True)
    assert (ran.code, ran.report.manifest_note) == (0, "")
    assert (tmp_path / "dst/a/one").read_bytes() == b"1"
    assert (tmp_path / "dst/a/one~").read_bytes() == b"somebody's, and longer"
    assert (tmp_path / "dst/b/new~").read_bytes() == b"somebody's"


EDITS = {
    "new file": lambda src: (src / "c/f").write_bytes(b"f"),
    "new directory": lambda src: shutil.copytree(src / "a", src / "c/copy"),
    "content": lambda src: (src / "a/deep/two").write_bytes(b"changed"),
    "mode": lambda src: (src / "b/three").chmod(0o600),
    "mode of a directory": lambda src: (src / "a/deep").chmod(0o700),
    "gone": lambda src: (src / "a/deep/two").unlink(),
    "directory gone": lambda src: shutil.rmtree(src / "a/deep"),
    "further name": lambda src: os.link(src / "top", src / "a/deep/top"),
    "another type": lambda src: (shutil.rmtree(src / "c"), (src / "c").write_bytes(b"c")),
    "renamed": lambda src: (src / "a/deep").rename(src / "b/deep"),
    "many": lambda src: [(src / f"c/f{number:04}").write_bytes(b"") for number in range(1500)],
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("when", ["after", "before"])
def test_the_result_is_the_same(tmp_path: Path, edit: str, when: str) -> None:
    """With --delete a run that trusts leaves what one that looks would leave."""
    delete = DeletePolicy(when=when)
    settled(tmp_path, delete=delete)
    EDITS[edit](tmp_path / "src")
    for _ in range(2):
        ran = walk(tmp_path, trust=True, delete=delete)
        assert (ran.code, ran.report.manifest_note) == (0, "")
        assert_same(tmp_path / "src", tmp_path / "dst")
    assert changed(ran) == []
    assert changed(walk(tmp_path, delete=delete)) == []


def test_extras_go_all_the_same(tmp_path: Path) -> None:
    """What only the destination has is found where no file is looked at."""
    delete = DeletePolicy(when="after")
    settled(tmp_path, delete=delete)
    (tmp_path / "dst/a/deep/extra").write_bytes(b"")
    (tmp_path / "dst/c/extra").mkdir()
    ran = walk(tmp_path, trust=True, delete=delete)
    assert {b"a/deep/extra", b"c/extra"} <= set(ran.changes)
    assert_same(tmp_path / "src", tmp_path / "dst")


def test_further_names_join_the_files_that_are_there(tmp_path: Path) -> None:
    """A link made in one directory finds the file of another that was not looked at."""
    settled(tmp_path)
    os.link(tmp_path / "src/a/deep/two", tmp_path / "src/c/two")
    walk(tmp_path, trust=True)
    assert_same(tmp_path / "src", tmp_path / "dst")


def doubt(ran: Ran) -> str:
    """Return why a run looked at the destination."""
    prefix = "--trust-dst: DST is looked at all the same, because "
    assert ran.report.manifest_note.startswith(prefix)
    return ran.report.manifest_note.removeprefix(prefix)


def spoil(tmp_path: Path) -> None:
    """Change something that only a look at the destination finds."""
    (tmp_path / "dst/a/deep/two").write_bytes(b"other")


def assert_looked(tmp_path: Path, ran: Ran) -> None:
    """See that a run has found what was spoiled."""
    assert b"a/deep/two" in ran.changes
    assert_same(tmp_path / "src", tmp_path / "dst")


def test_the_first_run_looks(tmp_path: Path) -> None:
    """A destination that another tool made is looked at, and trusted from then on."""
    make(Tree(TREE), tmp_path / "src")
    make(Tree(TREE), tmp_path / "dst")
    spoil(tmp_path)
    ran = walk(tmp_path, trust=True)
    assert doubt(ran) == "no run of these operands and options has looked at it yet"
    assert_looked(tmp_path, ran)
    assert walk(tmp_path, trust=True).report.manifest_note == ""


def test_after_a_run_that_was_killed_it_is_looked_at(tmp_path: Path, state: Path) -> None:
    """Until a run of the same operands has looked at all of it, whatever ran between."""
    settled(tmp_path)
    spoil(tmp_path)
    store = find(state, bytes(tmp_path / "dst")).store
    (store / "lock").write_text("1 1 here\n")
    dry = walk(tmp_path, trust=True, dry_run=True)
    assert doubt(dry) == "the last run did not end by itself"
    assert b"a/deep/two" in dry.changes
    policy = ManifestPolicy(state_dir=str(state))
    run(tmp_path / "src/b", tmp_path / "dst/b", manifest=policy)
    ran = walk(tmp_path, trust=True)
    assert doubt(ran) == "a run before the last one did not end by itself"
    assert_looked(tmp_path, ran)
    assert walk(tmp_path, trust=True).report.manifest_note == ""


@pytest.mark.parametrize("code", [11, 20, 25])
def test_after_a_run_that_ended_badly_it_is_looked_at(
    tmp_path: Path, state: Path, code: int
) -> None:
    """A full disk, Ctrl-C, a limit: what such a run did need not be recorded."""
    settled(tmp_path)
    spoil(tmp_path)
    with Store(find(state, bytes(tmp_path / "dst")).store, b"") as store:
        store.commit(Group(runs=[{**store.runs()[-1][1], "exit": code}]))
    ran = walk(tmp_path, trust=True)
    assert doubt(ran) == f"a run ended with exit code {code}"
    assert_looked(tmp_path, ran)


def test_other_options_look(tmp_path: Path) -> None:
    """What was equal by other rules is not known to be."""
    settled(tmp_path)
    spoil(tmp_path)
    ran = walk(tmp_path, trust=True, prune_empty_dirs=True)
    assert doubt(ran) == "no run of these operands and options has looked at it yet"
    assert b"a/deep/two" in ran.changes


def test_what_failed_is_tried_again(tmp_path: Path) -> None:
    """A directory in which something failed has not converged, and is looked at."""
    make(Tree(TREE), tmp_path / "src")
    (tmp_path / "dst/a/one/stands").mkdir(parents=True)
    assert walk(tmp_path).code == 23
    shutil.rmtree(tmp_path / "dst/a/one")
    ran = walk(tmp_path, trust=True)
    assert (ran.code, ran.report.manifest_note) == (0, "")
    assert_same(tmp_path / "src", tmp_path / "dst")


def test_a_trusting_run_vouches_for_nothing(tmp_path: Path, state: Path) -> None:
    """It has not looked: only one that has ends the doubt."""
    settled(tmp_path)
    walk(tmp_path, trust=True)
    assert [line["trusted"] for line in history(state, tmp_path / "dst")] == [False, False, True]
    lines = history(state, tmp_path / "dst")
    with Store(find(state, bytes(tmp_path / "dst")).store, b"") as store:
        store.commit(Group(runs=[{**lines[0], "exit": 20}, lines[2]]))
    assert doubt(walk(tmp_path, trust=True)) == "a run ended with exit code 20"


def test_keep_dirlinks_and_several_sources_look(tmp_path: Path) -> None:
    """With -K, and where two sources meet, everything is looked at."""
    links = LinkPolicy(keep_dirlinks=True)
    settled(tmp_path, links=links)
    spoil(tmp_path)
    assert_looked(tmp_path, walk(tmp_path, trust=True, links=links))


def test_a_damaged_store_ends_the_run(tmp_path: Path, state: Path) -> None:
    """It is walked first: what damage hides is not taken for nothing to do."""
    settled(tmp_path)
    data = find(state, bytes(tmp_path / "dst")).store / "data.mdb"
    content = bytearray(data.read_bytes())
    for start in range(2 * 4096, len(content), 4096):
        content[start + 100 : start + 4096] = bytes(4096 - 100)
    data.write_bytes(content)
    assert walk(tmp_path, trust=True).code == 42


def test_what_contradicts_it() -> None:
    """Who removes sources looks first; without a manifest there is nothing to go by."""
    with pytest.raises(UsageError, match="--remove-source-files has to look at DST"):
        options_of(manifest=ManifestPolicy(trust_dst=True), remove_source_files=True)
    with pytest.raises(UsageError, match="--trust-dst goes by the manifest"):
        ManifestPolicy(trust_dst=True, manifest=False)
