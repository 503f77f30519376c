"""`arsync status` and `arsync manifest gc`: how stores are, and those that nobody needs."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from arsync.cli.run import run
from arsync.inventory.gone import Fate, candidates, remove
from arsync.manifest.places import find, settle
from tests.kit.filesystems import filesystem, mounted
from tests.kit.recorded import VERIFIED, record, run_of
from tests.requirements import need_filesystem, need_root

NOBODY = 65534

RUNS = (
    {"start": VERIFIED, "end": VERIFIED + 9, "exit": 23, "errors": 2, "options": {"delete": True}},
    {},
    {
        "end": VERIFIED + 99,
        "exit": 0,
        "sources": ["/a", "/b\n"],
        "files": 1234,
        "bytes": 5_000_000,
        "seconds": 3.21,
        "errors": 0,
    },
    {"end": "soon", "exit": "?", "files": "many", "bytes": None, "sources": 7, "seconds": True},
)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Lend a state directory that the environment names, and UTC."""
    monkeypatch.setenv("ARSYNC_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield tmp_path / "state"
    monkeypatch.undo()
    time.tzset()


def told(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> str:
    """Run the program here; return what it says on standard output."""
    assert run([str(word) for word in words]) == code
    out, err = capsys.readouterr()
    assert err == "" or code
    return out


def recorded(dst: Path, state: Path, **known: object) -> Path:
    """Make and record a destination of one file; return its store."""
    dst.mkdir(exist_ok=True)
    (dst / "file").write_text("content")
    return record(dst, state, **known)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------ status


def test_status_of_nothing(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without any manifest that is what is said, and none is made."""
    assert told(capsys, "status") == f"no manifests in '{state}'\n"
    nothing = {"state_dir": str(state), "stores": [], "damaged": []}
    assert json.loads(told(capsys, "status", "--json")) == nothing
    assert not state.exists()


def test_a_state_directory_that_cannot_be_read(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is not taken for an empty one: exit code 11."""
    state.write_text("no directory")
    for words in (["status"], ["manifest", "gc"]):
        assert run(words) == 11
        assert f"cannot read '{state}': Not a directory" in capsys.readouterr().err
    assert run(["manifest", "stat", str(tmp_path)]) == 3
    assert "there is no such directory" in capsys.readouterr().err


def test_runs_are_shown_whatever_they_lack(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last ones, newest first; a field that is missing or odd is left out."""
    store = recorded(tmp_path / "dst", state, runs=RUNS)
    out = told(capsys, "status")
    assert max(len(line) for line in out.splitlines() if str(tmp_path) not in line) <= 80
    lines = out.replace("\n                /", " /").splitlines()
    assert lines[:5] == [
        str(tmp_path / "dst"),
        f"  store         {store}",
        "  last runs     soon, exit ?",
        "                2023-11-14 22:14:59, done, 1,234 files, 5.00 MB, 3.2 s, from /a /b\\#012",
        "                at an unknown time, ended",
    ]
    assert lines[5] == "  hashed        1 of 1 file (100%), 7 bytes of 7 bytes"
    assert lines[6].startswith("  verified      longest ago 2023-11-14 22:13:24, ")
    assert "exit 23, 2 errors" not in out
    assert "2023-11-14 22:13:29, exit 23, 2 errors" in told(capsys, "status", "--runs=4")
    found = json.loads(told(capsys, "status", "--json", "--runs=9", tmp_path / "dst"))
    assert found["stores"][0]["runs"] == [*RUNS[::-1]]
    assert "last runs     none" in told(capsys, "status", "--runs=0")


def test_status_of_one_or_all(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All stores, by their destinations' paths, or the one that is named by a part of it."""
    for name in ("b", "a"):
        recorded(tmp_path / name, state)
    (tmp_path / "a" / "part").mkdir()
    out = told(capsys, "status")
    assert out.index(f"{tmp_path}/a\n") < out.index(f"{tmp_path}/b\n")
    out = told(capsys, "status", tmp_path / "a" / "part")
    assert f"{tmp_path}/a\n" in out
    assert f"{tmp_path}/b\n" not in out
    shutil.rmtree(tmp_path / "a")
    assert f"{tmp_path}/a (not there now)\n" in told(capsys, "status")
    found = json.loads(told(capsys, "status", "--json"))
    assert [one["present"] for one in found["stores"]] == [False, True]


def test_a_run_at_work_and_one_that_died(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who is at it, and that the one before has left something unfinished."""
    store = recorded(tmp_path / "dst", state)
    with run_of(store) as other:
        out = told(capsys, "status")
        assert f"  running       process {other.pid} on " in out
        assert "unfinished" not in out
        other.kill()
    out = told(capsys, "status")
    assert "  unfinished    the last run ended without closing it (process " in out
    assert "1 of 1 file" in out
    found = json.loads(told(capsys, "status", "--json"))["stores"][0]
    assert (found["held"], found["unfinished"]) == (False, True)
    assert found["holder"]["pid"] == other.pid
    with run_of(store) as other:
        other.communicate()
    assert "unfinished" not in told(capsys, "status")


def test_a_damaged_store_does_not_hide_the_others(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said what is wrong with it, and the exit code is 42."""
    store = recorded(tmp_path / "a", state)
    recorded(tmp_path / "b", state)
    os.truncate(store / "data.mdb", 4096)
    out = told(capsys, "status", code=42)
    assert "  trouble       cannot read the manifest: " in out
    assert out.count("1 of 1 file") == 1
    found = json.loads(told(capsys, "status", "--json", code=42))["stores"]
    assert ["trouble" in one for one in found] == [True, False]
    assert found[0]["content"] is None


def test_a_store_whose_first_run_has_recorded_nothing(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is shown as what it is: empty."""
    (tmp_path / "dst").mkdir()
    settle(find(state, bytes(tmp_path / "dst")))
    out = told(capsys, "status")
    assert "last runs     none recorded\n  hashed        no files are recorded\n" in out
    assert json.loads(told(capsys, "status", "--json"))["stores"][0]["content"]["files"] == 0


# ---------------------------------------------------------------------------------- gc


def test_gc_removes_what_was_deleted_when_told_to(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --yes and a terminal it only lists; what is there is not touched."""
    gone = recorded(tmp_path / "gone", state)
    kept = recorded(tmp_path / "kept", state)
    assert told(capsys, "manifest", "gc") == f"no manifest in '{state}' has lost its destination\n"
    shutil.rmtree(tmp_path / "gone")
    listed = told(capsys, "manifest", "gc")
    assert listed.startswith(f"'{tmp_path}/gone'\n  '{gone}', ")
    assert "its filesystem is mounted, and the directory is not there any more\n" in listed
    assert listed.endswith("nothing is removed: 1 manifest would be with --yes\n")
    assert set(state.iterdir()) == {gone, kept}
    assert told(capsys, "manifest", "gc", "--yes").endswith(f"removed '{gone}'\n")
    assert list(state.iterdir()) == [kept]


def test_a_store_that_names_no_destination_concerns_only_who_has_no_other(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Others are listed, shown and synced as ever; gc removes it when told to."""
    damaged = recorded(tmp_path / "a", state)
    kept = recorded(tmp_path / "b", state)
    (damaged / "destination.json").write_text("{")
    out = told(capsys, "status", code=42)
    assert out.count("1 of 1 file") == 1
    assert f"'{damaged}'\n  damaged: cannot read the manifest: " in out
    found = json.loads(told(capsys, "status", "--json", code=42))
    assert [one["store"] for one in found["damaged"]] == [str(damaged)]
    assert told(capsys, "status", tmp_path / "b").count("1 of 1 file") == 1
    assert run(["-a", f"{tmp_path}/a/", f"{tmp_path}/b"]) == 0
    assert run(["-a", f"{tmp_path}/b/", f"{tmp_path}/a"]) == 42
    assert run(["status", f"{tmp_path}/a"]) == 42
    assert run(["status", f"{tmp_path}/never"]) == 42
    aside = state / "0.damaged-2026-01-01T000000"
    shutil.copytree(kept, aside)
    (aside / "destination.json").unlink()
    capsys.readouterr()
    listed = told(capsys, "manifest", "gc", "--yes")
    assert f"'{damaged}', " in listed
    assert "  kept: a rebuild has put it aside\n" in listed
    assert set(state.iterdir()) == {aside, damaged, kept}
    assert "removed" in told(capsys, "manifest", "gc", "--yes", "--damaged")
    assert list(state.iterdir()) == [kept]
    assert run(["-a", f"{tmp_path}/b/", f"{tmp_path}/a"]) == 0


def test_another_directory_in_its_place_is_not_it(tmp_path: Path, state: Path) -> None:
    """What was removed and made anew is another destination."""
    recorded(tmp_path / "dst", state)
    shutil.rmtree(tmp_path / "dst")
    (tmp_path / "other").mkdir()  # a filesystem may give the same inode number again at once
    (tmp_path / "dst").mkdir()
    assert [one.fate for one in candidates(state)] == [Fate.DELETED]


def test_gc_asks_at_a_terminal(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a yes is one; the end of input is none."""
    store = recorded(tmp_path / "gone", state)
    shutil.rmtree(tmp_path / "gone")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for answer, is_there in (("", True), ("n\n", True), ("yes, but\n", True), ("Y\n", False)):
        monkeypatch.setattr(sys, "stdin", _Terminal(answer))
        assert "remove 1 manifest? [y/N] " in told(capsys, "manifest", "gc")
        assert store.exists() == is_there


class _Terminal:
    """Be a terminal at which one line is typed."""

    def __init__(self, line: str) -> None:
        self._line = line

    def isatty(self) -> bool:
        """Say yes."""
        return True

    def readline(self) -> str:
        """Return the line."""
        return self._line


def test_gc_keeps_what_a_run_holds(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also when the run has begun after the list was made: exit code 41."""
    store = recorded(tmp_path / "gone", state)
    shutil.rmtree(tmp_path / "gone")
    (found,) = candidates(state)
    with run_of(store) as other:
        out = told(capsys, "manifest", "gc", "--yes")
        assert f"  kept: process {other.pid} on " in out
        with pytest.raises(Exception, match=f"process {other.pid}") as caught:
            remove(found.located.store)
        assert caught.value.exit_code == 41  # type: ignore[attr-defined]
    assert (store / "data.mdb").exists()


def test_gc_leaves_what_is_not_the_stores(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that somebody has put there stays, and is said."""
    store = recorded(tmp_path / "gone", state)
    (store / "notes").write_text("mine")
    shutil.rmtree(tmp_path / "gone")
    assert run(["manifest", "gc", "--yes"]) == 11
    assert f"cannot remove '{store}': Directory not empty" in capsys.readouterr().err
    assert os.listdir(store) == ["notes"]
    assert candidates(state) == []


@pytest.mark.parametrize("kind", ["ext4", "btrfs", "tmpfs"])
def test_a_disk_that_is_not_mounted_is_not_gone(
    kind: str, tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its manifest is named and kept; mounted elsewhere it is known, and what is deleted there."""
    need_filesystem(kind)
    with filesystem(kind) as mount:
        (mount.path / "backups").mkdir()
        store = recorded(mount.path / "backups" / "dst", state)
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        if mount.device is not None:
            mount.unmount()
            assert [one.fate for one in candidates(state)] == [Fate.AWAY]
            with mounted(mount.device, elsewhere):
                assert candidates(state) == []
                (elsewhere / "backups").rename(elsewhere / "moved")
                assert candidates(state) != []
                (elsewhere / "moved" / "dst").rename(elsewhere / "dst")
                assert candidates(state) == []
                shutil.rmtree(elsewhere / "dst")
                assert [one.fate for one in candidates(state)] == [Fate.DELETED]
            mount.mount()
    assert [one.fate for one in candidates(state)] == [Fate.AWAY]
    assert "  kept: its filesystem is not mounted\n" in told(capsys, "manifest", "gc", "--yes")
    assert store.exists()
    assert "removed" in told(capsys, "manifest", "gc", "--yes", "--unmounted")
    assert not store.exists()


def test_what_may_not_be_looked_at_is_not_gone() -> None:
    """A destination below a directory that is closed to this user counts as there."""
    need_root()
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="arsync-test-") as base:
        Path(base).chmod(0o755)
        closed = Path(base, "closed")
        closed.mkdir()
        store = recorded(closed / "dst", Path(base, "state"))
        for path in (store.parent, store, *store.iterdir()):
            os.chown(path, NOBODY, NOBODY)
        for shut in (closed, closed / "dst"):
            shut.chmod(0o300)
            os.seteuid(NOBODY)
            try:
                assert candidates(store.parent) == []
            finally:
                os.seteuid(0)
            shut.chmod(0o755)
        shutil.rmtree(closed / "dst")
        assert [one.fate for one in candidates(store.parent)] == [Fate.DELETED]


def test_a_part_of_a_filesystem_says_nothing_about_the_rest(tmp_path: Path, state: Path) -> None:
    """Where only a subdirectory of the disk is mounted, the destination may be beside it."""
    need_root()
    need_filesystem("ext4")
    with filesystem("ext4") as mount:
        (mount.path / "part").mkdir()
        recorded(mount.path / "dst", state)
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        with mounted("--bind", mount.path / "part", elsewhere):
            mount.unmount()
            assert [one.fate for one in candidates(state)] == [Fate.AWAY]
            mount.mount()
        assert candidates(state) == []
