"""Fixtures of the tests against rsync."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.compat.arena import Arena
from tests.kit.filesystems import Filesystems
from tests.requirements import need_rsync, need_uring


@pytest.fixture(params=["uring", "sync"])
def arena(request: pytest.FixtureRequest, filesystems: Filesystems) -> Iterator[Arena]:
    """Lend a place on ext4 where rsync and one engine of arsync do the same work."""
    need_rsync()
    if request.param == "uring":
        need_uring()
    with filesystems.mount("ext4").directory() as place:
        yield Arena(place, request.param)
