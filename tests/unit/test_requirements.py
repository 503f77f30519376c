"""Tests are skipped in one place, and not at all where they must run."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests import requirements

TESTS = Path(__file__).resolve().parents[1]
SKIPPING = {"skip", "skipif", "importorskip", "skipTest", "SkipTest"}


def test_a_missing_feature_skips_for_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a user's machine the reason names what is missing."""
    monkeypatch.delenv("ARSYNC_MUST_RUN", raising=False)
    with pytest.raises(pytest.skip.Exception, match="arsync-no-such-command"):
        requirements.need_command("arsync-no-such-command")


def test_a_missing_feature_fails_where_tests_must_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """With ARSYNC_MUST_RUN=1 the same lack is a failure."""
    monkeypatch.setenv("ARSYNC_MUST_RUN", "1")
    with pytest.raises(pytest.fail.Exception, match="arsync-no-such-command"):
        requirements.need_command("arsync-no-such-command")


def test_what_is_there_lets_the_test_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that exists neither skips nor fails."""
    monkeypatch.setenv("ARSYNC_MUST_RUN", "1")
    requirements.need_command("sh")


def test_what_ci_may_lack_is_skipped_there_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """skip_without is for features that no test run can count on."""
    monkeypatch.setenv("ARSYNC_MUST_RUN", "1")
    with pytest.raises(pytest.skip.Exception, match="SELinux"):
        requirements.skip_without(False, "needs SELinux")


def test_no_other_file_skips() -> None:
    """Every skip goes through tests/requirements.py, or a test could vanish unnoticed."""
    own = {TESTS / "requirements.py", Path(__file__).resolve()}
    skips = [
        f"{path.relative_to(TESTS)}:{node.lineno}"
        for path in sorted(TESTS.rglob("*.py"))
        if path not in own
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in SKIPPING
    ]
    assert skips == []
