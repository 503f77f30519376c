"""How a command line is taken apart: spelling only."""

import pytest

from arsync.cli.words import CommandLine, read_words
from arsync.errors import UsageError


def spelled(line: CommandLine) -> list[tuple[str, str]]:
    """Return what was given, with values, in order."""
    return [(item.spelled, item.value) for item in line.given]


@pytest.mark.parametrize(
    ("words", "given", "operands"),
    [
        ("-aAXHvi s d", "-a -A -X -H -v -i", "s d"),
        ("s -a d -v", "-a -v", "s d"),
        ("-a -- -v d", "-a", "-v d"),
        ("-- s --", "", "s --"),
        ("- d", "", "- d"),
        ("-T /t s d", "-T=/t", "s d"),
        ("-T/t s d", "-T=/t", "s d"),
        ("-T=/t s d", "-T=/t", "s d"),
        ("-aT /t s d", "-a -T=/t", "s d"),
        ("-aT/tv s d", "-a -T=/tv", "s d"),
        ("--temp-dir /t s d", "--temp-dir=/t", "s d"),
        ("--temp-dir=/t=u s d", "--temp-dir=/t=u", "s d"),
        ("--temp-dir -a s d", "--temp-dir=-a", "s d"),
        ("-e ssh s d", "-e=ssh", "s d"),
        ("-B 700 s d", "-B=700", "s d"),
        ("--no-o --no-owner --no-D s d", "--no-o --no-owner --no-D", "s d"),
        ("--no-i-r --i-r s d", "--no-i-r --i-r", "s d"),
        ("--fsync none d", "--fsync", "none d"),
        ("--fsync=none s d", "--fsync=none", "s d"),
        ("--preserve-xattr --preserve-acl s d", "--preserve-xattr --preserve-acl", "s d"),
    ],
)
def test_words_are_read_as_rsync_reads_them(words: str, given: str, operands: str) -> None:
    """Bundles, attached values, options after operands, `--`, and values only after `=`."""
    line = read_words(words.split())
    wanted = [tuple(item.partition("=")[::2]) for item in given.split()]
    assert spelled(line) == wanted
    assert line.operands == operands.split()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--arhcive s d", "there is no option '--arhcive' (did you mean --archive?)"),
        ("--recursiv s d", "did you mean --recursive"),
        ("--rec s d", "there is no option '--rec'"),
        ("-Y s d", "there is no option '-Y'"),
        ("-aYv s d", "there is no option '-Y' in '-aYv'"),
        ("-aEv s d", "rsync's, but not in arsync yet"),
        ("--no-archive s d", "there is no option '--no-archive'"),
        ("--no-foo s d", "there is no option '--no-foo'"),
        ("--recursive=1 s d", "--recursive takes no value, but '1' is given"),
        ("--archive= s d", "--archive takes no value, but '' is given"),
        ("--no-bwlimit=5 s d", "--no-bwlimit takes no value"),
        ("--temp-dir", "--temp-dir needs a value"),
        ("-aT", "-T needs a value"),
        ("--append s d", "--append is rsync's, but not in arsync yet"),
        ("--no-iconv s d", "--no-iconv is rsync's, but not in arsync yet"),
        ("--no-E s d", "--no-E is rsync's, but not in arsync yet"),
        ("-aE s d", "-E in '-aE' is rsync's, but not in arsync yet"),
        ("-y s d", "-y is rsync's, but not in arsync yet"),
        ("--iconv=x s d", "--iconv is rsync's, but not in arsync yet"),
    ],
)
def test_what_cannot_be_read_says_why(words: str, message: str) -> None:
    """A usage error quotes the word, names near options, and tells rsync's from nobody's."""
    with pytest.raises(UsageError) as caught:
        read_words(words.split())
    assert message in str(caught.value)


def test_nothing_after_help_is_read() -> None:
    """As in rsync, --help wins over mistakes that stand after it."""
    line = read_words(["-a", "--help", "--bogus"])
    assert line.ends_with is not None
    assert line.ends_with.key == "--help"


def test_control_characters_of_a_word_are_escaped() -> None:
    """An option cannot move the cursor of whoever reads the message."""
    with pytest.raises(UsageError) as caught:
        read_words(["--x\x1b[2J"])
    assert "\x1b" not in str(caught.value)
    assert "\\#033" in str(caught.value)
