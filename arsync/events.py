"""Write what happens as JSON, one object a line: the --json of a run.

Owns the schema. Each object has `event` and `schema`; fields may be added under one schema number,
never renamed or dropped. A name is `path`, and where that is not what the bytes are (not UTF-8),
`path_b64` holds them. What an event says is decided here, where it goes is the caller's.

    start     version, roots, options
    entry     path, kind, type, reasons, state, bytes, method, link, xxh128 (where it was computed)
    error     path, op, errno, errno_name, side, message
    warning   kind, count, path (the first), errno, message
    progress  phase, elapsed_s, exact, counts
    summary   everything in model.Report
    difference  path, how, src, dst, action: an entry that is not as a plan says
"""

from __future__ import annotations

import base64
import enum
import errno
import json
import os
import stat
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from types import MappingProxyType
from typing import Any, Final, Protocol

from arsync.model import (
    Change,
    Failure,
    Kind,
    Method,
    Op,
    Progress,
    Report,
    RunWarning,
    Side,
    State,
    Why,
)
from arsync.wording import failure_text, vanished_text, warning_text

__all__ = ["SCHEMA", "TYPES", "EventWriter", "TextStream", "named"]

SCHEMA: Final = 1

_PROGRESS_S: Final = 0.1

TYPES: Final[Mapping[int, str]] = MappingProxyType(
    {
        stat.S_IFREG: "file",
        stat.S_IFDIR: "directory",
        stat.S_IFLNK: "symlink",
        stat.S_IFBLK: "block_device",
        stat.S_IFCHR: "character_device",
        stat.S_IFIFO: "fifo",
        stat.S_IFSOCK: "socket",
    }
)
"""What a type is called, by the bits of its mode."""

_KINDS: Final = {int(kind): kind.name.lower() for kind in Kind}
_STATES: Final = {int(state): state.name.lower() for state in State}
_METHODS: Final = {int(method): method.name.lower() for method in Method}
_REASONS: Final = tuple((int(why), str(why.name).lower()) for why in Why)

_Fields = dict[str, Any]


class TextStream(Protocol):
    """Be what events are written to."""

    def write(self, text: str, /) -> object:
        """Take text."""

    def flush(self) -> object:
        """Pass on what was taken."""


class EventWriter:
    """Write events to a stream; any thread may call.

    Args:
        stream: of text; each event is one write of a line. What is read while the run goes on
            (all but entries) is flushed.
    """

    def __init__(self, stream: TextStream) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._next_progress = 0.0

    def start(
        self, version: str, sources: Sequence[bytes], destination: bytes, options: object
    ) -> None:
        """Write that a run begins.

        Args:
            sources, destination: as the user wrote them.
            options: a dataclass, as options.SyncOptions.
        """
        roots = {
            "sources": [named("path", path) for path in sources],
            "destination": named("path", destination),
        }
        self._write("start", {"version": version, **roots, "options": _plain(options)})

    def entry(self, change: Change) -> None:
        """Write one changed entry, or one that needs nothing: that has no reasons."""
        self._write("entry", _entry(change), flush=False)

    def error(self, failure: Failure) -> None:
        """Write that an entry failed."""
        self._write("error", _failure(failure))

    def vanished(self, path: bytes, root: bytes = b"") -> None:
        """Write that a source entry went away before it was read, as an error without an errno."""
        found = named("path", path)
        self._write("error", {**found, "op": "vanished", "message": vanished_text(path, root)})

    def warning(self, warning: RunWarning) -> None:
        """Write a warning that stands for all entries of its kind."""
        self._write("warning", _warning(warning))

    def progress(self, progress: Progress, *, last: bool = False) -> None:
        """Write where the run is, at most ten times a second.

        Args:
            last: write it whenever the one before was.
        """
        now = time.monotonic()
        if now < self._next_progress and not last:
            return
        self._next_progress = now + _PROGRESS_S
        self._write("progress", _plain(progress))

    def difference(
        self, path: bytes, how: str, src: Sequence[str], dst: Sequence[str], *, action: bool
    ) -> None:
        """Write one entry that is not as a plan says.

        Args:
            how: "changed", "new" or "gone".
            src, dst: what differs of it on each side.
            action: what would be done differs.
        """
        found = named("path", path)
        sides = {"src": list(src), "dst": list(dst)}
        self._write("difference", {**found, "how": how, **sides, "action": action}, flush=False)

    def summary(self, report: Report) -> None:
        """Write everything that is known at the end."""
        self._write("summary", _report(report))

    def _write(self, event: str, content: Mapping[str, Any], *, flush: bool = True) -> None:
        line = _encode({"event": event, "schema": SCHEMA, **content}) + "\n"
        with self._lock:
            self._stream.write(line)
            if flush:
                self._stream.flush()


_encode: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True).encode


def named(field: str, name: bytes) -> dict[str, Any]:
    """Return a name as text, and as base64 where the text is not what it is."""
    try:
        return {field: name.decode()}
    except UnicodeDecodeError:
        encoded = base64.b64encode(name).decode("ascii")
        return {field: name.decode("utf-8", "replace"), f"{field}_b64": encoded}


def _entry(change: Change) -> _Fields:
    found = named("path", change.path or b".")
    found["kind"] = _KINDS[change.kind]
    found["type"] = TYPES[stat.S_IFMT(change.mode)]
    found["reasons"] = [name for bit, name in _REASONS if change.why & bit]
    found["state"] = _STATES[change.state]
    found["bytes"] = change.done_bytes
    if change.method:
        found["method"] = _METHODS[change.method]
    if change.link:
        found.update(named("link", change.link))
    if change.hash:
        found["xxh128"] = change.hash.hex()
    return found


def _failure(failure: Failure) -> _Fields:
    return {
        **named("path", failure.path),
        **(named("root", failure.root) if failure.root else {}),
        "op": Op(failure.op).name.lower(),
        "errno": failure.errno,
        "errno_name": errno.errorcode.get(failure.errno, ""),
        "side": Side(failure.side).name.lower(),
        "message": failure_text(failure),
    }


def _warning(warning: RunWarning) -> _Fields:
    return {
        "kind": warning.kind.value,
        "count": warning.count,
        **named("path", warning.first or b"."),
        "errno": warning.errno,
        "message": warning_text(warning),
    }


def _report(report: Report) -> _Fields:
    return {
        "exit_code": report.exit_code,
        "files": report.copied_files,
        "bytes": report.copied_bytes,
        "bytes_per_s": round(report.bytes_per_s),
        "elapsed_s": report.elapsed_s,
        "phases": [_plain(phase._asdict()) for phase in report.phases],
        "engine": report.engine,
        "engine_note": report.engine_note,
        "manifest_note": report.manifest_note,
        "lanes": report.lanes,
        "methods": [_plain(use._asdict()) for use in report.methods],
        "counts": _plain(report.counts),
        "failures": [_failure(failure) for failure in report.failures],
        "failure_count": report.failure_count,
        "vanished": [named("path", path) for path in report.vanished],
        "vanished_count": report.vanished_count,
        "warnings": [_warning(warning) for warning in report.warnings],
        "kept_back": _plain(report.kept_back),
        "stopped": _plain(report.stopped),
        "stopped_code": report.stopped_code,
        "interrupted": report.interrupted,
        "dry_run": report.dry_run,
    }


def _plain(value: object) -> Any:
    """Return a value as what JSON has: dataclasses as objects, enumerations by their names."""
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, enum.Enum):
        return value.name.lower()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, str):
        return os.fsencode(value).decode("utf-8", "replace")
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return str(value)
