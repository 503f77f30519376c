"""--trust-dst leaves what a look would leave, after any edits of the source."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from arsync.options import DeletePolicy, ManifestPolicy
from tests.kit import assert_same
from tests.kit.syncing import run

RUNS = 5


class Source:
    """Edit a tree at random.

    Args:
        root: an empty directory.
    """

    def __init__(self, root: Path, chance: Random) -> None:
        self.root = root
        self.chance = chance

    def edit(self) -> None:
        """Make, write, remove, link, rename or chmod something; some edits come to nothing."""
        found = [path for path in self.root.rglob("*") if not path.is_symlink()]
        directory = self.chance.choice([self.root, *filter(Path.is_dir, found)])
        file = self.chance.choice([*filter(Path.is_file, found), directory / "none"])
        other = self.chance.choice([self.root, *filter(Path.is_dir, found)])
        new = directory / f"n{self.chance.randrange(30)}"
        content = self.chance.randbytes(self.chance.randrange(20))
        edits = (
            new.mkdir,
            lambda: new.write_bytes(content),
            lambda: file.write_bytes(content),
            file.unlink,
            lambda: os.link(file, new),
            lambda: file.rename(new),
            lambda: directory.rename(other / f"r{self.chance.randrange(99)}"),
            lambda: shutil.rmtree(directory) if directory != self.root else None,
            lambda: directory.chmod(self.chance.choice([0o700, 0o755, 0o711])),
        )
        with suppress(OSError):
            self.chance.choice(edits)()


@given(seed=st.integers(0, 2**32), before=st.booleans())
def test_both_sides_are_equal_after_each_run(seed: int, before: bool) -> None:
    """With deletion, hard links and renames; each run after the first may trust."""
    chance = Random(seed)
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="arsync-test-trust-", dir=memory) as name:
        src, dst = Path(name, "src"), Path(name, "dst")
        src.mkdir()
        source = Source(src, chance)
        delete = DeletePolicy(when="before" if before else "after", allow_empty_source=True)
        edits = 50
        for index in range(RUNS):
            for _ in range(edits):
                source.edit()
            trust = index > 0 and chance.random() < 0.7
            policy = ManifestPolicy(state_dir=f"{name}/state", trust_dst=trust)
            ran = run(src, dst, manifest=policy, delete=delete)
            assert (ran.code, ran.report.manifest_note) == (0, "")
            assert_same(src, dst)
            edits = chance.randrange(8)
