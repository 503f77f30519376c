"""What every test shares: the hypothesis profiles.

HYPOTHESIS_PROFILE in the environment selects one: `dev` is quick and the default, `ci` is what
`.ci/run` uses, `deep` searches for an hour or a night.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.kit.filesystems"]

# Examples copy trees: how long one takes says nothing about its worth.
SLOW_IS_FINE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

settings.register_profile("dev", SLOW_IS_FINE, max_examples=25)
# The same examples in every run: chance belongs to the deep profile.
settings.register_profile(
    "ci",
    SLOW_IS_FINE,
    max_examples=60,
    stateful_step_count=30,
    derandomize=True,
    print_blob=True,
)
settings.register_profile("deep", SLOW_IS_FINE, max_examples=5000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


@pytest.fixture(scope="session", autouse=True)
def all_states() -> Iterator[Path]:
    """Keep the manifests of all tests away from the user's, and where a barrier costs nothing."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    directory = Path(tempfile.mkdtemp(prefix="arsync-test-state-", dir=memory))
    directory.chmod(0o1777)
    with _states_in(directory):
        yield directory
    shutil.rmtree(directory)


@pytest.fixture(autouse=True)
def state_directory(all_states: Path) -> Iterator[None]:
    """Give each test an empty one: a run looks into every manifest that its directory holds."""
    directory = all_states / "test"
    directory.mkdir()
    directory.chmod(0o1777)
    with _states_in(directory):
        yield
    shutil.rmtree(directory)


@contextmanager
def _states_in(directory: Path) -> Iterator[None]:
    before = os.environ.get("ARSYNC_STATE_DIR")
    os.environ["ARSYNC_STATE_DIR"] = str(directory)
    try:
        yield
    finally:
        if before is None:
            del os.environ["ARSYNC_STATE_DIR"]
        else:
            os.environ["ARSYNC_STATE_DIR"] = before
