"""Take a command line apart into options, in the order given, and operands.

Owns the spelling: bundled letters, `-oVALUE`, `-o VALUE`, `-o=VALUE`, `--name=VALUE`,
`--name VALUE`, `--no-name`, `--no-o`, options after operands, `--`. It must not know what an
option does. rsync takes no abbreviations of long names, so none are taken here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from arsync.cli.option import Option, Value
from arsync.cli.table import NOT_YET, NOT_YET_SHORT, OPTIONS
from arsync.errors import UsageError, quoted

__all__ = ["CommandLine", "Given", "read_words"]


@dataclass(frozen=True)
class Given:
    """Hold one occurrence of an option.

    Args:
        spelled: as it stood there, without its value.
        value: "" where it has none.
    """

    option: Option
    spelled: str
    value: str = ""
    negated: bool = False


@dataclass
class CommandLine:
    """Hold what stood on the command line.

    Args:
        ends_with: the option that made reading stop, --help or --version.
    """

    given: list[Given] = field(default_factory=list)
    operands: list[str] = field(default_factory=list)
    ends_with: Option | None = None


def read_words(words: Sequence[str], options: Iterable[Option] = OPTIONS) -> CommandLine:
    """Take the words after the command's name apart.

    Raises: UsageError for an option that does not exist, one that rsync has and arsync has not,
        a value that is missing or not wanted.
    """
    return _Reader(options).read(iter(words))


class _Reader:
    def __init__(self, options: Iterable[Option]) -> None:
        self.line = CommandLine()
        self.long: dict[str, tuple[Option, bool]] = {}
        self.short: dict[str, Option] = {}
        self.alone: dict[str, Option] = {}
        for option in options:
            self._add(option)

    def _add(self, option: Option) -> None:
        for name in option.names:
            self.long[name] = (option, False)
        if option.short:
            self.short[option.short] = option
        if option.alone:
            self.alone[f"-{option.alone}"] = option
        if option.negate:
            for name in (*option.names, option.short):
                if name:
                    self.long[f"no-{name}"] = (option, True)

    def read(self, words: Iterator[str]) -> CommandLine:
        for word in words:
            if word == "--":
                self.line.operands += words
            elif word.startswith("--"):
                self._read_long(word, words)
            elif word in self.alone:
                self._take(Given(self.alone[word], word, _next_word(word, words)))
            elif word.startswith("-") and word != "-":
                self._read_letters(word, words)
            else:
                self.line.operands.append(word)
            if self.line.ends_with:
                break
        return self.line

    def _read_long(self, word: str, words: Iterator[str]) -> None:
        name, equals, value = word[2:].partition("=")
        if name not in self.long:
            raise UsageError(self._unknown_long(name))
        option, negated = self.long[name]
        wants = Value.NONE if negated else option.value
        if equals and wants is Value.NONE:
            raise UsageError(f"--{name} takes no value, but {quoted(value)} is given")
        if wants is Value.REQUIRED and not equals:
            value = _next_word(f"--{name}", words)
        self._take(Given(option, f"--{name}", value, negated))

    def _read_letters(self, word: str, words: Iterator[str]) -> None:
        for at, letter in enumerate(word[1:], start=1):
            option = self.short.get(letter)
            if option is None:
                raise UsageError(self._unknown_letter(letter, word))
            if option.value is Value.REQUIRED:
                attached = word[at + 1 :]
                value = attached.removeprefix("=") if attached else _next_word(f"-{letter}", words)
                self._take(Given(option, f"-{letter}", value))
                return
            self._take(Given(option, f"-{letter}"))

    def _take(self, given: Given) -> None:
        self.line.given.append(given)
        if given.option.ends and not self.line.ends_with:
            self.line.ends_with = given.option

    def _unknown_long(self, name: str) -> str:
        base = name.removeprefix("no-")
        if base in NOT_YET or base in NOT_YET_SHORT:
            return f"--{name} is rsync's, but not in arsync yet"
        near = _nearest(name, [*self.long, *NOT_YET])
        hint = f" (did you mean {' or '.join(f'--{other}' for other in near)}?)" if near else ""
        return f"there is no option {quoted(f'--{name}')}{hint}"

    def _unknown_letter(self, letter: str, word: str) -> str:
        inside = "" if len(word) == 2 else f" in {quoted(word)}"
        if letter in NOT_YET_SHORT:
            return f"-{letter}{inside} is rsync's, but not in arsync yet"
        near = _nearest(word[1:], list(self.long)) if len(word) > 3 else []
        hint = f" (did you mean --{near[0]}?)" if near else ""
        return f"there is no option {quoted(f'-{letter}')}{inside}{hint}"


def _next_word(spelled: str, words: Iterator[str]) -> str:
    try:
        return next(words)
    except StopIteration:
        raise UsageError(f"{spelled} needs a value") from None


def _nearest(name: str, names: list[str]) -> list[str]:
    # difflib takes 4 ms to import; only a mistake pays for it.
    from difflib import get_close_matches

    return get_close_matches(name, sorted(names), n=2, cutoff=0.7)
