"""Completion: the scripts of the shells, what arsync answers to them, and what is completed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.shells import ALL, TAB, fish_offers, typed_into
from tests.requirements import need_command, skip_without

SHELLS = ["bash", "zsh", "fish"]

# What is typed before a tab and what it becomes, in the directory that `place` makes.
COMPLETED = {
    "arsync --que": ["--queue-depth"],
    "arsync --no-pe": ["--no-perms"],
    "arsync docto": ["doctor"],
    "arsync -a docto": ["-a", "docto"],
    "arsync --engine s": ["--engine", "sync"],
    "arsync --engine=s": ["--engine=sync"],
    "arsync -av --reflink=al": ["-av", "--reflink=always"],
    "arsync --temp-dir sr": ["--temp-dir", "src"],
    "arsync --temp-dir=sr": ["--temp-dir=src"],
    "arsync --log-file=lo": ["--log-file=log"],
    "arsync sr": ["src"],
    "arsync lo": ["log"],
    "arsync src/ tw": ["src/", "two words"],
    "arsync two\\ w": ["two words"],
    "arsync doctor --js": ["doctor", "--json"],
    "arsync doctor sr": ["doctor", "src"],
    "arsync sync --queue-d": ["sync", "--queue-depth"],
    "arsync mani": ["manifest"],
    "arsync manifest sh": ["manifest", "show"],
    "arsync manifest export --format=mt": ["manifest", "export", "--format=mtree"],
    "arsync manifest show --state-dir sr": ["manifest", "show", "--state-dir", "src"],
    "arsync manifest stat sr": ["manifest", "stat", "src"],
    "arsync status --js": ["status", "--json"],
    "arsync help doct": ["help", "doctor"],
}


def answer(shell: str, line: str) -> list[str]:
    """Return the lines with which arsync answers the script of a shell, the cursor at the end."""
    words = line.split(" ")
    number = words[-1] if shell == "fish" else str(len(words) - 1)
    variables = {"COMP_WORDS": line, "COMP_CWORD": number, "_ARSYNC_COMPLETE": f"{shell}_complete"}
    return arsync(**variables).stdout.splitlines()


def arsync(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the program in a process of its own."""
    command = [sys.executable, "-m", "arsync", *words]
    environment = {**os.environ, **variables}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Make a directory with two others and a file in it."""
    place = tmp_path / "place"
    for name in ("src", "two words", "double"):
        (place / name).mkdir(parents=True)
    (place / "log").touch()
    return place


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Make an empty directory for a shell."""
    home = tmp_path / "home"
    home.mkdir()
    return home


# --------------------------------------------------------------------- in the shells


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_what_a_tab_makes_of_a_line(shell: str, place: Path, home: Path) -> None:
    """Options, their values, commands and paths, in the shell itself."""
    if shell == "bash":
        need_command("bash")
    skip_without(shutil.which(shell) is not None, f"needs {shell}")
    with typed_into(shell, place, home) as session:
        became = {line: session.arguments(line + TAB) for line in COMPLETED}
    # A directory gets a slash; zsh takes it away again when the line ends there.
    assert {line: [word.rstrip("/") for word in words] for line, words in became.items()} == {
        line: [word.rstrip("/") for word in words] for line, words in COMPLETED.items()
    }


def test_bash_offers_commands_beside_directories(place: Path, home: Path) -> None:
    """A command that fits does not hide the directory that somebody wants to copy."""
    need_command("bash")
    with typed_into("bash", place, home) as session:
        assert session.arguments("arsync do" + ALL) == ["doctor", "double"]
        assert session.arguments("arsync --engine=" + ALL) == ["--engine=auto", "uring", "sync"]


def test_what_fish_offers(place: Path, home: Path) -> None:
    """The same lines: what is offered stands for the whole last word."""
    skip_without(shutil.which("fish") is not None, "needs fish")
    for line, words in COMPLETED.items():
        offered = [one.rstrip("/") for one in fish_offers(line, place, home)]
        is_whole = words[-1] == line.split(" ")[-1]
        assert offered == ([] if is_whole else [words[-1]]), line


# ------------------------------------------------------------------- what they are told


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_has_a_script(shell: str) -> None:
    """The command and the variable that click knows print the same; it asks in that shell's way."""
    printed = arsync("completion", shell)
    assert (printed.returncode, printed.stderr) == (0, "")
    assert f"_ARSYNC_COMPLETE={shell}_complete" in printed.stdout
    assert printed.stdout.endswith("\n")
    assert arsync(_ARSYNC_COMPLETE=f"{shell}_source").stdout == printed.stdout


def test_another_shell_is_refused_by_its_name() -> None:
    """The message names the argument and the shells there are."""
    refused = arsync("completion", "foo")
    assert refused.returncode == 1
    assert refused.stderr == (
        "arsync: invalid value for 'SHELL': 'foo' is not one of 'bash', 'zsh', 'fish'\n"
    )


def test_the_script_of_bash_is_well_formed() -> None:
    """It is read without a word, also where unset names are errors."""
    need_command("bash")
    script = 'set -eu; eval "$SCRIPT"; complete -p arsync'
    environment = {**os.environ, "SCRIPT": arsync("completion", "bash").stdout}
    done = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "complete -o nosort -F _arsync_completion arsync\n"


@pytest.mark.parametrize(
    ("line", "wanted", "unwanted"),
    [
        ("arsync --que", {"plain,--queue-depth"}, set()),
        ("arsync d", {"plain,doctor", "file,d"}, {"plain,sync"}),
        ("arsync ", {"plain,sync", "plain,doctor", "plain,completion", "plain,help"}, set()),
        ("arsync -a d", {"file,d"}, {"plain,doctor"}),
        ("arsync --no-d", {"plain,--no-dirs", "plain,--no-dry-run"}, set()),
        ("arsync --engine s", {"plain,sync"}, {"plain,auto"}),
        ("arsync --engine=s", {"plain,sync"}, {"plain,auto", "file,s"}),
        ("arsync --temp-dir x", {"dir,x"}, {"file,x"}),
        ("arsync --temp-dir=x", {"dir,x"}, {"file,x"}),
        ("arsync --log-file=x", {"file,x"}, {"dir,x"}),
        ("arsync --preserve-", {"plain,--preserve-xattr", "plain,--preserve-acl"}, set()),
        ("arsync doctor --j", {"plain,--json"}, set()),
        ("arsync sync --js", {"plain,--json"}, set()),
        ("arsync sync d", {"file,d"}, {"plain,doctor"}),
        ("arsync completion f", {"plain,fish"}, {"plain,bash"}),
    ],
)
def test_answers(line: str, wanted: set[str], unwanted: set[str]) -> None:
    """Commands are offered as the first word only, options and choices wherever they stand."""
    found = set(answer("bash", line))
    assert wanted <= found
    assert not unwanted & found


@pytest.mark.parametrize(
    ("shell", "line", "expected"),
    [
        ("zsh", "arsync doct", ["plain", "doctor", "say what this machine can do", "file", "doct"]),
        ("zsh", "arsync --engine=u", ["plain", "uring", "_"]),
        ("zsh", "arsync --temp-dir x", ["dir", "x", "_"]),
        ("zsh", "arsync --que", ["plain", "--queue-depth", "entries of a lane's ring"]),
        ("fish", "arsync doct", ["plain,doctor\tsay what this machine can do", "file,doct"]),
        ("fish", "arsync --engine u", ["plain,uring"]),
        ("fish", "arsync --temp-dir=x", ["dir,x"]),
        ("fish", "arsync --que", ["plain,--queue-depth\tentries of a lane's ring"]),
    ],
)
def test_answers_to_zsh_and_fish(shell: str, line: str, expected: list[str]) -> None:
    """Each in the form that its script reads, with the line of help."""
    found = answer(shell, line)
    assert len(found) >= len(expected)
    for text, start in zip(found, expected, strict=False):
        assert text.startswith(start)


def test_the_cursor_need_not_be_at_the_end_of_a_word() -> None:
    """After a blank nothing of a word is there yet; an open quote is no error."""
    assert "plain,uring" in answer("bash", "arsync --engine ")
    assert answer("bash", "arsync 'two wo") == ["file,two wo"]


def test_a_wrong_instruction_is_refused() -> None:
    """A variable set to nonsense is a usage error, not a run."""
    for instruction in ("tcsh_complete", "bash", "bash_complain"):
        result = arsync("src", "dst", _ARSYNC_COMPLETE=instruction)
        assert result.returncode == 1
        assert f"'{instruction}' is no instruction" in result.stderr
