"""How the compiled module is described to cffi."""

from __future__ import annotations

from pathlib import Path

import pytest
from cffi import FFI

from arsync.uring import _build

CHECKOUT = Path(__file__).resolve().parents[2]

HEADER = """
#include <stdint.h>
/* cdef: begin */
#define AR_NAME_MAX 255  /* bytes */
// what a row holds
struct ar_row { char name[AR_NAME_MAX]; int32_t error; };
  /* cdef: end */
_Static_assert(sizeof(int) == 4, "int");
"""


def test_the_cdef_is_what_stands_between_the_marks() -> None:
    """Nothing outside the marks reaches cffi, and comments do not disturb it."""
    cdef = _build.cut_cdef(HEADER)
    assert "include" not in cdef
    assert "_Static_assert" not in cdef
    ffi = FFI()
    ffi.cdef(cdef)
    assert ffi.sizeof("struct ar_row") == 260


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(HEADER.replace("cdef: begin", "cdef"), id="no begin"),
        pytest.param(HEADER.replace("cdef: end", "cdef"), id="no end"),
        pytest.param(HEADER + HEADER, id="twice"),
        pytest.param("/* cdef: end */\n/* cdef: begin */\n", id="wrong order"),
    ],
)
def test_wrong_marks_are_refused(header: str) -> None:
    """A header without its two marks, once each and in order, is an error that says so."""
    with pytest.raises(ValueError, match="cdef: begin"):
        _build.cut_cdef(header)


def test_every_c_file_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new file under src/ needs no entry anywhere."""
    name, _, _, options = described("release", monkeypatch)
    assert name == "arsync.uring._native"
    assert options["sources"] == sorted(
        str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / _build.SOURCE_DIR).glob("*.c")
    )
    assert "arsync/uring/src/arsync.h" in options["depends"]


def test_the_environment_selects_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sanitizers and coverage come by ARSYNC_BUILD, to the compiler and to the linker."""
    for build, flag in (("sanitize", "-fsanitize=address,undefined"), ("coverage", "--coverage")):
        *_, options = described(build, monkeypatch)
        assert flag in options["extra_compile_args"]
        assert flag in options["extra_link_args"]


def test_an_unknown_build_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt build stops with the names that exist."""
    with pytest.raises(ValueError, match="release, sanitize, coverage"):
        described("fast", monkeypatch)


def described(build: str, monkeypatch: pytest.MonkeyPatch) -> tuple:
    """Return what the builder would compile: name, source, extension, options."""
    monkeypatch.chdir(CHECKOUT)
    monkeypatch.setenv("ARSYNC_BUILD", build)
    return _build.native_module()._assigned_source
