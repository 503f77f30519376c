"""`arsync manifest show`, `export` and `stat`: what is recorded, as people and programs read it."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import xxhash

from arsync.cli.run import run
from arsync.manifest.format import Page, Place, RowState
from arsync.manifest.store import Group, Store
from tests.kit.filesystems import filesystem
from tests.kit.recorded import VERIFIED, record, run_of
from tests.requirements import need_command, need_filesystem, need_root

BIG = Random(4).randbytes(9 << 20)


def state_of(path: bytes) -> int:
    """Return the states of the files of `fill`."""
    marks = {b"racy": RowState.RACY, b"dirty": RowState.DIRTY}
    return 0 if path == b"bare" else int(RowState.HASHED | marks.get(path, 0))


def fill(dst: Path) -> None:
    """Make a tree with what can be in one."""
    (dst / "sub" / "deep").mkdir(parents=True)
    (dst / "empty").mkdir()
    for name in (
        "plain",
        "racy",
        "dirty",
        "bare",
        "sub/back\\slash",
        "sub/sp ace#=*",
        "sub/deep/d",
    ):
        (dst / name).write_text(name)
    (dst / "sub" / "new\nline").write_text("n")
    Path(os.fsdecode(bytes(dst) + b"/sub/\xff\xfe")).write_text("not UTF-8")
    (dst / "big").write_bytes(BIG)
    (dst / "link").symlink_to("plain sub")
    os.mkfifo(dst / "pipe")
    os.link(dst / "plain", dst / "plain too")
    os.utime(dst / "plain", ns=(5, 1_600_000_000_000_000_007))


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Lend a state directory that the environment names, and UTC."""
    monkeypatch.setenv("ARSYNC_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield tmp_path / "state"
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def dst(tmp_path: Path, state: Path) -> Path:
    """Return a recorded destination."""
    dst = tmp_path / "dst"
    fill(dst)
    record(dst, state, state_of, sources=("/src",), runs=({"exit": 0, "end": VERIFIED},))
    return dst


def arsync(*words: object, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[bytes]:
    """Run the program in a process of its own, where names need not be text."""
    command = [sys.executable, "-m", "arsync", *(os.fsencode(str(word)) for word in words)]
    pipe = subprocess.PIPE
    return subprocess.run(command, stdout=stdout, stderr=pipe, check=False)


def told(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> tuple[str, str]:
    """Run the program here; return what it says on both outputs."""
    assert run([str(word) for word in words]) == code
    return capsys.readouterr()


# -------------------------------------------------------------------------------- show


def test_show_lists_as_ls_does(dst: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The columns of ls -l, in the order of the names' bytes, and what is known of the content."""
    out, err = told(capsys, "manifest", "show", dst)
    assert err == ""
    environment = {**os.environ, "LC_ALL": "C"}
    command = ["ls", "-la", "--time-style=+%Y-%m-%d %H:%M", str(dst)]
    listed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    expected = [line.split() for line in listed.stdout.splitlines()[1:] if not line.endswith("..")]
    shown = [line.split() for line in out.splitlines()]
    assert [words[:7] + words[10:] for words in shown] == expected
    known = {" ".join(words[10:]): words[7:10] for words in shown}
    digest = xxhash.xxh3_128_hexdigest(b"plain")[:8]
    assert known["plain"] == ["h-----", "2023-11-14", digest]
    assert {name: known[name][0] for name in ("plain", "racy", "dirty", "bare", "big")} == {
        "plain": "h-----",
        "racy": "hr----",
        "dirty": "h-d---",
        "bare": "------",
        "big": "h----c",
    }
    assert known["."] == known["bare"] == ["------", "-", "-"]


def test_a_destination_of_named_directories(
    dst: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`arsync SRC DST` records SRC's copy in DST: it is shown as ls does, and exported."""
    os.chmod(dst / "sub", 0o750)
    assert run(["-q", str(dst), str(tmp_path / "whole")]) == 0
    out, _ = told(capsys, "manifest", "show", tmp_path / "whole")
    (line,) = out.splitlines()
    info = os.stat(tmp_path / "whole/dst")
    words = line.split()
    assert (words[0], words[1], words[-1]) == ("drwxr-xr-x", str(info.st_nlink), "dst")
    out, _ = told(capsys, "manifest", "export", "--format=mtree", tmp_path / "whole")
    found = re.findall(r"^(\S+) type=dir mode=(\d+) .* time=(\d+)\.", out, re.MULTILINE)
    paths = ["dst", "dst/empty", "dst/sub", "dst/sub/deep"]
    assert found == [(f"./{path}", *of_directory(tmp_path / "whole" / path)) for path in paths]


def of_directory(path: Path) -> tuple[str, str]:
    """Return the mode and the second of the mtime, as mtree has them."""
    info = path.stat()
    return f"{info.st_mode & 0o7777:04o}", str(int(info.st_mtime))


def test_names_cannot_reach_the_terminal(dst: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line break and bytes that are not UTF-8 are escaped."""
    out, _ = told(capsys, "manifest", "show", dst, "sub/")
    assert len(out.splitlines()) == 6
    assert "new\\#012line\n" in out
    assert "\\#377\\#376\n" in out


def test_show_of_a_file_is_everything(dst: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its hash in full, all its times, and of how many chunks the hash is."""
    out, _ = told(capsys, "manifest", "show", dst, "plain")
    assert out.startswith("plain\n  type          file, 2 links, inode ")
    assert "2020-09-13 12:26:40.000000007" in out
    assert xxhash.xxh3_128_hexdigest(b"plain") in out
    assert "of the hashes" not in out
    out, _ = told(capsys, "manifest", "show", dst, "big")
    assert "of the hashes of 3 chunks" in out.replace("\n                ", " ")
    out, _ = told(capsys, "manifest", "show", dst, "bare")
    assert "not hashed" in out
    assert "xxh128" not in out
    out, _ = told(capsys, "manifest", "show", dst, "link")
    assert "  target        plain sub\n" in out


def test_years_that_libc_does_not_know(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A time far off is shown as seconds."""
    dst = tmp_path / "far"
    dst.mkdir()
    (dst / "f").touch()
    os.utime(dst / "f", ns=(0, 2**62))
    store = record(dst, state)
    change_root(store, mtime_s=(2**62, 2**62))
    out, _ = told(capsys, "manifest", "show", dst, "f")
    assert f"@{2**62}." in out
    assert f" @{2**62} " in told(capsys, "manifest", "show", dst)[0]


def change_root(store: Path, **columns: tuple[int, ...]) -> None:
    """Change what is recorded of a root directory of one page."""
    with Store(store, b"/backup") as opened:
        ((data,),) = opened.pages_of(0, [1])
        page = Page.decode(data, Place(0, 1))
        page.seen.update(columns)
        opened.commit(Group(pages=[(0, 1, [(b"", page.encode(Place(0, 1)))])]))


def test_devices_digests_and_what_could_not_be_read(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each form says what it can of them."""
    dst = tmp_path / "odd"
    dst.mkdir()
    for name in ("device", "lost"):
        (dst / name).touch()
    columns = {"type": (4, 2, 0), "rdev_major": (0, 5, 0), "rdev_minor": (0, 1, 0)}
    digests = {"xattr_digest": (0, 7, 0), "acl_digest": (0, 8, 0)}
    change_root(record(dst, state, lambda _path: 0), **columns, **digests, flags=(0, 1, 4))
    out, _ = told(capsys, "manifest", "show", dst)
    assert re.search(r"^crw-r--r-- +1 \w+ \w+ +5, 1 .* device$", out, re.MULTILINE)
    assert re.search(r"^\?rw-r--r-- .* lost$", out, re.MULTILINE)
    out, _ = told(capsys, "manifest", "show", dst, "device")
    assert "  device        5, 1\n" in out
    assert "  digests       xattr 0000000000000007, acl 0000000000000008\n" in out
    assert "could not be read" in told(capsys, "manifest", "show", dst, "lost")[0]
    _, device, lost = map(json.loads, told(capsys, "manifest", "export", dst)[0].splitlines())
    assert (device["type"], device["device"], device["flags"]) == (
        "character_device",
        [5, 1],
        ["mount"],
    )
    assert (device["xattr_digest"], device["acl_digest"]) == ("0" * 15 + "7", "0" * 15 + "8")
    assert (lost["type"], lost["flags"]) == ("unknown", ["bad"])
    out, _ = told(capsys, "manifest", "export", dst, "--format=mtree")
    assert "./device type=char mode=0644 " in out
    assert " device=linux,5,1 time=" in out
    assert "# ./lost could not be read\n" in out


def test_a_directory_of_several_pages(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All its entries are listed once, and each is found by its name."""
    dst = tmp_path / "wide"
    dst.mkdir()
    names = [f"{number:05}" for number in range(2500)]
    for name in names:
        (dst / name).touch()
    record(dst, state)
    out, _ = told(capsys, "manifest", "show", dst)
    assert [line.split()[-1] for line in out.splitlines()] == [".", *names]
    for name in (names[0], names[1023], names[1024], names[-1]):
        assert told(capsys, "manifest", "show", dst, name)[0].startswith(f"{name}\n")
    out, _ = told(capsys, "manifest", "export", dst)
    assert [json.loads(line)["path"] for line in out.splitlines()] == [".", *names]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["show", "DST", "nix"], 3, "nothing is recorded of 'nix'"),
        (["show", "DST", "plain/x"], 3, "nothing is recorded of 'plain/x'"),
        (["show", "DST", "sub/../../x"], 3, "'sub/../../x' does not lie below DST"),
        (["show", "DST", "/etc"], 3, "'/etc' does not lie below DST"),
        (["show", "DST", "--tree=9"], 3, "nothing is recorded of '.'"),
        (["show", "DST/plain"], 3, "is no directory (name DST, then PATH"),
        (["show", ""], 1, "an operand is empty"),
        (["show", "/usr"], 3, "there is no manifest of '/usr' in '"),
        (["show", "/no/such"], 3, "there is no manifest of '/no/such' in '"),
        (["stat", "DST", "--state-dir=/no/such"], 3, "'/no/such': there is no such directory"),
        (["export", "DST", "--read"], 1, "--read is for --format xxhsum only"),
        (["export", "DST", "--format=xxhsum", "--read", "--tree=1"], 1, "which is --tree 0"),
        (["export", "DST", "--format=tar"], 1, "'tar' is not one of"),
        (["export", "DST", "-o", "/no/such/file"], 11, "cannot write '/no/such/file': No such"),
        (["export"], 1, "missing argument"),
        (["bogus"], 1, "no such command 'bogus'"),
        ([], 1, "missing command"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    words: list[str], code: int, message: str, dst: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is rsync's, nothing is printed, and no directory is made."""
    words = [word.replace("DST", str(dst)) if word.startswith("DST") else word for word in words]
    out, err = told(capsys, "manifest", *words, code=code)
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert not Path("/no/such").exists()


# ----------------------------------------------------------------------- which store


def test_a_store_is_found_by_several_names(
    dst: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The destination, a directory below it, the store itself, and where it was once."""
    (store,) = state.iterdir()
    whole = told(capsys, "manifest", "show", dst, "sub/deep")
    assert "d\n" in whole[0]
    for words in ([dst / "sub", "deep"], [dst / "sub" / "deep"], [store, "sub/deep"]):
        assert told(capsys, "manifest", "show", *words) == whole
    option = f"--state-dir={state}"
    os.environ["ARSYNC_STATE_DIR"] = "/no/such"
    assert told(capsys, "manifest", "show", option, dst, "sub/deep") == whole
    dst.rename(dst.with_name("elsewhere"))
    assert told(capsys, "manifest", "show", option, dst / "sub", "deep") == whole
    assert told(capsys, "manifest", "show", option, dst.with_name("elsewhere"), "sub/deep") == whole
    dst.mkdir()
    _, err = told(capsys, "manifest", "show", option, dst, code=3)
    assert f"that of another directory, last seen there, is '{store}'" in err


def test_two_stores_of_one_place_are_not_chosen_between(
    dst: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A path that two destinations had is said with both stores."""
    shutil.rmtree(dst)
    dst.mkdir()
    (dst / "f").touch()
    record(dst, state)
    shutil.rmtree(dst)
    _, err = told(capsys, "manifest", "show", dst, code=3)
    assert all(f"'{store}'" in err for store in state.iterdir())


def test_a_run_is_not_waited_for(
    dst: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it has recorded is shown, and who it is is said."""
    (store,) = state.iterdir()
    alone = {words: told(capsys, "manifest", words, dst)[0] for words in ("show", "export", "stat")}
    with run_of(store) as other:
        for word in ("show", "export"):
            out, err = told(capsys, "manifest", word, dst)
            assert out == alone[word]
            assert f"process {other.pid} on " in err
        out, _ = told(capsys, "manifest", "stat", dst)
        assert f"  running       process {other.pid} on " in out
        assert json.loads(told(capsys, "manifest", "stat", dst, "--json")[0])["held"]


def test_a_damaged_store_is_exit_42(
    dst: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A truncated one is said as such, whatever is asked."""
    (store,) = state.iterdir()
    os.truncate(store / "data.mdb", 4096)
    for word in ("show", "export", "stat"):
        out, err = told(capsys, "manifest", word, dst, code=42)
        assert out == ""
        assert "arsync: cannot read the manifest: " in err


# ------------------------------------------------------------------------------ jsonl


def objects(text: bytes) -> dict[bytes, dict[str, object]]:
    """Return exported objects by their paths."""
    found = {}
    for line in text.splitlines():
        one = json.loads(line)
        path = base64.b64decode(one["path_b64"]) if "path_b64" in one else one["path"].encode()
        assert path not in found
        found[path] = one
    return found


def test_jsonl_has_every_entry_once_with_every_field(dst: Path) -> None:
    """What lstat says of each, its hash, and the bytes of a name that is no text."""
    done = arsync("manifest", "export", dst)
    assert (done.returncode, done.stderr) == (0, b"")
    found = objects(done.stdout)
    paths = {os.fsencode(path.relative_to(dst)) for path in dst.rglob("*")}
    assert set(found) == {b".", *paths}
    for path, one in found.items():
        seen = os.lstat(os.path.join(bytes(dst), path))
        assert one["mode"] == f"{seen.st_mode & 0o7777:04o}"
        assert (one["uid"], one["gid"], one["nlink"]) == (seen.st_uid, seen.st_gid, seen.st_nlink)
        assert (one["size"], one["ino"]) == (seen.st_size, seen.st_ino)
        assert (one["mtime_ns"], one["ctime_ns"]) == (seen.st_mtime_ns, seen.st_ctime_ns)
    assert found[b"link"]["link"] == "plain sub"
    assert found[b"pipe"]["type"] == "fifo"
    assert found[b"plain"]["xxh128"] == xxhash.xxh3_128_hexdigest(b"plain")
    assert found[b"plain"]["verified_s"] == VERIFIED + 5
    assert found[b"bare"]["state"] == []
    assert "xxh128" not in found[b"bare"]
    assert found[b"dirty"]["state"] == ["hashed", "dirty"]
    starts = range(0, len(BIG), 4 << 20)
    chunks = [xxhash.xxh3_128_hexdigest(BIG[at : at + (4 << 20)]) for at in starts]
    assert found[b"big"]["chunks"] == chunks
    listed = bytes.fromhex("".join(chunks))
    assert found[b"big"]["xxh128"] == xxhash.xxh3_128_hexdigest(listed)


def test_a_part_is_exported_as_seen_from_there(dst: Path) -> None:
    """Names are those below the directory that was asked for; trees of sources have numbers."""
    found = objects(arsync("manifest", "export", dst / "sub").stdout)
    assert set(found) == {b".", b"back\\slash", b"sp ace#=*", b"new\nline", b"\xff\xfe"} | {
        b"deep",
        b"deep/d",
    }
    found = objects(arsync("manifest", "export", dst / "sub", "--tree", 1).stdout)
    assert {one["tree"] for one in found.values()} == {1}
    shown = arsync("manifest", "show", dst, "sub", "--json").stdout
    assert set(objects(shown)) == {b"sub", b"sub/deep"} | {
        b"sub/" + name for name in (b"back\\slash", b"sp ace#=*", b"new\nline", b"\xff\xfe")
    }


# ------------------------------------------------------------------------------ mtree


def test_mtree_is_what_bsdtar_reads(dst: Path, tmp_path: Path) -> None:
    """The library of bsdtar lists the same entries, whatever their names."""
    need_command("bsdtar")
    done = arsync("manifest", "export", dst, "--format=mtree", "-o", tmp_path / "spec")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    command = ["bsdtar", "--numeric-owner", "-tvf", str(tmp_path / "spec")]
    listed = subprocess.run(command, capture_output=True, check=True)
    assert listed.stderr == b""
    seen = {line.split(None, 8)[8]: line.split()[:5] for line in listed.stdout.splitlines()}
    assert seen[b"./sub/new\\nline"][0] == b"-rw-r--r--"
    assert seen[b"./sub/sp ace#=*"][4] == b"13"
    assert seen[b"./link -> plain sub"][0] == b"lrwxrwxrwx"
    assert len(seen) == 1 + len(list(dst.rglob("*")))


def test_mtree_is_what_the_tree_is(dst: Path, tmp_path: Path) -> None:
    """NetBSD's mtree finds no difference, and then the one that there is."""
    need_command("mtree")
    spec = tmp_path / "spec"
    assert arsync("manifest", "export", dst, "--format=mtree", "-o", spec).returncode == 0
    command = ["mtree", "-f", str(spec), "-p", str(dst)]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b""
    (dst / "sub" / "sp ace#=*").chmod(0o600)
    assert subprocess.run(command, capture_output=True, check=False).returncode == 2


def test_mtree_keeps_hashes_as_comments(dst: Path) -> None:
    """A comment stands before its line; a hash of chunk hashes or a doubtful one is none."""
    text = arsync("manifest", "export", dst, "--format=mtree").stdout.decode()
    lines = text.splitlines()
    assert lines[0] == "#mtree"
    digest = xxhash.xxh3_128_hexdigest(b"plain")
    before = lines[lines.index(f"# xxh128={digest}") + 1]
    assert re.fullmatch(
        r"\./plain type=file mode=0644 uid=\d+ gid=\d+ nlink=2 size=5 time=1600000000.000000007",
        before,
    )
    assert any(r"./sub/sp\040ace\043\075\052 type=file" in line for line in lines)
    entry = {
        name: next(line for line in lines if line.startswith(f"./{name} "))
        for name in ("big", "dirty")
    }
    assert not any(lines[lines.index(line) - 1].startswith("# xxh") for line in entry.values())


# ------------------------------------------------------------------------------- sums


def sums_of(dst: Path, *paths: str) -> set[bytes]:
    """Return the lines that a sum file has for some files."""
    return {
        xxhash.xxh3_128_hexdigest((dst / path).read_bytes()).encode() + b"  " + os.fsencode(path)
        for path in paths
    }


def test_a_sum_file_is_what_xxhsum_checks(dst: Path, tmp_path: Path) -> None:
    """Every hash that is the content's is in it; what is left out is named or counted."""
    done = arsync("manifest", "export", dst, "--format=xxhsum", "-o", tmp_path / "sums")
    assert done.returncode == 0
    lines = (tmp_path / "sums").read_bytes().splitlines()
    plain = ("plain", "plain too", "racy", "sub/back\\slash", "sub/sp ace#=*", "sub/deep/d")
    odd = {
        xxhash.xxh3_128_hexdigest(b"not UTF-8").encode() + b"  sub/\xff\xfe",
        b"\\" + xxhash.xxh3_128_hexdigest(b"n").encode() + b"  sub/new\\nline",
    }
    assert set(lines) == sums_of(dst, *plain) | odd
    assert done.stderr.decode().splitlines() == [
        "arsync: left out 'big': of a file above 4 MiB the hash of its chunks' hashes is recorded "
        "(--read reads it again)",
        "arsync: left out 1 file above 4 MiB (--read reads them again)",
        "arsync: left out 2 files without a hash (--read reads them)",
    ]
    need_command("xxhsum")
    checked = subprocess.run(["xxhsum", "-c", tmp_path / "sums"], cwd=dst, capture_output=True)
    assert checked.returncode == 0
    assert checked.stdout.count(b": OK") >= 7
    (dst / "racy").write_text("rotten")
    checked = subprocess.run(["xxhsum", "-c", tmp_path / "sums"], cwd=dst, capture_output=True)
    assert checked.returncode == 1


def test_read_reads_what_has_no_sum_of_its_own(dst: Path) -> None:
    """Also below DST: sums of big files and of files that nobody has hashed."""
    done = arsync("manifest", "export", dst, "--format=xxhsum", "--read")
    assert (done.returncode, done.stderr) == (0, b"")
    assert sums_of(dst, "big", "bare", "dirty", "plain") < set(done.stdout.splitlines())
    done = arsync("manifest", "export", dst / "sub", "--format=xxhsum", "--read")
    assert sums_of(dst / "sub", "deep/d") < set(done.stdout.splitlines())


def test_read_blesses_nothing(dst: Path) -> None:
    """What has changed, what is rotten and what is gone is left out and said: exit code 23."""
    seen = os.stat(dst / "big")
    with (dst / "big").open("r+b") as file:
        file.seek(5 << 20)
        file.write(b"rotten")
    os.utime(dst / "big", ns=(seen.st_atime_ns, seen.st_mtime_ns))
    (dst / "bare").unlink()
    os.mkfifo(dst / "bare")
    (dst / "dirty").unlink()
    done = arsync("manifest", "export", dst, "--format=xxhsum", "--read")
    assert done.returncode == 23
    assert done.stderr.decode().splitlines() == [
        "arsync: left out 'bare': it has changed since it was recorded",
        "arsync: left out 'big': its content is not what is recorded, though nothing says it "
        "changed",
        "arsync: cannot read 'dirty': No such file or directory",
        "arsync: left out 3 files that could not be read or have changed",
    ]
    assert b"big" not in done.stdout
    dst.rename(dst.with_name("away"))
    done = arsync("manifest", "export", dst, "--format=xxhsum", "--read")
    assert done.returncode == 3
    assert b"is not there to be read" in done.stderr


# ------------------------------------------------------------------------- where it goes


def test_output_that_nobody_takes(dst: Path) -> None:
    """A reader that goes away is no trouble worth a word, a full device is: both exit 11."""
    for form in ("jsonl", "mtree", "xxhsum"):
        words = ("manifest", "export", dst, f"--format={form}")
        read_fd, write_fd = os.pipe()
        os.close(read_fd)
        done = arsync(*words, stdout=write_fd)
        os.close(write_fd)
        assert done.returncode == 11
        assert b"standard output" not in done.stderr
        full_fd = os.open("/dev/full", os.O_WRONLY)
        done = arsync(*words, stdout=full_fd)
        os.close(full_fd)
        assert done.returncode == 11
        message = b"arsync: cannot write to standard output: No space left on device\n"
        assert done.stderr.endswith(message)


def test_a_full_disk_leaves_the_old_file(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file of -o is whole or what it was, and nothing else is left."""
    need_filesystem("tmpfs")
    dst = tmp_path / "wide"
    dst.mkdir()
    for number in range(600):
        (dst / f"{number:05}{'x' * 200}").touch()
    record(dst, state)
    with filesystem("tmpfs", size_bytes=64 << 10) as mount:
        output = mount.path / "out"
        output.write_text("old")
        _, err = told(capsys, "manifest", "export", dst, "-o", output, code=11)
        assert err == f"arsync: cannot write '{output}': No space left on device\n"
        assert output.read_text() == "old"
        assert os.listdir(mount.path) == ["out"]


def test_output_to_a_file(dst: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file is replaced, through a symlink too; a device is written; `-` is standard output."""
    on_screen, _ = told(capsys, "manifest", "export", dst / "sub" / "deep")
    assert on_screen.count("\n") == 2
    output, link = tmp_path / "out", tmp_path / "link"
    output.write_text("x" * 100_000)
    link.symlink_to("out")
    for target in (output, link):
        assert told(capsys, "manifest", "export", dst / "sub" / "deep", "-o", target) == ("", "")
        assert output.read_text() == on_screen
        assert link.is_symlink()
    assert told(capsys, "manifest", "export", dst / "sub" / "deep", "-o", "-")[0] == on_screen
    assert told(capsys, "manifest", "export", dst, "-o", "/dev/null") == ("", "")
    assert Path("/dev/null").is_char_device()


# ------------------------------------------------------------------------------- stat


def test_stat_counts_rows_and_bytes(dst: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two rows a file with a source, bytes a row, directories, the hashed share."""
    out, _ = told(capsys, "manifest", "stat", dst, "--json")
    found = json.loads(out)
    entries = 1 + len(list(dst.rglob("*")))
    rows = entries + 3  # each directory but the root has a row in its own page, too
    assert [tree["rows"] for tree in found["trees"]] == [rows, rows]
    assert [tree["directories"] for tree in found["trees"]] == [4, 4]
    assert [tree["converged"] for tree in found["trees"]] == [0, 3]
    assert found["trees"][1]["identity"]["path"] == "/src"
    assert found["rows"] == 2 * rows
    (store,) = (dst.parent / "state").iterdir()
    assert found["file_bytes"] == (store / "data.mdb").stat().st_size
    content = found["content"]
    assert (content["files"], content["hashed_files"]) == (11, 9)
    assert content["hashed_bytes"] == content["bytes"] - len("bare") - len("dirty")
    assert content["marks"] == {"racy": 1, "dirty": 1}
    assert content["oldest"] == {"verified_s": VERIFIED + 1, "path": "sub/deep/d"}
    assert content["newest"] == {"verified_s": VERIFIED + 10, "path": "sub/back\\slash"}
    text, _ = told(capsys, "manifest", "stat", dst)
    assert max(len(line) for line in text.splitlines() if str(dst.parent) not in line) <= 80
    assert "9 of 11 files (81.8%)" in text
    assert "1 dirty, 1 racy" in text


def test_an_unreadable_store_is_said(
    dst: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another user's store is no damage: exit code 11."""
    need_root()
    (store,) = state.iterdir()
    (store / "lock").unlink()
    (store / "lock").symlink_to("elsewhere")
    _, err = told(capsys, "manifest", "stat", dst, code=11)
    assert f"cannot open '{store}/lock'" in err
