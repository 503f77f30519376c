"""`arsync manifest import`: exported hashes come back where the stat still supports them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from arsync.cli.run import run
from arsync.manifest.format import RowState
from arsync.manifest.store import Store
from tests.kit.recorded import hashed, record

Line = dict[str, Any]


@pytest.fixture
def dst(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a tree, and let the environment name a state directory."""
    monkeypatch.setenv("ARSYNC_STATE_DIR", str(tmp_path / "state"))
    dst = tmp_path / "dst"
    (dst / "sub" / "deep").mkdir(parents=True)
    for name in ("a", "b", "c", "d", "sub/x", "sub/deep/y"):
        (dst / name).write_text(name)
    (dst / "big").write_bytes(Random(4).randbytes(5 << 20))
    Path(os.fsdecode(bytes(dst) + b"/sub/\xff")).write_text("not UTF-8")
    return dst


def bare(_path: bytes) -> int:
    """Say that no file is hashed."""
    return 0


def exported(dst: Path, *words: str) -> list[Line]:
    """Return what is exported of a destination, without the atime, which recording moves."""
    output = Path(os.environ["ARSYNC_STATE_DIR"]).with_name("exported")
    assert run(["manifest", "export", str(dst), "-o", str(output), *words]) == 0
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "atime_ns"} for line in lines]


def put_back(
    lines: list[Line], dst: Path, capsys: pytest.CaptureFixture[str], code: int = 0
) -> str:
    """Import lines; return what is said."""
    source = Path(os.environ["ARSYNC_STATE_DIR"]).with_name("lines")
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run(["manifest", "import", str(source), str(dst)]) == code
    out, err = capsys.readouterr()
    return err if code else out


def again(dst: Path, state_of: Callable[[bytes], int] = bare) -> None:
    """Record a destination anew, as if what was known had been lost."""
    state = dst.with_name("state")
    for store in state.iterdir():
        for file in store.iterdir():
            file.unlink()
        store.rmdir()
    record(dst, state, state_of)


def test_hashes_come_back(dst: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was exported, chunk hashes too, is what is exported again."""
    record(dst, dst.with_name("state"))
    before = exported(dst)
    again(dst)
    assert all("xxh128" not in line for line in exported(dst))
    assert put_back(before, dst, capsys) == "imported the hashes of 8 files\n"
    assert exported(dst) == before
    assert put_back(before, dst, capsys) == (
        "imported the hashes of 0 files\n  8 had one, or are in doubt\n"
    )
    assert exported(dst) == before


def test_a_part_comes_back_where_it_belongs(dst: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Paths of an export of a subdirectory are those below it; the order of lines is free."""
    record(dst, dst.with_name("state"))
    whole, part = exported(dst), exported(dst / "sub")
    again(dst)
    assert put_back(part[::-1], dst / "sub", capsys) == "imported the hashes of 3 files\n"
    assert {line["path"] for line in exported(dst) if "xxh128" in line} == {
        "sub/x",
        "sub/deep/y",
        "sub/\ufffd",
    }
    again(dst)
    mixed = whole[::2] + whole[1::2]
    assert put_back(mixed, dst, capsys) == "imported the hashes of 8 files\n"
    assert exported(dst) == whole


def test_a_hash_needs_the_stat_that_it_had(dst: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Type, size, mtime and inode have to be the same; a ctime that moved makes the row racy."""
    record(dst, dst.with_name("state"))
    before = exported(dst)
    (dst / "a").write_text("longer")
    os.utime(dst / "b", ns=(0, 7))
    times = os.stat(dst / "c")
    (dst / "new").write_text("c")
    os.utime(dst / "new", ns=(times.st_atime_ns, times.st_mtime_ns))
    (dst / "new").rename(dst / "c")
    (dst / "d").chmod(0o600)
    (dst / "sub" / "x").unlink()
    (dst / "sub" / "x").mkdir()
    (dst / "sub" / "deep" / "y").unlink()
    again(dst)
    assert put_back(before, dst, capsys) == (
        "imported the hashes of 3 files\n  4 are not what they were\n  1 are not recorded\n"
    )
    found = {line["path"]: line["state"] for line in exported(dst) if line["state"]}
    assert found == {
        "big": ["hashed", "chunked"],
        "d": ["hashed", "racy"],
        "sub/\ufffd": ["hashed"],
    }


def test_what_is_known_or_in_doubt_stays(dst: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A hash that is there is newer; a dirty or unstable file gets none, nor does one give any."""
    marks = {b"a": int(RowState.DIRTY), b"b": int(RowState.UNSTABLE), b"c": 1}
    record(dst, dst.with_name("state"), lambda path: marks.get(path, 1))
    before = exported(dst)
    sources = {line["path"]: line for line in before}
    sources["c"]["xxh128"] = "ab" * 16
    again(dst, lambda path: {b"d": int(RowState.DIRTY)}.get(path, 0) if path != b"c" else 1)
    kept = next(line for line in exported(dst) if line["path"] == "c")
    sources["d"]["state"], sources["sub/x"]["state"] = ["hashed"], ["hashed", "dirty"]
    put_back(before, dst, capsys)
    after = {line["path"]: line for line in exported(dst)}
    assert after["c"] == kept
    assert [after[name]["state"] for name in ("a", "b", "d", "sub/x")] == [[], [], ["dirty"], []]


@pytest.mark.parametrize(
    "spoil",
    [
        {"tree": 1},
        {"path": 7, "path_b64": "%%"},
        {"size": "1"},
        {"size": True},
        {"xxh128": "abc"},
        {"xxh128": "ab" * 15},
        {"xxh128": None},
        {"verified_s": 2**63},
        {"verified_s": -1},
        {"chunks": ["ab" * 16]},
        {"chunks": ["ab" * 16], "state": ["hashed", "chunked"]},
        {"state": ["hashed", "chunked"]},
        {"state": ["blessed"]},
        {"state": 1},
        {"state": None},
    ],
)
def test_a_line_that_export_did_not_write(
    spoil: Line, dst: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said which one: exit code 11; directories before its own count, the store is well."""
    record(dst, dst.with_name("state"))
    before = exported(dst)
    again(dst)
    lines = {line["path"]: line for line in before}
    given = [lines["sub/deep/y"], lines["b"], {**lines["a"], **spoil}, lines["sub/x"]]
    said = put_back(given, dst, capsys, code=11)
    assert said == "arsync: cannot import line 3: export did not write it\n"
    found = {one["path"] for one in exported(dst) if "xxh128" in one}
    assert found == {"sub/deep/y"}
    (store,) = dst.with_name("state").iterdir()
    assert (store / "lock").read_text() == ""


@pytest.mark.parametrize("text", ["", "{}", "[]", "7", "null", "\x00", "[" * 100_000, '{"tree":0}'])
def test_text_that_is_no_export(text: str, dst: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only nothing at all is fine."""
    record(dst, dst.with_name("state"))
    source = dst.with_name("lines")
    source.write_text(text)
    assert run(["manifest", "import", str(source), str(dst)]) == (11 if text else 0)
    assert ("cannot import line 1" in capsys.readouterr().err) == bool(text)


def test_import_needs_a_store_a_file_and_the_lock(
    dst: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit codes 3, 11 and 41; a pipe will do for a file."""
    state = dst.with_name("state")
    assert run(["manifest", "import", "/dev/null", str(dst)]) == 3
    store = record(dst, state)
    before = exported(dst)
    assert run(["manifest", "import", "/no/such", str(dst)]) == 11
    assert "cannot read '/no/such': No such file" in capsys.readouterr().err
    assert run(["manifest", "import", str(state), str(dst)]) == 11
    assert f"cannot read '{state}': Is a directory" in capsys.readouterr().err
    again(dst)
    (store,) = state.iterdir()
    text = "".join(json.dumps(line) + "\n" for line in before).encode()
    command = [sys.executable, "-m", "arsync", "manifest", "import", "-", str(dst)]
    with Store(store, bytes(dst)):
        done = subprocess.run(command, input=text, capture_output=True, check=False)
        assert done.returncode == 41
        assert b"has held it since" in done.stderr
    done = subprocess.run(command, input=text, capture_output=True, check=True)
    assert done.stdout == b"imported the hashes of 8 files\n"
    assert exported(dst) == before


def test_a_wide_directory_comes_back(dst: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All pages of a directory get what is theirs, those without a new hash stay."""
    (dst / "wide").mkdir()
    for number in range(2500):
        (dst / "wide" / f"{number:05}").touch()
    record(dst, dst.with_name("state"))
    before = exported(dst)
    again(dst, lambda path: hashed(path) * (path < b"wide/01500"))
    put_back(before, dst, capsys)
    assert exported(dst) == before
