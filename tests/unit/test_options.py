"""The options of a run: ranges, choices, what excludes one another."""

import dataclasses

import pytest

from arsync.errors import UsageError
from arsync.options import (
    ARCHIVE,
    OPTION_OF,
    RANGES,
    DeletePolicy,
    EngineOptions,
    OutputOptions,
    Preserve,
    SyncOptions,
    UpdatePolicy,
    WritePolicy,
)

OWNER_OF = {
    name: kind
    for kind in (
        *(EngineOptions, UpdatePolicy, DeletePolicy, WritePolicy, SyncOptions, OutputOptions),
    )
    for name in (field.name for field in dataclasses.fields(kind))
}


@pytest.mark.parametrize("name", sorted(RANGES))
def test_both_ends_of_a_range_are_allowed(name: str) -> None:
    """Both ends of a range can be given, and are kept as they are."""
    for value in RANGES[name]:
        assert getattr(OWNER_OF[name](**{name: value}), name) == value


@pytest.mark.parametrize("name", sorted(RANGES))
def test_one_step_outside_a_range_is_refused(name: str) -> None:
    """One step outside is a usage error with the option and the range in it; nothing clamps."""
    low, high = RANGES[name]
    for value in (low - 1, high + 1):
        with pytest.raises(UsageError) as caught:
            OWNER_OF[name](**{name: value})
        message = str(caught.value)
        assert message == f"{OPTION_OF[name]}: {value} is out of range ({low} to {high})"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (EngineOptions, "engine"),
        (EngineOptions, "copy_method"),
        (EngineOptions, "reflink"),
    ],
)
def test_a_word_that_is_no_choice_is_refused(kind: type, name: str) -> None:
    """A word outside the choices names the option and every choice."""
    with pytest.raises(UsageError, match=f"{OPTION_OF[name]}: 'fast' is not one of "):
        kind(**{name: "fast"})


def test_methods_that_contradict_each_other_are_refused() -> None:
    """A forced method and a reflink policy that exclude one another are a usage error."""
    with pytest.raises(UsageError, match="contradict"):
        EngineOptions(copy_method="reflink", reflink="never")
    with pytest.raises(UsageError, match="contradict"):
        EngineOptions(copy_method="splice", reflink="always")
    assert EngineOptions(copy_method="reflink", reflink="always").reflink == "always"


def test_a_buffer_larger_than_the_memory_is_refused() -> None:
    """A buffer that does not fit into the budget is refused rather than made smaller."""
    with pytest.raises(UsageError, match="--buffer-size: 33554432 bytes do not fit"):
        EngineOptions(buffer_bytes=32 << 20, memory_bytes=16 << 20)


def test_an_empty_temp_dir_is_refused() -> None:
    """An empty --temp-dir is not the current directory."""
    with pytest.raises(UsageError, match="--temp-dir"):
        WritePolicy(temp_dir=b"")


def test_options_without_arguments_are_archive_mode() -> None:
    """A library call without options means what `arsync SRC DST` means."""
    assert SyncOptions().preserve == ARCHIVE
    kept = {name for name, value in dataclasses.asdict(ARCHIVE).items() if value}
    assert kept == {
        *("recursive", "links", "perms", "times", "group", "owner", "devices", "specials")
    }


@pytest.mark.parametrize("kind", [SyncOptions, EngineOptions, WritePolicy, Preserve])
def test_options_cannot_be_changed(kind: type) -> None:
    """Options are frozen: a stage cannot change what another one reads."""
    value = kind()
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, dataclasses.fields(kind)[0].name, None)
