"""The commands about manifests, on one that real runs have made."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import xxhash

from arsync.cli.run import run
from tests.kit import Dir, Fifo, File, HardLink, Pattern, Symlink, Tree, make
from tests.kit.programs import run_arsync
from tests.kit.syncing import CHUNK, Ran, hash_of
from tests.kit.syncing import run as run_sync
from tests.requirements import need_command

TREE = {
    "a": {"one": File(b"1", mode=0o640), "deep": {"two": File(b"2"), "link": Symlink("two")}},
    "b": {"three": File(b"3" * 5000), "pipe": Fifo()},
    "bare": Dir(mode=0o700),
    "big": File(Pattern(2 * CHUNK + 5)),
    "name": HardLink("b/three"),
    "many": {f"f{number:04}": File(b"") for number in range(1100)},
}
FILES = 1100 + 5


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory with src, copied to dst, and its manifest in state."""
    monkeypatch.setenv("ARSYNC_STATE_DIR", str(tmp_path / "state"))
    make(Tree(TREE), tmp_path / "src")
    for _ in range(2):
        sync(tmp_path)
    return tmp_path


def sync(place: Path, *options: str) -> bytes:
    """Run as people do; return what is printed."""
    paths = [f"{place}/src/", f"{place}/dst"]
    done = run_arsync(["-aH", "--copy-method=read_write", *options, *paths])
    assert (done.code, done.stderr) == (0, b"")
    return done.stdout


def told(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Run a command here; return what it prints."""
    capsys.readouterr()
    assert run([str(word) for word in words]) == 0
    return capsys.readouterr().out


def exported(place: Path, capsys: pytest.CaptureFixture[str], *options: str) -> list[Any]:
    """Return the lines of an export."""
    text = told(capsys, "manifest", "export", *options, place / "dst")
    return [json.loads(line) for line in text.splitlines()]


def assert_is(line: dict[str, Any], path: Path) -> None:
    """Hold a line against what is on disk."""
    info = path.lstat()
    assert line["ino"] == info.st_ino
    if line["type"] == "directory" and line["path"] != ".":
        return
    assert int(line["mode"], 8) == stat.S_IMODE(info.st_mode)
    assert (line["size"], line["nlink"]) == (info.st_size, info.st_nlink)
    assert (line["mtime_ns"], line["ctime_ns"]) == (info.st_mtime_ns, info.st_ctime_ns)


def test_export_is_what_is_there(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each entry of both sides stands there once, as lstat has it, and with its content's hash."""
    for tree, root in (("0", place / "dst"), ("1", place / "src")):
        lines = exported(place, capsys, f"--tree={tree}")
        paths = {str(path.relative_to(root)) for path in root.rglob("*")}
        assert sorted(line["path"] for line in lines) == sorted({".", *paths})
        hashed = 0
        for line in lines:
            path = root / line["path"]
            assert_is(line, path)
            if "xxh128" in line:
                hashed += 1
                assert bytes.fromhex(line["xxh128"]) == hash_of(path.read_bytes())
        # one of the two names of b/three was linked, and read by nobody
        assert hashed == FILES - 1


def test_a_sum_file_holds(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What xxhsum reads in DST is what the manifest has; what has no sum of its own is read."""
    need_command("xxhsum")
    sums = place / "sums"
    told(capsys, "manifest", "export", "--format=xxhsum", "--read", "-o", sums, place / "dst")
    command = ["xxhsum", "-c", str(sums)]
    checked = subprocess.run(command, cwd=place / "dst", capture_output=True, check=False)
    assert checked.returncode == 0
    assert checked.stdout.count(b": OK") == FILES


def test_show_and_stat_and_status(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The three agree with what the runs did."""
    shown = told(capsys, "manifest", "show", place / "dst", "a").splitlines()
    assert [line.split()[-1] for line in shown] == [".", "deep", "one"]
    assert xxhash.xxh3_128_hexdigest(b"1")[:8] in shown[-1]
    found = json.loads(told(capsys, "manifest", "stat", "--json", place / "dst"))
    entries = sum(1 for _ in (place / "dst").rglob("*"))
    directories = 1 + sum(path.is_dir() for path in (place / "dst").rglob("*"))
    # a directory stands in its own page and, but for the root, in that above
    assert found["rows"] == 2 * (entries + directories)
    status = json.loads(told(capsys, "status", "--json", place / "dst"))
    (store,) = status["stores"]
    assert [one["exit"] for one in store["runs"]] == [0, 0]
    assert {one["sources"][0] for one in store["runs"]} == {f"{place}/src/"}
    assert sorted(one["files"] for one in store["runs"]) == [0, FILES - 1]


def test_hashes_come_back_after_the_manifest_was_lost(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The next run adopts what is there; import then saves -c the reading of the destination."""
    saved = place / "saved"
    told(capsys, "manifest", "export", "-o", saved, place / "dst")
    shutil.rmtree(place / "state")
    assert sync(place, "-i") == b""
    assert not any("xxh128" in line for line in exported(place, capsys))
    said = told(capsys, "manifest", "import", saved, place / "dst")
    assert said == f"imported the hashes of {FILES - 1:,} files\n"
    assert sum("xxh128" in line for line in exported(place, capsys)) == FILES - 1
    assert sync(place, "-c", "-i") == b""
    assert checked(place).report.counts.checked_files == 0


def checked(place: Path) -> Ran:
    """Run with -c."""
    ran = run_sync(place / "src", place / "dst", checksum=True)
    assert (ran.code, ran.changes) == (0, {})
    return ran


def test_gc_after_the_destination_was_deleted(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A manifest goes with its destination, and not before."""
    assert "has lost its destination" in told(capsys, "manifest", "gc", "--yes")
    shutil.rmtree(place / "dst")
    assert "removed '" in told(capsys, "manifest", "gc", "--yes")
    assert os.listdir(place / "state") == []
