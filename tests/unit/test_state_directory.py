"""A state directory inside SRC or DST: it is part of neither tree, whatever the options are."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from arsync.errors import FileError
from tests.kit import File, Tree, make
from tests.kit.children import NOBODY
from tests.kit.programs import run_arsync
from tests.requirements import need_root, need_unprivileged

TREE = {"f": File(b"f"), "sub": {"g": File(b"g")}}
NAMES = {"f", "sub", "sub/g"}


def names_in(place: Path, but: str = "") -> set[str]:
    """Return the paths below a directory, but for those at and below one."""
    found = {str(path.relative_to(place)) for path in place.rglob("*")}
    return {path for path in found if not (but and f"{path}/".startswith(f"{but}/"))}


def places(tmp_path: Path) -> tuple[Path, Path]:
    """Make a source, and a destination with an extra."""
    make(Tree(TREE), tmp_path / "src")
    make(Tree({"extra": {"x": File(b"x")}}), tmp_path / "dst")
    return tmp_path / "src", tmp_path / "dst"


def sync(src: object, dst: object, *options: str, code: int = 0) -> bytes:
    """Run the program; return what it says."""
    done = run_arsync(["-ai", *options, f"{src}", f"{dst}"])
    assert done.code == code, done.stderr
    return done.stdout + done.stderr


def inodes(state: Path) -> dict[str, int]:
    """Return the inodes of what is in a state directory."""
    return {str(path): path.stat().st_ino for path in state.rglob("*") if path.suffix != ".json"}


DELETIONS = [
    ["--delete"],
    ["--delete-before"],
    ["--delete-during"],
    ["--delete-excluded", "--exclude=/state"],
    ["--delete", "--force", "--ignore-errors"],
    ["--delete", "--max-delete=100"],
    ["--delete", "--no-manifest"],
]


@pytest.mark.parametrize("where", ["state", "sub/state", "extra/state"])
@pytest.mark.parametrize("options", DELETIONS, ids=" ".join)
def test_below_the_destination_it_stays(where: str, options: list[str], tmp_path: Path) -> None:
    """Neither it nor what it holds is deleted, nor the directories above it."""
    src, dst = places(tmp_path)
    (dst / "sub").mkdir()
    state = dst / where
    sync(f"{src}/", dst, f"--state-dir={state}")
    before = inodes(state)
    assert before
    said = sync(f"{src}/", dst, f"--state-dir={state}", *options)
    assert inodes(state) == before
    assert b"*deleting   extra/x\n" in said
    above = {str(path) for path in Path(where).parents} - {"."}
    assert names_in(dst, where) == NAMES | above
    again = sync(f"{src}/", dst, f"--state-dir={state}", *options)
    assert again.endswith(b"'extra': Directory not empty\n") if "extra" in above else not again


def test_an_entry_of_its_name_does_not_reach_it(tmp_path: Path) -> None:
    """A file or a directory of the source that has its name stays where it is."""
    src, dst = places(tmp_path)
    state = dst / "state"
    sync(f"{src}/", dst, f"--state-dir={state}")
    before = inodes(state)
    (src / "state").mkdir()
    (src / "state/file").write_bytes(b"a directory")
    for _ in range(2):
        sync(f"{src}/", dst, f"--state-dir={state}", "--delete", "--remove-source-files")
        assert inodes(state) == before
    assert (src / "state/file").exists()
    (src / "state/file").unlink()
    (src / "state").rmdir()
    (src / "state").write_bytes(b"a file")
    said = sync(f"{src}/", dst, f"--state-dir={state}", "--delete", "--force")
    assert b"state" not in said
    assert inodes(state) == before
    sync(f"{src}/", dst, f"--state-dir={state}", "--remove-source-files")
    assert (src / "state").read_bytes() == b"a file"


def test_in_the_source_it_is_not_copied(tmp_path: Path) -> None:
    """Not by its own path, nor by a symlink that is followed; what has its name in DST stays."""
    src, dst = places(tmp_path)
    state = src / "sub/state"
    state.mkdir()
    (src / "link").symlink_to("sub/state")
    (dst / "sub/state").mkdir(parents=True)
    (dst / "sub/state/old").write_bytes(b"from before")
    for options in (["-L"], ["-L", "--delete"], ["-L", "--delete-before"], ["-L", "-n"]):
        sync(f"{src}/", dst, f"--state-dir={state}", *options)
        assert list(state.glob("*/data.mdb"))
        assert names_in(dst, "extra") == NAMES | {"sub/state", "sub/state/old"}


def test_another_path_leads_to_it(tmp_path: Path) -> None:
    """It is known by what it is: given through a symlink it is the same directory."""
    src, dst = places(tmp_path)
    (dst / "real").mkdir()
    (tmp_path / "link").symlink_to(dst / "real")
    for _ in range(2):
        sync(f"{src}/", dst, f"--state-dir={tmp_path / 'link'}", "--delete")
        assert list((dst / "real").glob("*/data.mdb"))
        assert names_in(dst, "real") == NAMES


def test_a_symlink_to_it_is_a_symlink(tmp_path: Path) -> None:
    """What the destination has beside it, and leads to it, goes as any extra does."""
    src, dst = places(tmp_path)
    (dst / "state").mkdir()
    (dst / "link").symlink_to("state")
    sync(f"{src}/", dst, f"--state-dir={dst / 'state'}", "--delete")
    assert names_in(dst, "state") == NAMES
    (dst / "link").symlink_to("state")
    (src / "link").mkdir()
    (src / "link/h").write_bytes(b"h")
    sync(f"{src}/", dst, f"--state-dir={dst / 'state'}", "--delete", "-K")
    assert not list((dst / "state").glob("h"))
    sync(f"{src}/", dst, f"--state-dir={dst / 'state'}", "--delete")
    assert (dst / "link/h").read_bytes() == b"h"


@contextmanager
def bound(old: Path, new: Path) -> Iterator[None]:
    """Mount a directory a second time."""
    new.mkdir()
    subprocess.run(["mount", "--bind", old, new], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", new], check=True)


def test_a_bind_mount_shows_it(tmp_path: Path) -> None:
    """Mounted a second time it is left out there, too."""
    need_root()
    src, dst = places(tmp_path)
    (tmp_path / "state").mkdir()
    with bound(tmp_path / "state", src / "again"):
        sync(f"{src}/", dst, f"--state-dir={tmp_path / 'state'}", "--delete")
    assert names_in(dst) == NAMES


def test_in_both(tmp_path: Path) -> None:
    """A source below the state directory's parent, a destination beside it: each sees the other."""
    make(Tree(TREE), tmp_path / "disk/src")
    state = tmp_path / "disk/state"
    (tmp_path / "disk/copy").mkdir()
    sync(f"{tmp_path}/disk/src/", tmp_path / "disk", f"--state-dir={state}", "--exclude=/*/state")
    assert names_in(tmp_path / "disk", "state") >= NAMES
    sync(f"{tmp_path}/disk/src/", f"{tmp_path}/disk", f"--state-dir={state}", "--delete")
    assert list(state.glob("*/data.mdb"))


def test_several_sources(tmp_path: Path) -> None:
    """Each of them leaves it alone, and what it hides of one is no extra of another."""
    make(Tree({"a": {"f": File(b"f")}, "b": {"g": File(b"g")}}), tmp_path)
    state = tmp_path / "a/state"
    state.mkdir()
    (tmp_path / "dst").mkdir()
    for _ in range(2):
        paths = [f"{tmp_path}/a/", f"{tmp_path}/b/", f"{tmp_path}/dst"]
        done = run_arsync(["-a", "--delete", f"--state-dir={state}", "--max-delete=0", *paths])
        assert (done.code, done.stderr) == (0, b"")
        assert names_in(tmp_path / "dst") == {"f", "g"}


def test_a_state_directory_is_no_destination(tmp_path: Path) -> None:
    """Exit code 3, and nothing in it is touched; as a source it is copied, but for this store."""
    src, _ = places(tmp_path)
    state = tmp_path / "state"
    (state / "other").mkdir(parents=True)
    (state / "other/file").write_bytes(b"other")
    said = sync(f"{src}/", state, f"--state-dir={state}", "--delete", code=3)
    assert b"is where manifests are kept (--state-dir puts them elsewhere)" in said
    sync(f"{src}/", state, f"--state-dir={state}", "--delete", "--no-manifest", code=3)
    assert names_in(state) == {"other", "other/file"}
    sync(f"{state}/", tmp_path / "copy", f"--state-dir={state}")
    assert names_in(tmp_path / "copy") == {"other", "other/file"}
    assert len(list(state.glob("*/data.mdb"))) == 1


def test_above_one_that_somebody_named_nothing_is_made(tmp_path: Path) -> None:
    """It may be a slip, and there would be a second manifest; the directory itself is made."""
    src, dst = places(tmp_path)
    sync(f"{src}/", dst, f"--state-dir={tmp_path}/state")
    missing = tmp_path / "no such directory/state"
    said = sync(f"{src}/", dst, f"--state-dir={missing}", code=FileError.exit_code)
    assert b"No such file or directory" in said
    assert not missing.parent.exists()


def test_without_a_home_there_is_no_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has no home directory syncs all the same."""
    src, dst = places(tmp_path)
    for name in ("ARSYNC_STATE_DIR", "XDG_STATE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", _no_such_user)
    sync(f"{src}/", dst)
    assert names_in(dst, "extra") == NAMES


def _no_such_user(uid: int) -> object:
    raise KeyError(f"getpwuid(): uid not found: {uid}")


@pytest.mark.parametrize("option", ["--manifest", "--no-manifest", "--dry-run", "--trust-dst"])
def test_one_that_cannot_be_looked_at(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the home of another user: a run goes on without, a command says what is wrong."""
    need_unprivileged()
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    monkeypatch.delenv("ARSYNC_STATE_DIR", raising=False)
    make(Tree({"f": File(b"f")}), tmp_path / "src")
    (tmp_path / "dst").mkdir()
    os.chown(tmp_path / "dst", NOBODY, NOBODY)
    os.chmod(tmp_path, 0o711)
    done = run_arsync(["-r", option, "src/", "dst"], cwd=tmp_path, as_nobody=True)
    assert (done.code, done.stderr) == (0, b"")
    assert names_in(tmp_path / "dst") == (set() if option == "--dry-run" else {"f"})
    asked = run_arsync(["status", "dst"], cwd=tmp_path, as_nobody=True)
    assert asked.code == FileError.exit_code
    said = f"arsync: cannot read '{home}/state/arsync': Permission denied\n"
    assert asked.stderr.decode() == said
