"""A source and its destination, which runs with a manifest keep equal."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

from arsync.manifest.places import find
from arsync.manifest.walk import walk
from arsync.options import ARCHIVE, DeletePolicy, ManifestPolicy, Preserve
from tests.kit.compare import assert_same
from tests.kit.syncing import Ran, run

DELETE = DeletePolicy(when="after")


class Trees:
    """Hold a source, its destination as a run has left it, and the runs that follow."""

    def __init__(self, path: Path, dst: Path | None = None) -> None:
        self.src, self.dst, self.state = path / "src", dst or path / "dst", path / "state"
        self.src.mkdir()

    def write(self, name: str | bytes, content: bytes = b"") -> Path:
        """Write a file of the source, with the directories on the way."""
        path = self.src / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content or os.fsencode(name) * 100)
        return path

    def sync(self, preserve: Preserve = ARCHIVE, **settings: Any) -> Ran:
        """Make the destination equal the source, with deletion unless the test says otherwise."""
        manifest = replace(
            settings.pop("manifest", ManifestPolicy()), state_dir=os.fspath(self.state)
        )
        settings.setdefault("delete", DELETE)
        ran = run(self.src, self.dst, preserve, manifest=manifest, **settings)
        assert ran.error is None, ran.error
        return ran

    def rename(self, old: str, new: str) -> None:
        """Rename something in the source, into directories that are made on the way."""
        (self.src / new).parent.mkdir(parents=True, exist_ok=True)
        (self.src / old).rename(self.src / new)

    def same(self, *, links: bool = True) -> None:
        """Hold both trees against each other, and see that rsync finds nothing to do."""
        assert_same(self.src, self.dst, links=links)
        rsync = ("rsync", "-ain", "--delete", f"{self.src}/", f"{self.dst}/")
        assert subprocess.run(rsync, check=True, capture_output=True).stdout == b""

    def check_manifest(self) -> None:
        """See that every entry of the store is sound."""
        walk(find(self.state, bytes(self.dst)).store)
