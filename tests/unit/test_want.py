"""The attributes that C wants an entry to have, against what the installed rsync gives it."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from arsync.modes import parse_modes
from arsync.options import OwnerPolicy, Preserve, SyncOptions
from arsync.owners import parse_map, users
from arsync.uring import Identity, Rules
from arsync.uring._native import ffi, lib
from tests.pages import FORMATS
from tests.requirements import need_root, need_rsync

SRC_MODES = (0o000, 0o644, 0o755, 0o4711, 0o2770, 0o1777, 0o6640, 0o7777)
DST_MODES = (None, 0o600, 0o4755, 0o2444)
UMASKS = (0o022, 0o077)
CHMODS = ("", "F640,D2750", "u-w,+X", "g=u,o-x", "D+t,Fa+rX", "go=u", "u=g,o=")

SRC_TIMES = (1_000_000_000 * 10**9 + 1, 1_100_000_000 * 10**9 + 2)
DST_TIMES = (500_000_000 * 10**9, 600_000_000 * 10**9)

TYPES = {fmt: kind for kind, fmt in FORMATS.items()}


@pytest.mark.parametrize("umask", UMASKS)
@pytest.mark.parametrize("perms", [True, False])
@pytest.mark.parametrize("chmod", CHMODS)
def test_modes_are_those_that_rsync_gives(
    tmp_path: Path, umask: int, perms: bool, chmod: str
) -> None:
    """Files, directories and fifos, new and old, with and without -p, under --chmod."""
    need_rsync()
    need_root()
    make_both(tmp_path)
    rules = rules_of(Preserve(recursive=True, perms=perms, specials=True), umask, chmod)
    wanted = wanted_modes(tmp_path, rules)
    options = ["-r", "--specials", *(["-p"] if perms else [])]
    options += [f"--chmod={chmod}"] if chmod else []
    with process_umask(umask):
        rsync(tmp_path, *options)
    assert {name: mode_of(tmp_path / "dst" / name) for name in wanted} == wanted


@pytest.mark.parametrize("keep", ["", "o", "g", "og"])
def test_owners_are_those_that_rsync_gives(tmp_path: Path, keep: str) -> None:
    """-o takes the mapped id, -g the group, and without them the old ones stay."""
    need_rsync()
    need_root()
    for side, owner in (("src", (5, 6)), ("dst", (1, 1))):
        (tmp_path / side).mkdir()
        for name in ("f", "d"):
            path = tmp_path / side / name
            if name == "d":
                path.mkdir()
            else:
                path.touch()
            os.chown(path, *owner)
            os.utime(path, ns=SRC_TIMES)
    users_map = parse_map("5:7", "--usermap", users())
    options = SyncOptions(
        preserve=Preserve(recursive=True, times=True, owner="o" in keep, group="g" in keep),
        owners=OwnerPolicy(users=users_map),
    )
    rules = Rules(options, 1, Identity(0o022, True, ()))
    # --usermap implies -o, which is for who reads the command line to know.
    more = ["--usermap=5:7"] if "o" in keep else []
    rsync(tmp_path, "-rt", "--numeric-ids", *more, *([f"-{keep}"] if keep else []))
    for name in ("f", "d"):
        want = want_of(rules, tmp_path / "src" / name, None)
        found = (tmp_path / "dst" / name).stat()
        assert found.st_uid == (want.uid if want.set_uid else 1)
        assert found.st_gid == (want.gid if want.set_gid else 1)
        assert (want.set_uid, want.set_gid) == ("o" in keep, "g" in keep)


@pytest.mark.parametrize("options", ["-t", "-tU", "-U", "-tO", "-tJ", "-tUOJ", ""])
def test_times_are_set_where_rsync_sets_them(tmp_path: Path, options: str) -> None:
    """The mtimes and atimes of files, directories and links, under -t, -U, -O and -J."""
    need_rsync()
    make_timed(tmp_path)
    preserve = Preserve(
        recursive=True,
        links=True,
        times="t" in options,
        atimes="U" in options,
        omit_dir_times="O" in options,
        omit_link_times="J" in options,
    )
    rules = Rules(SyncOptions(preserve=preserve), 1, Identity(0o022, False, ()))
    wants = {name: want_of(rules, tmp_path / "src" / name, None) for name in ("f", "d", "l")}
    # Reading a link or a directory moves its atime, as does looking at it here; rsync reads too.
    for name in wants:
        os.utime(tmp_path / "src" / name, ns=SRC_TIMES, follow_symlinks=False)
    rsync(tmp_path, "-rl", *([options] if options else []))
    for name, want in wants.items():
        found = (tmp_path / "dst" / name).lstat()
        assert want.set_mtime == (int(found.st_mtime) == SRC_TIMES[1] // 10**9), name
        if name != "l":
            assert want.set_atime == (int(found.st_atime) == SRC_TIMES[0] // 10**9), name


def test_a_symlink_has_no_mode(tmp_path: Path) -> None:
    """No mode is set for a link, whatever the options say."""
    (tmp_path / "l").symlink_to("x")
    want = want_of(rules_of(Preserve(perms=True), 0, "a="), tmp_path / "l", None)
    assert not want.set_mode


def test_an_entry_of_another_kind_lends_no_mode(tmp_path: Path) -> None:
    """What replaces something else is as new as what replaces nothing."""
    (tmp_path / "f").touch(mode=0o666)
    (tmp_path / "f").chmod(0o666)
    (tmp_path / "d").mkdir(mode=0o700)
    rules = rules_of(Preserve(), 0o027, "")
    assert want_of(rules, tmp_path / "f", tmp_path / "d").mode == 0o640
    os.mkfifo(tmp_path / "p")
    (tmp_path / "p").chmod(0o611)
    os.mknod(tmp_path / "s", stat.S_IFSOCK | 0o600)
    assert want_of(rules, tmp_path / "s", tmp_path / "p").mode == 0o611


def make_both(tmp_path: Path) -> None:
    """Make files, directories and fifos of all modes; the destination has some of them."""
    makers = {"f": lambda path: path.touch(), "d": lambda path: path.mkdir(), "p": os.mkfifo}
    for side in ("src", "dst"):
        (tmp_path / side).mkdir()
    for kind, make in makers.items():
        for src_mode in SRC_MODES:
            for dst_mode in DST_MODES:
                name = f"{kind}-{src_mode:o}-{'new' if dst_mode is None else f'{dst_mode:o}'}"
                for side, mode in (("src", src_mode), ("dst", dst_mode)):
                    if mode is not None:
                        make(tmp_path / side / name)
                        (tmp_path / side / name).chmod(mode)


def make_timed(tmp_path: Path) -> None:
    """Make a file, a directory and a link that both sides have, equal in all but times."""
    for side, times in (("src", SRC_TIMES), ("dst", DST_TIMES)):
        (tmp_path / side).mkdir()
        (tmp_path / side / "f").touch()
        (tmp_path / side / "d").mkdir()
        (tmp_path / side / "l").symlink_to("f")
        for name in ("f", "d", "l"):
            os.utime(tmp_path / side / name, ns=times, follow_symlinks=False)


def wanted_modes(tmp_path: Path, rules: Rules) -> dict[str, int]:
    """Ask C for the mode of each entry of the source."""
    wanted = {}
    for src in sorted((tmp_path / "src").iterdir()):
        dst = tmp_path / "dst" / src.name
        want = want_of(rules, src, dst if os.path.lexists(dst) else None)
        assert want.set_mode
        wanted[src.name] = want.mode
    return wanted


def want_of(rules: Rules, src: Path, dst: Path | None) -> Any:
    """Return what C wants of an entry."""
    want = ffi.new("struct ar_want *")
    lib.ar_want(rules.raw, row_of(src), row_of(dst) if dst else ffi.NULL, want)
    return want


def row_of(path: Path) -> Any:
    """Return the row of an entry."""
    found = path.lstat()
    return ffi.new(
        "struct ar_row *",
        {
            "type": TYPES[stat.S_IFMT(found.st_mode)],
            "mode": found.st_mode,
            "uid": found.st_uid,
            "gid": found.st_gid,
        },
    )


def rules_of(preserve: Preserve, umask: int, chmod: str) -> Rules:
    """Return rules for root."""
    changes = parse_modes(chmod, umask) if chmod else ()
    return Rules(SyncOptions(preserve=preserve, chmod=changes), 1, Identity(umask, True, ()))


def mode_of(path: Path) -> int:
    """Return the permission bits."""
    return stat.S_IMODE(path.lstat().st_mode)


def rsync(tmp_path: Path, *options: str) -> None:
    """Copy src to dst as rsync does."""
    command = ["rsync", *options, f"{tmp_path}/src/", f"{tmp_path}/dst/"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


@contextmanager
def process_umask(umask: int) -> Iterator[None]:
    """Set this process's umask, which rsync inherits, for a while."""
    before = os.umask(umask)
    try:
        yield
    finally:
        os.umask(before)
