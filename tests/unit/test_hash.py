"""The hash of a file, as far as a run shows it, against another xxhash."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arsync.model import ChangeFlag
from tests.kit import File, Pattern, Sparse, Tree, make
from tests.kit.syncing import CHUNK, hash_of, run
from tests.requirements import skip_without

KIB = 1 << 10
BLOCKS = st.one_of(st.just(b"\0" * 4096), st.binary(min_size=1, max_size=5000))


@given(parts=st.lists(BLOCKS, max_size=40), sparse=st.booleans())
def test_any_content_has_the_hash_of_another_xxhash(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes], sparse: bool
) -> None:
    """Read by buffers of 4 KiB, with zeros left out or not."""
    where = tmp_path_factory.mktemp("hash")
    content = b"".join(parts)
    make(Tree({"f": File(content)}), where / "src")
    settings = {"buffer_bytes": 4096, "sparse": sparse, "copy_method": "read_write"}
    ran = run(where / "src", where / "dst", engine="sync", cpu_count=1, scan_threads=1, **settings)
    assert (where / "dst" / "f").read_bytes() == content
    assert ran.changes[b"f"].hash == hash_of(content)
    shutil.rmtree(where)


def test_up_to_a_chunk_it_is_what_xxhsum_prints(tmp_path: Path, engine: str) -> None:
    """`xxhsum -H2` agrees, digit for digit."""
    skip_without(shutil.which("xxhsum") is not None, "needs the command xxhsum")
    src, dst = tmp_path / "src", tmp_path / "dst"
    sizes = (0, 1, 240, 241, 100 * KIB, CHUNK)
    make(Tree({str(size): File(Pattern(size, size)) for size in sizes}), src)
    ran = run(src, dst, engine=engine, copy_method="read_write")
    for size in sizes:
        line = subprocess.run(
            ["xxhsum", "-H2", src / str(size)], capture_output=True, text=True, check=True
        ).stdout
        assert line.split()[0] == ran.changes[str(size).encode()].hash.hex()


def test_holes_count_as_zeros(tmp_path: Path, engine: str) -> None:
    """A file with holes has the hash of the same file without."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    shape = Sparse(2 * CHUNK + 5, {10: b"x", CHUNK - 1: b"yy", 2 * CHUNK: b"z"})
    make(Tree({"f": File(shape)}), src)
    (src / "g").write_bytes((src / "f").read_bytes())
    ran = run(src, dst, engine=engine, copy_method="read_write")
    assert ran.changes[b"f"].hash == ran.changes[b"g"].hash == hash_of((src / "g").read_bytes())
    assert os.stat(dst / "f").st_blocks < os.stat(dst / "g").st_blocks


def test_what_nobody_has_read_has_no_hash(tmp_path: Path, engine: str) -> None:
    """Content that moved inside the kernel is recorded without one, not with a wrong one."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    make(Tree({"f": File(Pattern(100 * KIB))}), src)
    ran = run(src, dst, engine=engine, copy_method="copy_file_range")
    assert not ran.changes[b"f"].flags & ChangeFlag.HASHED
    assert ran.changes[b"f"].hash == b""
