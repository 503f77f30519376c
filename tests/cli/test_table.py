"""The table of options beside what rsync has: nothing is forgotten, nothing is there twice."""

import re
import subprocess
from pathlib import Path

import pytest

from arsync.cli.option import Topic, Value
from arsync.cli.table import NOT_YET, NOT_YET_SHORT, OPTIONS
from arsync.cli.words import read_words
from arsync.errors import UsageError
from tests.requirements import need_rsync

LONG = {name for option in OPTIONS for name in option.names}
SHORT = {option.short for option in OPTIONS if option.short}

# What the wish list asks for in this part, as a user types it.
ASKED_FOR = """
    -a -r -d -l -p -t -g -o -D -H -A -X -S -U -O -J -x -W -v -q -n -i -h -R -L -k -K -z -P
    --inplace --numeric-ids --usermap=0:0 --groupmap=0:0 --chown=0:0 --chmod=u+r --copy-links
    --copy-dirlinks --keep-dirlinks --safe-links --copy-unsafe-links --temp-dir=/ --preallocate
    --mkpath --stats --progress --info=progress2 --out-format=%n --log-file=/l --bwlimit=1
    --partial --partial-dir=p --fsync --rsh=ssh --preserve-xattr --preserve-acl --engine=auto
    --cpu-count=1 --queue-depth=1 --max-files-in-flight=1 --buffer-size=4k --max-memory=1g
    --copy-method=auto --reflink=auto --scan-threads=1 --json
    -u -I -@1 --update --ignore-times --size-only --existing --ignore-non-existing --ignore-existing
    --modify-window=1 --remove-source-files -b --backup --backup-dir=b --suffix=.old
""".split()  # noqa: SIM905 (one a line hides the list)


def rsync_help() -> tuple[set[str], set[str]]:
    """Return the long names (those without --no-) and the letters of `rsync --help`."""
    text = subprocess.run(["rsync", "--help"], capture_output=True, text=True, check=True).stdout
    lines = [line for line in text.splitlines() if line.startswith("-")]
    names: set[str] = set()
    letters: set[str] = set()
    for line in lines:
        head = re.split(r"\s{2,}| \(\*\)", line)[0]
        names |= set(re.findall(r"--([\w-]+)", head)) | set(re.findall(r"aka --(\w+)", line))
        letters |= set(re.findall(r"(?:^|, )-([^-\s,])(?:$|,)", head))
    return {name.removeprefix("no-") for name in names} - {"OPTION", "W"}, letters


def test_every_option_of_rsync_has_an_answer() -> None:
    """Each name and letter of rsync is in the table or named as not there yet, never in both."""
    need_rsync()
    names, letters = rsync_help()
    assert len(names) > 140
    assert len(letters) > 40
    assert names - LONG - NOT_YET == set()
    assert letters - SHORT - NOT_YET_SHORT == set()
    assert LONG.isdisjoint(NOT_YET)
    assert SHORT.isdisjoint(NOT_YET_SHORT)


def test_every_negation_of_rsync_has_an_answer() -> None:
    """What rsync takes back by --no-NAME, arsync does, or says that the option is not there yet."""
    need_rsync()
    negated = {
        name for option in OPTIONS if option.negate for name in (*option.names, option.short)
    }
    names = LONG | SHORT | NOT_YET | NOT_YET_SHORT
    theirs = {
        name
        for name in names
        if not subprocess.run(
            ["rsync", f"--no-{name}", "--version"], capture_output=True
        ).returncode
    }
    assert {"perms", "p", "D", "bwlimit", "old-args"} <= theirs
    assert theirs - negated - NOT_YET - NOT_YET_SHORT == set()


@pytest.mark.parametrize("name", sorted(NOT_YET))
def test_what_is_not_there_yet_says_so(name: str) -> None:
    """An option that only rsync has is called rsync's, in both forms."""
    for word in (f"--{name}", f"--{name}=x", f"--no-{name}"):
        with pytest.raises(UsageError, match=f"^--(no-)?{name} is rsync's, but not in arsync yet"):
            read_words([word, "s", "d"])


@pytest.mark.parametrize("word", ASKED_FOR)
def test_what_was_asked_for_is_there(word: str) -> None:
    """Each option of the wish list is read."""
    words = [word, "ssh"] if word == "-e" else [word]
    assert len(read_words(words).given) == 1


def test_names_and_letters_are_unique() -> None:
    """No name and no letter belongs to two options, nor to a --no- form."""
    names = [name for option in OPTIONS for name in option.names]
    names += [f"no-{name}" for option in OPTIONS if option.negate for name in option.names]
    letters = [option.short for option in OPTIONS if option.short]
    assert len(names) == len(set(names))
    assert len(letters) == len(set(letters))


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.key)
def test_switches_have_both_forms(option: object) -> None:
    """A switch has a --no- form; -a, -P, --help and --version have none, as in rsync."""
    without = {"--archive", "--cvs-exclude", "-F", "-P", "--help", "--version"}
    if option.value is Value.NONE and option.key not in without:
        spelled = f"--no-{(*option.names, option.short)[0]}"
        assert read_words([spelled]).given[0].negated


def test_what_has_no_effect_is_listed_as_such() -> None:
    """An option whose occurrence changes nothing stands under the heading that says so."""
    quiet = {option.key for option in OPTIONS if option.topic is Topic.ACCEPTED}
    assert {"--compress", "--rsh", "--partial", "--partial-dir", "--block-size", "--fsync"} <= quiet
    assert "-P" not in quiet


MANUAL = Path(__file__).parents[2] / "docs" / "manual.md"


def test_manual_has_every_option() -> None:
    """The manual's tables show each option with its letter and its aliases."""
    text = MANUAL.read_text()
    missing = [name for name in sorted(LONG) if f"`--{name}" not in text]
    missing += [letter for letter in sorted(SHORT) if f"`-{letter}" not in text]
    assert missing == []
