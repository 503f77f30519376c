"""The program as a person calls it: commands, help, exit codes, messages."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from arsync import errors
from arsync.cli import run as run_module
from arsync.cli.draft import INFO_LEVELS, SILENT_INFO
from arsync.cli.help import sync_help
from arsync.cli.run import COMMANDS, load_command, run
from arsync.cli.table import OPTIONS
from tests.requirements import need_rsync

MANUAL = Path(__file__).parents[2] / "docs" / "manual.md"


def arsync(*words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run the program in a process of its own."""
    command = [sys.executable, "-m", "arsync", *words]
    environment = {**os.environ, **variables}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "SRC and DST are missing"),
        (["-a"], "SRC and DST are missing"),
        (["src"], "DST is missing after 'src' (rsync would list it"),
        (["doctr"], "did you mean the command 'doctor'?"),
        (["-v", "doctor"], "DST is missing after 'doctor'"),
        (["sync", "src"], "DST is missing after 'src'"),
        (["host:src", "dst"], "'host:src' is on another machine, and arsync is local"),
        (["src", "me@host:"], "'me@host:' is on another machine"),
        (["src", "host::module"], "'host::module' is on another machine"),
        (["rsync://host/module", "dst"], "'rsync://host/module' is on another machine"),
        (["src", "[::1]:dst"], "'[::1]:dst' is on another machine"),
        (["", "dst"], "an operand is empty"),
        (["--bogus", "src", "dst"], "there is no option '--bogus'"),
        (["--append", "src", "dst"], "--append is rsync's, but not in arsync yet"),
        (["--queue-depth=0", "src", "dst"], "--queue-depth: 0 is out of range (1 to 32768)"),
        (["-T", "/no/such", "/dev/null", "."], "cannot use the directory '/no/such': No such file"),
        (["-T", "/dev/null", "/dev/null", "."], "cannot use the directory '/dev/null': Not a dir"),
        (["help", "nix"], "there is no command 'nix'"),
        (["completion"], "missing argument"),
        (["completion", "tcsh"], "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
        (["doctor", "--bogus"], "no such option"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_1(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistake of the user is one line on standard error, lower case, without a full stop."""
    assert run(words) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert re.fullmatch(r"arsync: [^A-Z\n].*[^.\n]\n|arsync: SRC and.*\n|arsync: DST is.*\n", err)


@pytest.mark.parametrize("name", ["./host:x", "a/b:c", "/x:y", "./rsync://h"])
def test_a_colon_after_a_slash_is_local(name: str) -> None:
    """As in rsync, a colon after the first slash belongs to a local name."""
    from arsync.cli.operands import check_operands

    assert check_operands([name, "dst"], COMMANDS) == ([name], "dst")


@pytest.mark.parametrize("words", [["--info=help"], ["-a", "--info", "name,HELP3", "src", "dst"]])
def test_info_explains_itself(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """--info=help names every name that --info takes, needs no operands, and copies nothing."""
    assert run(words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert max(map(len, out.splitlines())) <= 80
    said = set(re.findall(r"\w+", out))
    assert {*INFO_LEVELS, *SILENT_INFO, "all", "none", "help"} <= said
    need_rsync()
    theirs = subprocess.run(["rsync", "--info=help"], capture_output=True, text=True, check=True)
    assert {name.lower() for name in re.findall(r"^[A-Z]+(?= )", theirs.stdout, re.M)} <= said


def test_a_command_is_one_as_first_word_only() -> None:
    """`-a doctor DST` and `./doctor DST` are sources; `doctor` first is the command."""
    assert "arsync doctor" in run_help("doctor")
    result = CliRunner().invoke(load_command("doctor"), ["--help"])
    assert result.exit_code == 0


def run_help(name: str) -> str:
    """Return `arsync help NAME`."""
    return CliRunner().invoke(load_command("help"), [name]).output


@pytest.mark.parametrize(
    "words", [["--help"], ["-h"], ["help"], ["sync", "--help"], ["help", "sync"]]
)
def test_help_is_the_same_however_it_is_asked_for(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """--help, a lone -h and the command show the same text and succeed."""
    assert run(words) == 0
    assert capsys.readouterr().out == sync_help()


def test_help_fits_80_columns_and_has_every_option() -> None:
    """No line is longer than 80 columns, and each option stands there once, by its topic."""
    text = sync_help()
    assert max(map(len, text.splitlines())) <= 80
    for option in OPTIONS:
        assert option.key in text
        assert option.topic.value in text


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_command_has_help(name: str) -> None:
    """Each command can be asked what it does, and fits 80 columns."""
    text = run_help(name)
    assert max(map(len, text.splitlines())) <= 80
    assert "Usage: arsync" in text


def test_version_imports_nothing_heavy() -> None:
    """--version does without rich, cffi or click."""
    script = (
        "import sys; before = set(sys.modules);"
        "import arsync.cli; from arsync.cli.run import run; run(['--version']);"
        "heavy = {'rich', 'cffi', '_cffi_backend', 'click', 'json'};"
        "print(*heavy & set(sys.modules) - before)"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    lines = out.stdout.splitlines()
    assert re.fullmatch(r"arsync \d+\.\d+.*", lines[0])
    assert lines[1:] in ([], [""])


@pytest.mark.parametrize(
    "kind", errors.ArsyncError.__subclasses__(), ids=lambda kind: kind.__name__
)
def test_each_error_ends_with_its_code(
    kind: type[errors.ArsyncError],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The code on the class is the code of the process; only a bug shows a traceback."""
    assert run_raising(kind("it went wrong"), monkeypatch) == kind.exit_code
    err = capsys.readouterr().err
    assert ("Traceback" in err) == (kind is errors.InternalError)
    assert "it went wrong" in err


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (KeyboardInterrupt(), 20, "arsync: interrupted\n"),
        (errors.Interrupted("stopped; the same command goes on"), 20, "the same command goes on"),
        (MemoryError(), 22, "arsync: out of memory\n"),
        (BrokenPipeError(), 11, ""),
        (ValueError("two and two"), 70, "this is a bug in arsync"),
    ],
)
def test_whatever_ends_a_run_has_a_code(
    error: BaseException,
    code: int,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Signals, memory, a reader that left and bugs each have their code."""
    assert run_raising(error, monkeypatch) == code
    err = capsys.readouterr().err
    assert text in err
    assert bool(err) == bool(text)


def run_raising(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a command line that ends in this error."""

    def fail(_words: object) -> int:
        raise error

    monkeypatch.setattr(run_module, "_dispatch", fail)
    return run(["src", "dst"])


def test_control_characters_of_a_message_are_escaped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever a message holds, it is one line and leaves the cursor alone."""
    run_raising(errors.FileError("cannot open 'a\x1b[31m\nb\udcff'"), monkeypatch)
    assert capsys.readouterr().err == "arsync: cannot open 'a\\#033[31m\\#012b\\#377'\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_standard_output_is_an_error(unbuffered: str) -> None:
    """What cannot be printed is not silently lost, be it written at once or at the end."""
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "arsync", "--version"],
            stdout=full,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            text=True,
            check=False,
        )
    assert result.returncode == 11
    assert result.stderr == "arsync: cannot write to standard output: No space left on device\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_leaves_is_no_reason_to_say_anything(unbuffered: str) -> None:
    """`arsync --help | true` prints nothing on standard error."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    result = subprocess.run(
        [sys.executable, "-m", "arsync", "--help"],
        stdout=write_end,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        check=False,
    )
    os.close(write_end)
    assert (result.returncode, result.stderr) == (11, b"")


def test_manual_lists_the_exit_codes_of_the_classes() -> None:
    """The manual's table and the classes have the same codes with the same meanings."""
    section = MANUAL.read_text().split("## Exit codes")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\d+) \| ([^|]*?)(?: \([^|]*\))? \|", section, re.MULTILINE)
    assert {int(code): text for code, text in rows if code != "12"} == errors.exit_codes()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"plain name", "'plain name'"),
        ("grüße", "'grüße'"),
        (b"tab\there", "'tab\\#011here'"),
        (b"bad\xff", "'bad\\#377'"),
        ("\x85\u2028", "'\\#302\\#205\\#342\\#200\\#250'"),
        (Path("a/b"), "'a/b'"),
    ],
)
def test_names_are_quoted_on_one_line(name: "bytes | str | Path", text: str) -> None:
    """A name is shown as rsync shows it, with no control character left."""
    assert errors.quoted(name) == text


def test_a_failure_says_what_on_which_name_and_why() -> None:
    """The sentence has the operation, the quoted name and errno's text, whatever errno's sign."""
    assert errors.describe("open", b"a/b", 13) == "cannot open 'a/b': Permission denied"
    assert errors.describe("open", b"a/b", -13) == "cannot open 'a/b': Permission denied"
