"""Chunk hashes: which are recorded, and what a changed file gets of the one that it replaces."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from arsync.manifest.format import RowState
from arsync.options import ManifestPolicy
from tests.kit import Dir, File, Pattern, Sparse, Tree, make
from tests.kit.manifests import recorded, recorded_chunks
from tests.kit.recorded import hash_of as chunks_of
from tests.kit.syncing import BIG, CHUNK, Ran, run

MIB = 1 << 20
NS = 1_700_000_000_123_456_789

pytestmark = pytest.mark.usefixtures("no_litter")


def sync(where: Path, **settings: object) -> Ran:
    """Make `dst` equal to `src`, both in one directory with the manifests."""
    policy = ManifestPolicy(state_dir=str(where / "state"))
    return run(where / "src", where / "dst", manifest=policy, **settings)


def lists(where: Path) -> dict[bytes, bytes]:
    """Return the recorded lists of chunk hashes."""
    return recorded_chunks(where / "state", where / "dst")


def right_lists(where: Path) -> dict[bytes, bytes]:
    """Return the lists that the files of `dst` have."""
    found = {}
    for path in (where / "dst").rglob("*"):
        if path.is_file() and path.stat().st_size > CHUNK:
            found[bytes(path.relative_to(where / "dst"))] = chunks_of(path.read_bytes())[1]
    return found


# ------------------------------------------------------------------ what is recorded


def test_chunk_hashes_of_what_was_read(tmp_path: Path, engine: str) -> None:
    """Files above one chunk have a list, by one lane or all; the row says so."""
    sizes = {"a": CHUNK, "b": CHUNK + 1, "d/c": 3 * CHUNK, "d/e": BIG - 1, "d/f": BIG + 7}
    files = {
        name: File(Pattern(size, seed), mtime_ns=NS)
        for seed, (name, size) in enumerate(sizes.items())
    }
    make(Tree({"d": Dir(), **files, "hole": File(Sparse(2 * BIG, {BIG: b"x"}))}), tmp_path / "src")
    assert sync(tmp_path, engine=engine, copy_method="read_write").code == 0
    assert lists(tmp_path) == right_lists(tmp_path)
    assert set(lists(tmp_path)) == {b"b", b"d/c", b"d/e", b"d/f", b"hole"}
    rows = recorded(tmp_path / "state", tmp_path / "dst")
    assert rows[b""].rows[b"a"].state == RowState.HASHED
    for name in (b"b", b"hole"):
        assert rows[b""].rows[name].state == RowState.HASHED | RowState.CHUNKED


def test_lists_stay_and_go_with_their_rows(tmp_path: Path) -> None:
    """One that needs nothing stays; one of a file that is gone, small or unhashed is forgotten."""
    names = ("stays", "gone", "small", "unhashed", "anew")
    files = {name: File(Pattern(CHUNK + 9, seed), mtime_ns=NS) for seed, name in enumerate(names)}
    make(Tree(files), tmp_path / "src")
    sync(tmp_path, copy_method="read_write")
    assert set(lists(tmp_path)) == {name.encode() for name in names}
    (tmp_path / "src/gone").unlink()
    (tmp_path / "src/small").write_bytes(b"x")
    (tmp_path / "src/anew").write_bytes(os.urandom(2 * CHUNK))
    assert sync(tmp_path, copy_method="read_write").code == 0
    assert lists(tmp_path) == {
        name: found for name, found in right_lists(tmp_path).items() if name != b"gone"
    }
    (tmp_path / "src/unhashed").write_bytes(os.urandom(2 * CHUNK))
    assert sync(tmp_path, copy_method="copy_file_range").code == 0
    assert set(lists(tmp_path)) == {b"stays", b"anew"}


@pytest.mark.parametrize("size", [CHUNK + 9, BIG + 9])
def test_a_comparison_records_lists_too(tmp_path: Path, engine: str, size: int) -> None:
    """-c reads files that another tool has copied: from then on their chunks are known."""
    for side in ("src", "dst"):
        make(Tree({"f": File(Pattern(size), mtime_ns=NS)}), tmp_path / side)
    sync(tmp_path)
    assert lists(tmp_path) == {}
    assert sync(tmp_path, checksum=True, engine=engine).code == 0
    assert lists(tmp_path) == right_lists(tmp_path)


def test_lists_in_a_directory_of_many_pages(tmp_path: Path) -> None:
    """Each page tells of its own files, and none forgets those of the others."""
    names = {f"n{number:05}": File(b"") for number in range(2500)}
    big = {f"n{at:05}": File(Pattern(CHUNK + 1, at)) for at in (3, 1500, 2499)}
    make(Tree({**names, **big}), tmp_path / "src")
    sync(tmp_path, copy_method="read_write")
    assert lists(tmp_path) == right_lists(tmp_path)
    (tmp_path / "src/n00003").unlink()
    (tmp_path / "src/n01500").write_bytes(os.urandom(CHUNK + 5))
    (tmp_path / "dst/n00003").unlink()
    assert sync(tmp_path, copy_method="read_write").code == 0
    assert lists(tmp_path) == right_lists(tmp_path)
