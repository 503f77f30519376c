"""What is said of a run: sentences, counts, the summary, rsync's own forms."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import unicodedata
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arsync import figures
from arsync.model import (
    ChangeFlag,
    Counts,
    Failure,
    Keep,
    Kind,
    Method,
    MethodUse,
    Op,
    PageFlag,
    PhaseTime,
    Problem,
    ProblemKind,
    Progress,
    Report,
    RunWarning,
    Side,
    State,
    WarningKind,
    Why,
    sum_tallies,
)
from arsync.report import (
    KEPT_FAILURES,
    FileProgress,
    ReportBuilder,
    file_progress_line,
    run_progress_line,
    stats_table,
    summary,
    totals,
)
from arsync.wording import (
    VERBS,
    WARNING_TEXTS,
    failure_text,
    problem_text,
    vanished_text,
    warning_text,
)
from tests.kit.programs import run_arsync, run_rsync
from tests.requirements import need_rsync

HEADER = Path(__file__).resolve().parents[2] / "arsync" / "uring" / "src" / "arsync.h"
BIGGEST = 2**64 - 1


def constants(prefix: str) -> dict[str, int]:
    """Return the numbers that the header defines with a prefix."""
    found = re.findall(rf"#define {prefix}(\w+) (\d+)\b", HEADER.read_text())
    return {name: int(number) for name, number in found}


# ------------------------------------------------------------------------- the model


@pytest.mark.parametrize(
    ("prefix", "kind"),
    [
        ("AR_WHY_", Why),
        ("AR_STATE_", State),
        ("AR_METHOD_", Method),
        ("AR_PROBLEM_", ProblemKind),
        ("AR_OP_", Op),
        ("AR_RECORD_", PageFlag),
    ],
)
def test_numbers_are_those_of_the_header(prefix: str, kind: type) -> None:
    """Python's names stand for the numbers that C uses, and none is missing."""
    defined = constants(prefix)
    for limit in ("COUNT", "MOST_BYTES"):
        defined.pop(limit, None)
    assert {one.name: int(one) for one in kind} == defined


def test_change_numbers_are_those_of_the_header() -> None:
    """Kinds of changes and flags of changes share a prefix in C."""
    named = {one.name: int(one) for one in Kind} | {one.name: int(one) for one in ChangeFlag}
    assert named == constants("AR_CHANGE_")


def test_keep_numbers_are_those_of_the_header() -> None:
    """What is kept, and what modifies it."""
    defined = constants("AR_KEEP_")
    defined |= {f"OMIT_{name}": number for name, number in constants("AR_OMIT_").items()}
    assert {one.name: int(one) for one in Keep} == defined


def test_counts_have_the_fields_of_the_tally() -> None:
    """A counter that C gains reaches the report."""
    text = HEADER.read_text()
    body = text[text.index("struct ar_tally {") :]
    body = body[: body.index("};")]
    names = re.findall(r"uint64_t (\w+)", body)
    assert list(vars(Counts())) == names


def test_tallies_add_up() -> None:
    """Numbers and arrays are summed, whatever object holds them."""
    one = Counts(done_files=3, method_files=(0, 1, 0, 0, 2, 0), method_bytes=(0, 9, 0, 0, 8, 0))
    both = sum_tallies([one, SimpleNamespace(**vars(one)), Counts(failed=1)])
    assert both.done_files == 6
    assert both.method_files == (0, 2, 0, 0, 4, 0)
    assert both.method_bytes == (0, 18, 0, 0, 16, 0)
    assert both.failed == 1


# ------------------------------------------------------------------------- wording


def test_each_operation_has_words() -> None:
    """An operation that C gains needs its verb here."""
    names = set(constants("AR_OP_")) - {"COUNT"}
    assert {op.name for op in VERBS} == names
    assert all(text == text.strip() and text for text in VERBS.values())


@pytest.mark.parametrize("op", Op)
def test_each_failure_is_a_sentence(op: Op) -> None:
    """What failed first, the subject quoted, errno's text; no full stop."""
    for side in Side:
        text = failure_text(Failure(b"a/b", op, errno.EACCES, side))
        assert text.startswith(f"cannot {VERBS[op]} 'a/b': Permission denied")
        assert not text.endswith(".")


def test_failure_of_the_convention() -> None:
    """The example of the conventions is what people read."""
    failure = Failure(b"a/b", Op.OPEN_FILE, errno.EACCES, Side.SRC)
    assert failure_text(failure) == "cannot open 'a/b': Permission denied"
    below = failure._replace(root=b"/home/")
    assert failure_text(below) == "cannot open '/home/a/b': Permission denied"
    assert failure_text(below._replace(root=b"src", path=b"")).startswith("cannot open 'src'")
    assert failure_text(failure._replace(path=b"")).startswith("cannot open '.'")


def test_names_in_sentences_hold_no_control_characters() -> None:
    """A name can neither move the cursor nor begin a line of its own."""
    for text in (
        failure_text(Failure(b"a\n\x1b[2J", Op.READ, errno.EIO, Side.SRC)),
        vanished_text(b"a\n\x9b\xff"),
        warning_text(RunWarning(WarningKind.LOOP, 1, b"a\n\x07")),
    ):
        assert not any(unicodedata.category(char) == "Cc" for char in text)


@pytest.mark.parametrize(
    ("op", "error", "side", "advice"),
    [
        (Op.WRITE, errno.ENOSPC, Side.DST, "make room"),
        (Op.REFLINK, errno.EXDEV, Side.DST, "--reflink=auto"),
        (Op.OPEN_DIR, errno.EXDEV, Side.DST, "a symlink there leads out of the destination"),
        (Op.WRITE, errno.EFBIG, Side.DST, "ulimit -f"),
        (Op.RENAME, errno.EPERM, Side.DST, "lsattr"),
        (Op.READ, errno.EIO, Side.SRC, "dmesg"),
        (Op.RING_SETUP, errno.ENOMEM, Side.DST, "--engine=sync"),
        (Op.OPEN_TARGET, errno.ETXTBSY, Side.DST, "--inplace"),
    ],
)
def test_advice_follows_where_there_is_any(op: Op, error: int, side: Side, advice: str) -> None:
    """What to do stands last."""
    text = failure_text(Failure(b"f", op, error, side))
    assert advice in text.partition("; ")[2]


def test_only_what_cannot_wait_is_said_at_once() -> None:
    """Failures and vanished files have a sentence each; the others are summarised."""
    said = {
        kind: problem_text(Problem(b"f", kind, Op.READ, Side.DST, errno.EIO), b"src", b"dst")
        for kind in ProblemKind
    }
    assert said.pop(ProblemKind.FAILED) == (
        "cannot read 'dst/f': Input/output error; the medium may be failing, see dmesg"
    )
    assert said.pop(ProblemKind.VANISHED) == "vanished before it was read: 'dst/f'"
    assert set(said.values()) == {None}


def test_each_warning_has_words() -> None:
    """Every kind has its text, and its line says how many, which first and why."""
    assert set(WARNING_TEXTS) == set(WarningKind)
    text = warning_text(RunWarning(WarningKind.NO_XATTRS, 120, b"a/b", errno.EOPNOTSUPP))
    assert text == (
        "the destination cannot hold some extended attributes: "
        "120 entries, first 'a/b': Operation not supported"
    )
    assert warning_text(RunWarning(WarningKind.UNSAFE, 1, b"l")).endswith(": 1 entry, first 'l'")


# ------------------------------------------------------------------------- the builder


def problem(kind: ProblemKind, op: Op = Op.READ, path: bytes = b"f") -> Problem:
    """Return a problem of the destination."""
    return Problem(path, kind, op, Side.DST, errno.EIO)


def built(*problems: Problem, end: Report | None = None) -> Report:
    """Return the report of a run that had these problems."""
    builder = ReportBuilder()
    builder.add_problems(problems, b"src", b"dst")
    return builder.finish(end or Report())


@pytest.mark.parametrize(
    ("problems", "code"),
    [
        ([], 0),
        ([problem(ProblemKind.VANISHED)], 24),
        ([problem(ProblemKind.VANISHED), problem(ProblemKind.FAILED)], 23),
        ([problem(ProblemKind.CANNOT_HOLD, Op.SET_ACL)], 23),
        ([problem(ProblemKind.LOOP)], 23),
        ([problem(ProblemKind.UNSTABLE)], 0),
        ([problem(ProblemKind.SKIPPED)], 0),
        ([problem(ProblemKind.UNSAFE)], 0),
        ([problem(ProblemKind.CANNOT_HOLD, Op.ALLOCATE)], 0),
        ([problem(ProblemKind.UNSTABLE), problem(ProblemKind.VANISHED)], 24),
    ],
)
def test_exit_code_follows_the_worst(problems: list[Problem], code: int) -> None:
    """24 only when nothing worse happened, 0 when nothing is missing."""
    assert built(*problems).exit_code == code


def test_a_run_that_ended_early_has_its_own_code() -> None:
    """What stopped the run wins over failures, a signal over both."""
    failed = problem(ProblemKind.FAILED)
    assert built(failed, end=Report(stopped="disk full", stopped_code=11)).exit_code == 11
    assert built(failed, end=Report(interrupted=True, stopped_code=11)).exit_code == 20


def test_failures_are_bounded_and_counted() -> None:
    """However much fails, the report stays small and the number true."""
    builder = ReportBuilder()
    for number in range(KEPT_FAILURES + 5):
        name = b"%d" % number
        kinds = (ProblemKind.FAILED, ProblemKind.VANISHED)
        builder.add_problems([problem(kind, path=name) for kind in kinds])
    report = builder.finish(Report())
    assert report.failure_count == report.vanished_count == KEPT_FAILURES + 5
    assert len(report.failures) == len(report.vanished) == KEPT_FAILURES
    assert report.failures[0].path == report.vanished[0] == b"0"


def test_failures_know_the_root_of_their_side() -> None:
    """A message can name the whole path."""
    assert built(problem(ProblemKind.FAILED)).failures[0].root == b"dst"


def test_warnings_are_one_a_kind() -> None:
    """The first name and errno stay, the number grows."""
    report = built(
        problem(ProblemKind.CANNOT_HOLD, Op.SET_XATTR, b"first"),
        problem(ProblemKind.CANNOT_HOLD, Op.REMOVE_XATTR, b"second"),
        problem(ProblemKind.CANNOT_HOLD, Op.READ, b"odd"),
        problem(ProblemKind.SKIPPED, Op.NONE, b"fifo"),
    )
    assert report.warnings == (
        RunWarning(WarningKind.NO_XATTRS, 2, b"first", errno.EIO),
        RunWarning(WarningKind.NOT_HELD, 1, b"odd", errno.EIO),
        RunWarning(WarningKind.SKIPPED, 1, b"fifo", errno.EIO),
    )


def test_methods_are_those_used_most_first() -> None:
    """Methods that moved nothing are left out."""
    counts = Counts(method_files=(0, 1, 0, 0, 7, 0), method_bytes=(0, 900, 0, 0, 10, 0))
    assert Report(counts=counts).methods == (
        MethodUse(Method.REFLINK, 1, 900),
        MethodUse(Method.READ_WRITE, 7, 10),
    )


# ------------------------------------------------------------------------- the summary

BUSY = Report(
    counts=Counts(
        found_files=100_001,
        found_dirs=12_002,
        found_symlinks=7_912,
        found_bytes=2_610_000_000,
        plan_files=100_001,
        plan_bytes=2_610_000_000,
        plan_metas=3,
        new_dirs=12_002,
        done_files=100_001,
        done_dirs=12_002,
        done_symlinks=7_912,
        done_links=41,
        done_metas=120,
        done_bytes=2_610_000_000,
        retries=1,
        method_files=(0, 0, 0, 0, 100_000, 1),
        method_bytes=(0, 0, 0, 0, 2_600_000_000, 10_000_000),
    ),
    elapsed_s=3.21,
    engine="uring",
    lanes=2,
)


def test_summary_of_a_busy_run() -> None:
    """One glance: what was copied, how fast, by what."""
    assert summary(BUSY) == (
        "copied 100,001 files, 2.61 GB in 3.2 s, 813 MB/s\n"
        "  also     12,002 directories, 7,912 symlinks, 41 hard links,\n"
        "           120 changes of attributes\n"
        "  found    119,915 entries, 2.61 GB\n"
        "  engine   uring, 2 lanes; read_write 100,000 files (2.60 GB);\n"
        "           direct 1 file (10.0 MB)\n"
        "  again    1 operation tried again\n"
    )


def test_what_was_compared() -> None:
    """Summary and --stats have it where there was a comparison, and else no line."""
    counts = replace(BUSY.counts, checked_files=4321, checked_bytes=10**9)
    report = replace(BUSY, counts=counts)
    assert "  compared 4,321 files of equal size, 1.00 GB\n" in summary(report)
    assert "Number of regular files compared: 4,321\n" in stats_table(report)
    assert "Total compared file size: 1,000,000,000 bytes\n" in stats_table(report)
    assert "compared" not in summary(BUSY) + stats_table(BUSY)


def test_no_number_is_grouped_without_human_readable() -> None:
    """--no-h: plain digits in the summary, the table and the warnings, also of files."""
    warning = RunWarning(WarningKind.NO_ACLS, 4321, b"a", errno.EOPNOTSUPP)
    report = replace(BUSY, warnings=(warning,), vanished=(b"v",), vanished_count=5432)
    text = summary(report, 200, 0) + stats_table(report, 0) + totals(report, 0)
    assert not re.search(r"\d,\d", text)
    assert text.startswith("copied 100001 files, 2610000000 bytes in 3.2 s, 813084112 B/s\n")
    assert "4321 entries, first 'a'" in text
    assert "5432 entries, first 'v'" in text


@pytest.mark.parametrize("words", ["--no-h", "", "-h", "-hh"])
def test_counts_of_files_have_rsyncs_digits(tmp_path: Path, words: str) -> None:
    """They are grouped at most, never scaled."""
    need_rsync()
    (tmp_path / "src").mkdir()
    for number in range(1234):
        (tmp_path / f"src/{number}").touch()
    args = ["-an", "--stats", *words.split(), f"{tmp_path}/src/", f"{tmp_path}/dst"]
    labels = (b"Number of files", b"Number of regular files")
    ours, theirs = (
        [line for line in ran.stdout.splitlines() if line.startswith(labels)]
        for ran in (run_arsync(args), run_rsync(args))
    )
    assert len(ours) == 2
    assert ours == theirs


def test_summary_says_how_a_run_ended() -> None:
    """A dry run, a signal and a full disk are not taken for a finished copy."""
    end = {"counts": BUSY.counts, "elapsed_s": 1.0}
    assert summary(Report(**end, dry_run=True)).startswith("would copy 100,001 files, 2.61 GB (dry")
    assert summary(Report(**end, interrupted=True)).startswith("interrupted: copied 100,001 files")
    stopped = summary(Report(**end, stopped="no space left\n", stopped_code=11))
    assert stopped.startswith("stopped: copied")
    assert "no space left\\#012" in stopped


def test_summary_names_what_went_wrong() -> None:
    """Warnings, vanished files and failures each have their line."""
    text = summary(
        built(
            problem(ProblemKind.FAILED, path=b"x" * 500),
            problem(ProblemKind.FAILED),
            problem(ProblemKind.VANISHED, path=b"gone"),
            problem(ProblemKind.UNSTABLE, path=b"log"),
            end=Report(engine_note="io_uring is refused"),
        )
    )
    assert "\n  warning  changed while they were read, the last read was kept: 1 entry," in text
    assert "\n  vanished 1 entry, first 'gone'\n" in text
    assert "\n  failed   2 entries, first: cannot read 'dst/xxx" in text
    assert "x" * 100 not in text
    assert "io_uring is refused" in text


@given(
    numbers=st.lists(st.sampled_from([0, 1, 999, 10**12, BIGGEST]), min_size=25, max_size=25),
    level=st.integers(0, 3),
    name=st.binary(max_size=300).filter(lambda name: b"\0" not in name),
    width=st.sampled_from([30, 40, 80, 132]),
)
def test_summary_fits_its_columns(numbers: list[int], level: int, name: bytes, width: int) -> None:
    """However large the numbers and odd the names, no line is wider than the terminal."""
    fields = dict(zip(vars(Counts()), numbers, strict=False))
    fields.update(method_files=tuple(numbers[:6]), method_bytes=tuple(numbers[6:12]))
    builder = ReportBuilder()
    builder.add_problems([problem(kind, path=name) for kind in ProblemKind], name, name)
    report = builder.finish(Report(counts=Counts(**fields), elapsed_s=numbers[-1], lanes=1024))
    lines = summary(report, width, level).splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) >= 6


# ------------------------------------------------------------------------- as rsync


def test_stats_are_rsyncs_lines(tmp_path: Path) -> None:
    """What scripts look for in --stats reads as rsync writes it."""
    need_rsync()
    src = tmp_path / "src"
    (src / "d").mkdir(parents=True)
    (src / "a").write_bytes(bytes(1_234_567))
    (src / "d" / "b").write_bytes(b"12")
    os.mkfifo(src / "p")
    counts = Counts(
        found_files=2,
        found_dirs=2,
        found_specials=1,
        found_bytes=1_234_569,
        new_files=2,
        new_dirs=2,
        new_specials=1,
        done_files=2,
        done_bytes=1_234_569,
        method_files=(0, 0, 0, 0, 2, 0),
        method_bytes=(0, 0, 0, 0, 1_234_569, 0),
    )
    for level, words in enumerate((["--no-h"], [], ["-h"], ["-hh"])):
        command = ["rsync", "-a", "--stats", *words, f"{src}/", f"{tmp_path}/dst{level}/"]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
        theirs = dict(line.split(": ", 1) for line in ran.stdout.splitlines() if ": " in line)
        table = stats_table(Report(counts=counts, phases=(PhaseTime("walk", 0.5),)), level)
        ours = dict(line.split(": ", 1) for line in table.splitlines())
        assert ours.pop("Time of walk") == "0.500 seconds"
        for label in ("Total bytes sent", "Total bytes received"):
            assert label in theirs
            ours.pop(label)
        assert ours == {label: theirs[label] for label in ours}
        assert len(ours) == 8


def test_totals_are_rsyncs_last_lines(tmp_path: Path) -> None:
    """Both lines have rsync's words, and the shared bytes of a reflink were not sent."""
    need_rsync()
    (tmp_path / "f").write_bytes(bytes(100_000))
    command = ["rsync", "-v", "-n", f"{tmp_path}/f", f"{tmp_path}/dst"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    theirs = "\n".join(ran.stdout.splitlines()[-2:])
    counts = Counts(found_bytes=100_000, plan_bytes=50_000)
    ours = totals(Report(counts=counts, elapsed_s=2.0, dry_run=True))
    assert ours == (
        "sent 50,000 bytes  received 0 bytes  25,000.00 bytes/sec\n"
        "total size is 100,000  speedup is 2.00 (DRY RUN)\n"
    )
    assert re.sub(r"[\d.,]+", "N", ours).strip() == re.sub(r"[\d.,]+", "N", theirs)
    shared = Counts(
        found_bytes=9,
        done_bytes=9,
        method_files=(0, 1, 0, 0, 0, 0),
        method_bytes=(0, 9, 0, 0, 0, 0),
    )
    assert totals(Report(counts=shared)).startswith("sent 0 bytes")
    assert "Matched data: 9 bytes" in stats_table(Report(counts=shared))
    assert totals(Report(counts=counts, elapsed_s=2.0, dry_run=True), 2).startswith("sent 50.00K")


def test_holes_are_literal_data_and_a_dry_run_has_none() -> None:
    """As rsync counts: a hole is data that was read, and -n reads nothing."""
    counts = Counts(
        found_bytes=5003,
        plan_bytes=5003,
        done_bytes=3,
        hole_bytes=5000,
        method_files=(0, 0, 0, 0, 2, 0),
        method_bytes=(0, 0, 0, 0, 5003, 0),
    )
    ran = stats_table(Report(counts=counts))
    assert "Literal data: 5,003 bytes" in ran
    assert "Total bytes sent: 5,003" in ran
    assert "speedup is 1.00" in totals(Report(counts=counts))
    planned = stats_table(Report(counts=counts, dry_run=True))
    assert "Literal data: 0 bytes" in planned
    assert "Total transferred file size: 5,003 bytes" in planned


def test_lines_of_progress_are_rsyncs() -> None:
    """Lines that rsync 3.5.0 printed, made from the numbers in them."""
    whole = FileProgress(
        done_bytes=300_000_000,
        size=300_000_000,
        elapsed_s=300_000_000 / (899.59 * 1024 * 1024),
        number=1,
        to_check=2,
        total=4,
    )
    assert file_progress_line(whole) == (
        "\r    300,000,000 100%  899.59MB/s    0:00:00 (xfr#1, to-chk=2/4)\n"
    )
    assert file_progress_line(whole, 2).startswith("\r        300.00M 100%")
    part = FileProgress(
        done_bytes=32_768,
        size=20_000_000,
        elapsed_s=32_768 / (100.31 * 1024),
        number=1,
        to_check=1,
        total=4,
        ended=False,
    )
    assert file_progress_line(part) == "\r         32,768   0%  100.31kB/s    0:03:14  "
    empty = FileProgress(done_bytes=0, size=0, elapsed_s=0, number=3, to_check=0, total=4)
    assert file_progress_line(empty) == (
        "\r              0 100%    0.00kB/s    0:00:00 (xfr#3, to-chk=0/4)\n"
    )
    slow = FileProgress(
        done_bytes=1, size=2**62, elapsed_s=100, number=1, to_check=0, total=1, ended=False
    )
    assert "??:??:??" in file_progress_line(slow)


def test_progress_of_the_run_is_rsyncs_line() -> None:
    """--info=progress2: ir-chk while the walk goes on, to-chk after it, a newline at the end."""
    counts = Counts(
        found_files=3, found_dirs=1, plan_files=3, plan_bytes=400, done_files=1, moved_bytes=100
    )
    line = run_progress_line(Progress(counts=counts, settled=2, elapsed_s=1.0))
    assert line == "\r            100  25%    0.10kB/s    0:00:01 (xfr#1, ir-chk=2/4)"
    last = run_progress_line(Progress(counts=counts, elapsed_s=1.0, exact=True), ended=True)
    assert last.endswith("(xfr#1, to-chk=0/4)\n")


# ------------------------------------------------------------------------- figures


SIZES = [0, 1, 999, 1000, 1023, 1024, 9999, 99_950, 99_999, 999_999, 10**6, 2**20 - 1, 2**20]
SIZES += [123_456_789, 999_999_999, 10**9, 2**30, 10**12, 2**40, 5 * 10**12]


def test_sizes_are_written_as_rsync_does(tmp_path: Path) -> None:
    """All four levels of --human-readable."""
    need_rsync()
    path = tmp_path / "f"
    path.write_bytes(b"")
    for number in SIZES:
        os.truncate(path, number)
        command = ["rsync", "-n", "--out-format=%l|%'l|%''l|%'''l", path, tmp_path / "dst"]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
        assert [figures.human(number, level) for level in range(4)] == ran.stdout.strip().split("|")


@pytest.mark.parametrize(
    ("byte_count", "level", "text"),
    [
        (0, 1, "0 bytes"),
        (1, 1, "1 byte"),
        (999, 2, "999 bytes"),
        (1000, 1, "1.00 kB"),
        (1024, 3, "1.00 KiB"),
        (999_999, 1, "1.00 MB"),
        (2_610_000_000, 1, "2.61 GB"),
        (26_100_000_000, 2, "26.1 GB"),
        (261_000_000_000, 1, "261 GB"),
        (BIGGEST, 1, "18447 PB"),
        (2_610_000_000, 0, "2610000000 bytes"),
    ],
)
def test_sizes_in_sentences(byte_count: int, level: int, text: str) -> None:
    """Three digits and a unit."""
    assert figures.size(byte_count, level) == text


@pytest.mark.parametrize(
    ("elapsed_s", "text"),
    [
        (0.004, "0.00 s"),
        (0.99, "0.99 s"),
        (0.999, "1.0 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1:00"),
        (3723, "1:02:03"),
        (90_061, "1d 01:01:01"),
    ],
)
def test_durations_in_sentences(elapsed_s: float, text: str) -> None:
    """Short ones in seconds, long ones as on a clock."""
    assert figures.seconds(elapsed_s) == text


def test_rates_and_counts() -> None:
    """A rate is a size a second; a count goes with its noun."""
    assert figures.rate(813_000_000) == "813 MB/s"
    assert figures.rate(1, 0) == "1 B/s"
    assert figures.rate(12.5) == "12 B/s"
    assert figures.counted(1, "entry", "entries") == "1 entry"
    assert figures.counted(2000, "file") == "2,000 files"
    assert figures.counted(2000, "file", level=0) == "2000 files"
    assert figures.counted(2000, "file", level=3) == "2,000 files"
