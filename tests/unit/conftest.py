"""What tests of whole runs share: each engine in turn, and nothing left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.syncing import litter, open_descriptors
from tests.requirements import need_uring


@pytest.fixture(params=["uring", "sync"])
def engine(request: pytest.FixtureRequest) -> str:
    """Run the test once on each engine."""
    if request.param == "uring":
        need_uring()
    return str(request.param)


@pytest.fixture
def no_litter(tmp_path: Path) -> Iterator[None]:
    """Fail when a test leaves a temporary name, a descriptor or a thread."""
    before, threads = open_descriptors(), threading.active_count()
    yield
    assert litter(tmp_path) == []
    assert open_descriptors() == before
    assert threading.active_count() == threads
