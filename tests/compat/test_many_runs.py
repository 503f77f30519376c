"""Runs that remember: after any edits, on either side, rsync -c makes the same of the same."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from errno import ENOTEMPTY
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from arsync.errors import ManifestCorruptError
from arsync.manifest.places import find
from arsync.options import DeletePolicy, ManifestPolicy
from tests.kit import assert_same, read
from tests.kit.programs import run_rsync
from tests.kit.snapshot import without_now
from tests.kit.syncing import FULL, Ran, run
from tests.requirements import need_rsync

NAMES = ("a", "b", "c", "d")
PATHS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)
CONTENTS = st.binary(max_size=20)
TIMES = st.integers(1, 3).map(lambda seconds: seconds * 10**18)
SIDES = st.sampled_from(("src", "dst"))
PAGE = 4096

Edit = Callable[[Path], None]


def remove(path: Path) -> None:
    """Remove whatever has the path."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class Runs(RuleBasedStateMachine):
    """Edit a source and two equal destinations, and hold what the two programs make of them."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp(prefix="arsync-test-"))
        self.settled = False
        self.begun_ns = time.time_ns()

    @initialize()
    def begin(self) -> None:
        """Make the trees, and record them."""
        for name in ("src", "dst", "rsync"):
            (self.place / name).mkdir()
        for directory in ("a", "b", "a/c"):
            (self.place / "src" / directory).mkdir()
        for number, path in enumerate(("c", "d", "a/a", "a/c/b", "b/d")):
            (self.place / "src" / path).write_bytes(b"content %d" % number)
        self.sync(delete="never", options=[])

    def teardown(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.place)

    # ------------------------------------------------------------------- edits

    def edit(self, side: str, change: Edit) -> None:
        """Make one change, on the destination's side to both; what cannot be done is not."""
        self.settled = False
        for root in ("src",) if side == "src" else ("dst", "rsync"):
            with suppress(OSError):
                change(self.place / root)

    @rule(side=SIDES, path=PATHS, content=CONTENTS, time_ns=TIMES)
    def write(self, side: str, path: str, content: bytes, time_ns: int) -> None:
        """Write a file as it stands, with an mtime of few."""

        def change(root: Path) -> None:
            if (root / path).is_symlink():
                return
            (root / path).write_bytes(content)
            os.utime(root / path, ns=(time_ns, time_ns))

        self.edit(side, change)

    @rule(side=SIDES, path=PATHS, byte=st.integers(0, 255))
    def rewrite(self, side: str, path: str, byte: int) -> None:
        """Change the first byte of a file and put the mtime back."""

        def change(root: Path) -> None:
            if (root / path).is_symlink() or not (root / path).is_file():
                return
            before = os.stat(root / path)
            with (root / path).open("r+b") as file:
                file.write(bytes([byte]) if before.st_size else b"")
            os.utime(root / path, ns=(before.st_atime_ns, before.st_mtime_ns))

        self.edit(side, change)

    @rule(side=SIDES, path=PATHS, size=st.integers(0, 9000))
    def truncate(self, side: str, path: str, size: int) -> None:
        """Make a file shorter or longer."""

        def change(root: Path) -> None:
            if not (root / path).is_symlink():
                os.truncate(root / path, size)
                os.utime(root / path, ns=(7 * 10**17 + size, 7 * 10**17 + size))

        self.edit(side, change)

    @rule(side=SIDES, path=PATHS)
    def make_directory(self, side: str, path: str) -> None:
        """Make a directory."""

        def change(root: Path) -> None:
            (root / path).mkdir()
            os.utime(root / path, ns=(5, 5))

        self.edit(side, change)

    @rule(side=SIDES, path=PATHS)
    def delete(self, side: str, path: str) -> None:
        """Remove an entry, with all that is in it."""
        self.edit(side, lambda root: remove(root / path))

    @rule(side=SIDES, path=PATHS, other=PATHS)
    def rename(self, side: str, path: str, other: str) -> None:
        """Rename an entry, over what is there where that is possible."""
        self.edit(side, lambda root: os.rename(root / path, root / other))

    @rule(side=SIDES, path=PATHS, other=PATHS)
    def link(self, side: str, path: str, other: str) -> None:
        """Give a file a further name."""
        self.edit(side, lambda root: os.link(root / path, root / other, follow_symlinks=False))

    @rule(side=SIDES, path=PATHS, to=st.sampled_from((*NAMES, "../c", "nowhere")))
    def point(self, side: str, path: str, to: str) -> None:
        """Make a symlink."""
        self.edit(side, lambda root: os.symlink(to, root / path))

    @rule(side=SIDES, path=PATHS, mode=st.sampled_from((0o600, 0o644, 0o755, 0o4711)))
    def chmod(self, side: str, path: str, mode: int) -> None:
        """Change the mode."""
        self.edit(side, lambda root: os.chmod(root / path, mode))

    @rule(side=SIDES, path=PATHS, value=st.binary(max_size=3))
    def set_xattr(self, side: str, path: str, value: bytes) -> None:
        """Set an attribute."""
        self.edit(side, lambda root: os.setxattr(root / path, "user.test", value))

    # ------------------------------------------------------------- the manifest

    @precondition(lambda self: self.settled)
    @rule()
    def lose_the_manifest(self) -> None:
        """Remove it all: the next run adopts what it finds, while nothing is hidden."""
        shutil.rmtree(self.place / "state")
        self.sync("never", [])

    @rule(number=st.integers(0, 10**6), content=st.binary(min_size=16, max_size=16))
    def damage_a_page(self, number: int, content: bytes) -> None:
        """Overwrite one page of the database; the run either sees it or does without."""
        if not (self.place / "state").exists():
            return
        database = find(self.place / "state", bytes(self.place / "dst")).store / "data.mdb"
        if not database.exists():
            return
        page = number % (database.stat().st_size // PAGE)
        with database.open("r+b") as file:
            file.seek(page * PAGE)
            file.write(content * (PAGE // 16))
        if isinstance(self.attempt("never", []).error, ManifestCorruptError):
            shutil.rmtree(self.place / "state")
        # What had been recorded may be lost, so what only it could show is found by content.
        self.sync("never", [], checksum=True)

    # --------------------------------------------------------------------- runs

    def attempt(self, delete: str, options: list[str], **settings: object) -> Ran:
        """Run arsync; nothing fails but what a directory with entries is in the way of."""
        ran = run(
            self.place / "src",
            self.place / "dst",
            FULL,
            manifest=ManifestPolicy(state_dir=str(self.place / "state")),
            delete=DeletePolicy(when=delete, allow_empty_source=True),
            inplace="--inplace" in options,
            sparse="-S" in options,
            **settings,
        )
        assert {errno for _, _, errno in ran.failed} <= {ENOTEMPTY}
        assert ran.error is not None or ran.code == (23 if ran.failed else 0)
        return ran

    @rule(
        delete=st.sampled_from(("never", "before", "after")),
        options=st.lists(st.sampled_from(("--inplace", "-S")), max_size=1),
        checksum=st.booleans(),
    )
    def sync(self, delete: str, options: list[str], checksum: bool = False) -> None:
        """Run both; rsync finds by -c what arsync finds by what it remembers."""
        ours = self.attempt(delete, options, checksum=checksum)
        if ours.error:
            raise ours.error
        wanted = {"never": [], "before": ["--delete-before"], "after": ["--delete-after"]}[delete]
        ran = run_rsync(["-aHAXc", *options, *wanted, "src/", "rsync/"], cwd=self.place)
        assert ran.code == ours.code, ran.stderr
        assert (b"cannot delete non-empty directory" in ran.stdout) == (ran.code == 23)
        # The directories that edits leave have the time of the edit.
        expected, found = (
            without_now(read(self.place / side), self.begun_ns) for side in ("rsync", "dst")
        )
        assert_same(expected, found)
        assert not list((self.place / "dst").rglob(".arsync.*"))
        self.settled = not ours.code


class TestRuns(Runs.TestCase):  # type: ignore[misc, name-defined]
    """Run the machine."""

    def setUp(self) -> None:
        """Skip where rsync is missing."""
        need_rsync()
