"""A state directory that is full: where nobody named it, a run goes on without."""

from __future__ import annotations

from pathlib import Path

import pytest

from arsync import sync
from arsync.errors import FileError
from arsync.manifest.lock import look
from arsync.manifest.places import find
from arsync.manifest.reader import Reader
from arsync.options import ManifestPolicy, SyncOptions
from tests.kit import assert_same
from tests.kit.filesystems import mounted
from tests.requirements import need_root

DIRECTORIES = 80
NAMES = 60


@pytest.fixture
def src(tmp_path: Path) -> Path:
    """Make a source whose records are longer than the state directory has room for."""
    for directory in range(DIRECTORIES):
        path = tmp_path / "src" / f"{directory:04}"
        path.mkdir(parents=True)
        for name in range(NAMES):
            (path / f"{name:03}{'n' * 100}").touch()
    return tmp_path / "src"


@pytest.mark.parametrize("room_kib", [40, 300, 600])
def test_the_usual_one(
    room_kib: int, src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sync is complete, and says why little is recorded; what is recorded can be read."""
    need_root()
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    monkeypatch.delenv("ARSYNC_STATE_DIR", raising=False)
    dst = tmp_path / "dst"
    trusting = SyncOptions(manifest=ManifestPolicy(trust_dst=True))
    with mounted("-t", "tmpfs", "-o", f"size={room_kib}k", "tmpfs", home):
        for turn in range(2):
            report = sync(f"{src}/", dst)
            assert report.exit_code == 0
            ends = ("not all is recorded: ", "none: ")[: 1 + (turn > 0 or room_kib < 100)]
            assert report.manifest_note.startswith(ends)
            assert "No space left on device" in report.manifest_note
            assert_same(src, dst)
        (dst / "0001" / f"{0:03}{'n' * 100}").unlink()
        report = sync(f"{src}/", dst, trusting)
        assert (report.exit_code, report.counts.done_files) == (0, 1)
        found = find(home / "arsync", bytes(dst))
        if not found.is_new:
            assert look(found.store / "lock").is_left
            with Reader(found.store) as reader:
                assert reader.runs() == []
                assert all(reader.tree(0))


def test_one_that_somebody_named(src: Path, tmp_path: Path) -> None:
    """It is an error, with exit code 11, when it happens."""
    need_root()
    (tmp_path / "state").mkdir()
    options = SyncOptions(manifest=ManifestPolicy(state_dir=str(tmp_path / "state")))
    with mounted("-t", "tmpfs", "-o", "size=600k", "tmpfs", tmp_path / "state"):
        with pytest.raises(FileError, match="cannot keep the manifest") as caught:
            sync(f"{src}/", tmp_path / "dst", options)
        assert caught.value.exit_code == 11
