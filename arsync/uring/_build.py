"""Describe the compiled module `arsync.uring._native` to cffi.

Owns the compiler's flags and the cut of the cdef out of the one C header. setup.py runs it by
path, while nothing of arsync can be imported yet, so it imports nothing of arsync.
"""

import os
from pathlib import Path

from cffi import FFI

CDEF_BEGIN = "/* cdef: begin */"
CDEF_END = "/* cdef: end */"

# setuptools wants the sources relative to the checkout, which is where it runs.
SOURCE_DIR = Path("arsync", "uring", "src")

COMPILE_FLAGS = ["-std=gnu11", "-Wall", "-Wextra"]
LIBRARIES = ["uring", "xxhash"]

# What ARSYNC_BUILD names: flags for the compiler and for the linker.
BUILDS = {
    "release": (["-O2"], []),
    "sanitize": (
        [
            "-O1",
            "-g",
            "-UNDEBUG",
            "-fno-omit-frame-pointer",
            "-fsanitize=address,undefined",
            "-fno-sanitize-recover=undefined",
        ],
        ["-fsanitize=address,undefined"],
    ),
    "coverage": (["-O0", "-g", "--coverage"], ["--coverage"]),
}


def cut_cdef(header: str) -> str:
    """Return the part of the header's text between its two marker lines.

    Comments and `#define NAME number` lines may stay: cffi reads them.

    Raises:
        ValueError: a marker line is missing, stands twice, or the two are in the wrong order.
    """
    lines = header.splitlines()
    marks = [line for line in lines if line.strip() in (CDEF_BEGIN, CDEF_END)]
    if [mark.strip() for mark in marks] != [CDEF_BEGIN, CDEF_END]:
        raise ValueError(f"the header needs one line {CDEF_BEGIN!r} and after it one {CDEF_END!r}")
    begin, end = (lines.index(mark) for mark in marks)
    return "\n".join(lines[begin + 1 : end]) + "\n"


def native_module() -> FFI:
    """Return the cffi builder of the module; ARSYNC_BUILD in the environment selects the flags.

    Raises:
        ValueError: ARSYNC_BUILD names no build, or the header's markers are wrong.
    """
    build = os.environ.get("ARSYNC_BUILD", "release")
    if build not in BUILDS:
        raise ValueError(f"ARSYNC_BUILD is {build!r}, not one of {', '.join(BUILDS)}")
    compile_flags, link_flags = BUILDS[build]
    builder = FFI()
    builder.cdef(cut_cdef((SOURCE_DIR / "arsync.h").read_text(encoding="utf-8")))
    builder.set_source(
        "arsync.uring._native",
        '#include "arsync.h"\n',
        sources=sorted(str(path) for path in SOURCE_DIR.glob("*.c")),
        depends=sorted(str(path) for path in SOURCE_DIR.glob("*.h")),
        include_dirs=[str(SOURCE_DIR)],
        define_macros=[("_GNU_SOURCE", None)],
        libraries=LIBRARIES,
        extra_compile_args=COMPILE_FLAGS + compile_flags,
        extra_link_args=link_flags,
    )
    return builder
