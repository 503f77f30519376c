"""The JSON of a run: one object a line, whatever the names are."""

from __future__ import annotations

import base64
import errno
import io
import json
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arsync import events
from arsync.events import SCHEMA, EventWriter
from arsync.model import (
    Change,
    ChangeFlag,
    Counts,
    Failure,
    Kind,
    Method,
    Op,
    PhaseTime,
    Progress,
    Report,
    RunWarning,
    Side,
    State,
    WarningKind,
    Why,
)
from arsync.options import SyncOptions, WritePolicy

NAMES = st.binary(min_size=1, max_size=50).filter(lambda name: b"\0" not in name)


class Stream(io.StringIO):
    """Count flushes."""

    flushes = 0

    def flush(self) -> None:
        """Count."""
        self.flushes += 1


def written(stream: io.StringIO) -> list[dict[str, Any]]:
    """Return the events of a stream, after looking at their form."""
    lines = stream.getvalue().splitlines(keepends=True)
    assert all(line.endswith("\n") and line.isascii() for line in lines)
    found = [json.loads(line) for line in lines]
    assert all(one["schema"] == SCHEMA for one in found)
    return found


def name_of(event: dict[str, Any], field: str = "path") -> bytes:
    """Return the bytes of a name."""
    coded = event.get(f"{field}_b64")
    return base64.b64decode(coded) if coded is not None else event[field].encode()


@given(path=NAMES, link=NAMES)
def test_names_of_any_bytes_come_back(path: bytes, link: bytes) -> None:
    """path_b64 is there when, and only when, path is not all of it."""
    stream = io.StringIO()
    writer = EventWriter(stream)
    writer.entry(Change(path, Kind.SYMLINK, Why.NEW, mode=0o120777, link=link))
    writer.error(Failure(path, Op.READ, errno.EIO, Side.SRC, link))
    writer.vanished(path)
    writer.warning(RunWarning(WarningKind.UNSTABLE, 2, path))
    entry, error, vanished, warning = written(stream)
    assert name_of(entry) == name_of(error) == name_of(vanished) == name_of(warning) == path
    assert name_of(entry, "link") == name_of(error, "root") == link
    try:
        path.decode()
        assert "path_b64" not in entry
    except UnicodeDecodeError:
        assert "\ufffd" in entry["path"]


def test_entry_says_everything_about_a_change() -> None:
    """Reasons by name, the method, and the hash where there is one."""
    stream = io.StringIO()
    change = Change(
        b"a/b",
        Kind.DATA,
        Why.SIZE | Why.MTIME | Why.CONTENT,
        State.DONE,
        Method.READ_WRITE,
        ChangeFlag.HASHED,
        done_bytes=17,
        hash=bytes(range(16)),
    )
    EventWriter(stream).entry(change)
    assert written(stream) == [
        {
            "event": "entry",
            "schema": 1,
            "path": "a/b",
            "kind": "data",
            "type": "file",
            "reasons": ["size", "mtime", "content"],
            "state": "done",
            "bytes": 17,
            "method": "read_write",
            "xxh128": "000102030405060708090a0b0c0d0e0f",
        }
    ]


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("state", State)
def test_each_kind_and_state_has_a_word(kind: Kind, state: State) -> None:
    """Numbers never reach a reader; the root is a dot."""
    stream = io.StringIO()
    EventWriter(stream).entry(Change(b"", kind, 0, state, mode=0o40755))
    (entry,) = written(stream)
    assert (entry["path"], entry["type"]) == (".", "directory")
    assert (entry["kind"], entry["state"]) == (kind.name.lower(), state.name.lower())
    assert entry["reasons"] == []


def test_start_tells_roots_and_options() -> None:
    """What the run was asked for is there, names of any bytes too."""
    stream = io.StringIO()
    options = SyncOptions(write=WritePolicy(temp_dir=b"/tmp/\xff"))
    EventWriter(stream).start("1.2.3", [b"a/", b"\xff"], b"dst", options)
    (start,) = written(stream)
    assert start["event"] == "start"
    assert start["version"] == "1.2.3"
    assert [name_of(one) for one in start["sources"]] == [b"a/", b"\xff"]
    assert name_of(start["destination"]) == b"dst"
    assert start["options"]["preserve"]["recursive"] is True
    assert start["options"]["write"]["temp_dir"] == "/tmp/\ufffd"
    assert start["options"]["chmod"] == []


def test_error_tells_what_failed() -> None:
    """The errno by number and name, the operation, the side, and the sentence."""
    stream = io.StringIO()
    EventWriter(stream).error(Failure(b"f", Op.OPEN_FILE, errno.EACCES, Side.SRC))
    (error,) = written(stream)
    assert error == {
        "event": "error",
        "schema": 1,
        "path": "f",
        "op": "open_file",
        "errno": errno.EACCES,
        "errno_name": "EACCES",
        "side": "src",
        "message": "cannot open 'f': Permission denied",
    }


def test_summary_holds_the_report() -> None:
    """Every field of the report, and what it works out."""
    stream = io.StringIO()
    report = Report(
        counts=Counts(done_files=2, done_bytes=10, method_files=(0, 2, 0, 0, 0, 0)),
        elapsed_s=2.0,
        phases=(PhaseTime("walk", 1.5),),
        engine="uring",
        lanes=2,
        failures=(Failure(b"\xff", Op.READ, errno.EIO, Side.SRC),),
        failure_count=1,
        vanished=(b"v",),
        vanished_count=1,
        warnings=(RunWarning(WarningKind.NO_ACLS, 3, b"w", errno.ENOTSUP),),
        stopped="odd \udcff",
    )
    EventWriter(stream).summary(report)
    (summary,) = written(stream)
    derived = {"event", "schema", "exit_code", "files", "bytes", "bytes_per_s", "methods"}
    assert set(summary) == set(vars(report)) | derived
    assert summary["exit_code"] == 23
    assert summary["bytes_per_s"] == 5
    assert summary["methods"] == [{"method": "reflink", "files": 2, "bytes": 0}]
    assert summary["phases"] == [{"name": "walk", "seconds": 1.5}]
    assert name_of(summary["failures"][0]) == b"\xff"
    assert summary["vanished"] == [{"path": "v"}]
    assert summary["warnings"][0]["kind"] == "no_acls"
    assert summary["counts"]["method_files"] == [0, 2, 0, 0, 0, 0]
    assert summary["stopped"] == "odd \ufffd"


def test_progress_is_written_ten_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """More often than that it is dropped, but the last one never."""
    now_s = 100.0
    monkeypatch.setattr(events.time, "monotonic", lambda: now_s)
    stream = io.StringIO()
    writer = EventWriter(stream)
    for step in range(100):
        now_s = 100.0 + step * 0.01
        writer.progress(Progress(counts=Counts(done_files=step), elapsed_s=step * 0.01))
    assert 9 <= len(written(stream)) <= 11
    writer.progress(Progress(counts=Counts(done_files=100), exact=True), last=True)
    last = written(stream)[-1]
    assert last["counts"]["done_files"] == 100
    assert last["exact"] is True


def test_what_is_read_meanwhile_is_flushed() -> None:
    """Entries are many and wait; everything else reaches the reader at once."""
    stream = Stream()
    writer = EventWriter(stream)
    writer.entry(Change(b"f", Kind.DATA))
    assert stream.flushes == 0
    writer.progress(Progress())
    writer.vanished(b"f")
    assert stream.flushes == 2


def test_threads_do_not_mix_their_lines() -> None:
    """Each event is one line, however many threads write."""
    stream = io.StringIO()
    writer = EventWriter(stream)

    def write() -> None:
        for number in range(200):
            writer.entry(Change(b"%d" % number, Kind.DATA, Why.NEW))

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written(stream)) == 800


def test_values_without_a_form_in_json_become_text() -> None:
    """Options may hold enumerations, mappings and sets."""
    stream = io.StringIO()
    options = {"enum": Kind.DATA, "nested": {1: {b"x"}}, "none": None, "object": 1j}
    EventWriter(stream).start("0", [], b"", options)
    (start,) = written(stream)
    assert start["options"] == {
        "enum": "data",
        "nested": {"1": ["x"]},
        "none": None,
        "object": "1j",
    }
