"""--chmod: what the compiled rules do, with the installed rsync as the oracle."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arsync.errors import UsageError
from arsync.modes import apply_modes, parse_modes
from tests.requirements import need_rsync

FILE = 0o100000
DIR = 0o040000

ACCEPTED = """
    D2775,F664  Dg+s,ug+w,Fo-w,+X  u+rwx,go-w  644  00644  D0755  4755  +t  a+tX  u=rwxs  ug+Xs
    o=s  a=s  a=  =  =s  go=s  ao+s  u=t  o=t  g=X  +X  a-X  -X  -x  u-x,+X  D=,u+rX  ug=  Fu+  +
    g=u  g=o  =u  =o  o=u  u-u  -u  +u  ug=o  a=g  oa=u  F=g  gD=u  Fu=g,g=o,o-u  u+x,g=u  aD+r
    u=rwX,go=rX  gg=r  DDu+r  D0  u+,g+r  +Xx
""".split()  # noqa: SIM905 (one a line hides the pattern)

REFUSED = """
    g=ur  08  10000  D  DF+x  u  u+r+w  g=gu  u+r,  ,u+r  uD755  D+r-x  Xg=u  644D  u=+r  u+rg
    o-r,X+r  17777  rwx  u+q  u+r;g+r
""".split()  # noqa: SIM905 (one a line hides the pattern)


def rsync_modes(spec: str, umask: int, where: Path) -> tuple[int, int]:
    """Let rsync apply a --chmod; return the mode of the file and of the directory."""
    src, dst = where / "src", where / "dst"
    src.mkdir()
    (src / "f").touch()
    (src / "f").chmod(0o4652)
    src.chmod(0o3750)
    dst.mkdir()
    command = ["rsync", "-a", f"--chmod={spec}", f"{src}/", f"{dst}/"]
    subprocess.run(command, check=True, umask=umask)
    return os.stat(dst / "f").st_mode, os.stat(dst).st_mode


@pytest.mark.parametrize("umask", [0o022, 0o077], ids=oct)
@pytest.mark.parametrize("spec", ACCEPTED)
def test_rules_do_what_rsync_does(spec: str, umask: int, tmp_path: Path) -> None:
    """A file of mode 4652 and a directory of mode 3750 come out as from rsync."""
    need_rsync()
    rules = parse_modes(spec, umask)
    ours = apply_modes(rules, FILE | 0o4652), apply_modes(rules, DIR | 0o3750)
    theirs = rsync_modes(spec, umask, tmp_path)
    assert [oct(mode) for mode in ours] == [oct(mode) for mode in theirs]


@pytest.mark.parametrize("spec", REFUSED)
def test_what_rsync_refuses_is_refused(spec: str) -> None:
    """What is no change of a mode is a usage error that quotes it; rsync refuses each of these."""
    need_rsync()
    theirs = subprocess.run(
        ["rsync", f"--chmod={spec}", ".", "."], capture_output=True, check=False
    )
    assert theirs.returncode == 1
    with pytest.raises(UsageError, match="--chmod: "):
        parse_modes(spec, 0o022)


def test_an_empty_change_is_refused() -> None:
    """Nothing at all is no change."""
    with pytest.raises(UsageError, match="--chmod"):
        parse_modes("", 0o022)


def test_several_options_append() -> None:
    """A second --chmod goes on where the first one ended."""
    rules = (*parse_modes("F600", 0), *parse_modes("g=u", 0))
    assert apply_modes(rules, FILE | 0o777) == FILE | 0o660
    assert apply_modes(rules, DIR | 0o700) == DIR | 0o770


def test_capital_x_looks_at_the_mode_before_all_rules() -> None:
    """X asks whether the file had an x when it came, not after the rule before."""
    assert apply_modes(parse_modes("u+x,go+X", 0), FILE | 0o644) == FILE | 0o744
    assert apply_modes(parse_modes("u-x,go+X", 0), FILE | 0o744) == FILE | 0o655


SPECS = st.lists(
    st.one_of(
        st.from_regex(r"[DF]?[ugoa]{0,2}[-+=][rwxXst]{0,3}", fullmatch=True),
        st.from_regex(r"[DF]?[ugoa]{0,2}[-+=][ugo]", fullmatch=True),
        st.from_regex(r"[DF]?[0-7]{1,4}", fullmatch=True),
    ),
    min_size=1,
    max_size=4,
).map(",".join)


@given(SPECS, st.integers(0, 0o7777), st.sampled_from([FILE, DIR, 0o120000, 0o010000]))
def test_rules_keep_the_type_and_do_the_same_twice_in_c(spec: str, mode: int, kind: int) -> None:
    """Rules never touch the type, and the fields that C gets describe them completely."""
    rules = parse_modes(spec, 0o022)
    changed = apply_modes(rules, kind | mode)
    assert changed & ~0o7777 == kind
    assert changed & 0o7777 == as_c_does(rules, kind, mode)


def as_c_does(rules: tuple, kind: int, mode: int) -> int:
    """Apply rules with the words of `struct ar_chmod` only."""
    is_dir = kind == DIR
    had_x = is_dir or mode & 0o111 != 0
    for rule in rules:
        if not (rule.to_dirs if is_dir else rule.to_files):
            continue
        spread = (mode >> rule.copy_shift & 7) * 0o111 & rule.copy_mask
        or_mode = rule.or_mask & ~0o111 if rule.keep_x and not had_x else rule.or_mask
        mode = mode & rule.and_mask | or_mode
        mode = {0: mode, 1: mode | spread, 2: mode & ~spread}[rule.copy]
    return mode
