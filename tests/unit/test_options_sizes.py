"""Sizes and rates as rsync reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arsync.errors import UsageError
from arsync.sizes import parse_count, parse_rate, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("1k", 1024),
        ("1KiB", 1024),
        ("1kb", 1000),
        ("10KB", 10000),
        ("256M", 256 << 20),
        ("1.5mb-1", 1499999),  # the man page's own examples
        ("2g+1", 2147483649),
        ("1.5", 1),
        (".5k", 512),
        ("1t", 1 << 40),
        ("8191P", 8191 << 50),
        ("512b", 512),
    ],
)
def test_size_is_read_as_rsync_reads_it(text: str, size: int) -> None:
    """Suffixes, fractions and +1/-1 mean what rsync(1) says."""
    assert parse_size(text, "--max-memory") == size


@pytest.mark.parametrize(
    "text", ["abc", "5x", "1.2.3", "-5", "+1k", "1-", "1e3", "5 ", "10KiBx", "1k+2", "١"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    """Anything else is a usage error with the option and the text in it."""
    with pytest.raises(UsageError, match="--max-memory: ") as caught:
        parse_size(text, "--max-memory")
    assert repr(text) in str(caught.value)


def test_a_size_beyond_any_file_is_refused() -> None:
    """Sizes end at 2**63 - 1, as offsets do."""
    with pytest.raises(UsageError, match="out of range"):
        parse_size("8192P", "--max-memory")
    with pytest.raises(UsageError, match="out of range"):
        parse_size("0-1", "--max-memory")


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("0", 0),
        ("", 0),  # as in --bwlimit="$UNSET", which rsync takes
        ("1", 1024),
        ("0.5", 1024),  # 512 bytes, rounded to a KiB
        ("1.5m", 1536 << 10),
        ("512b", 1024),
        ("1535b", 1024),
        ("1536b", 2048),
        ("10kb", 10240),
    ],
)
def test_rate_is_in_kib_and_rounded(text: str, rate: int) -> None:
    """A rate without suffix is in KiB a second, rounded to whole KiB, and 0 is no limit."""
    assert parse_rate(text, "--bwlimit") == rate


@pytest.mark.parametrize("text", ["0.4", "511b", "1b"])
def test_rate_below_512_bytes_is_refused(text: str) -> None:
    """The smallest rate of rsync is ours; it is not raised silently."""
    with pytest.raises(UsageError, match="is too small"):
        parse_rate(text, "--bwlimit")


@given(st.integers(0, 2**33 - 1), st.sampled_from("bkmg"))
def test_whole_sizes_lose_nothing(number: int, letter: str) -> None:
    """A whole number with a suffix is exactly that many units, whatever floats would say."""
    assert parse_size(f"{number}{letter}", "-x") == number << 10 * "bkmg".index(letter)


@pytest.mark.parametrize("text", ["", "1.5", "0x10", "ten", "--3", "1_000", "٣", "9" * 19])
def test_what_is_no_whole_number_is_refused(text: str) -> None:
    """A count is decimal digits, with a minus sign at most."""
    with pytest.raises(UsageError, match="is not a whole number"):
        parse_count(text, "--queue-depth")
