"""Make the text of `arsync doctor`: groups of labelled lines, wrapped to the terminal.

Owns words and layout only. It returns text; the command prints it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable

from arsync.doctor.examine import Doctor, Place
from arsync.doctor.system import System
from arsync.errors import escaped
from arsync.labelled import Line, group
from arsync.model import Method
from arsync.uring.methods import BIG_BYTES, Choice, method_name
from arsync.uring.probe import OPERATIONS, Filesystem, Ring, operation_name, why_refused
from arsync.uring.trials import Abilities, Answer, Trial, Way

__all__ = ["render"]

_TELLING_OPTIONS = ("ro", "nosuid", "nodev", "noexec", "noatime", "relatime", "strictatime", "sync")

_ABILITIES = {
    "reflink": "reflinks",
    "copy_file_range": "copy_file_range",
    "tmpfile": "O_TMPFILE",
    "xattr_user": "xattrs user.*",
    "xattr_trusted": "trusted.*",
    "xattr_security": "security.*",
    "acl": "POSIX ACLs",
    "holes": "holes (SEEK_DATA)",
    "punch_hole": "punching holes",
    "preallocate": "preallocation",
    "hard_links": "hard links",
    "symlinks": "symlinks",
    "fifos": "fifos",
    "case_sensitive": "upper and lower case apart",
}

_WAYS: dict[Way, str] = {
    "inline": "at once",
    "device": "by the device",
    "worker": "by a worker",
    "missing": "no operation",
    "failed": "not tried",
}

_GRANULES = {
    1: "nanoseconds",
    1000: "microseconds",
    1_000_000: "milliseconds",
    1_000_000_000: "whole seconds",
}


def render(doctor: Doctor, width: int = 80) -> str:
    """Return the picture as text that ends in a newline.

    Args:
        doctor: what `examine` found.
        width: columns of the terminal; less than 40 are taken as 40.
    """
    groups = [
        group("system", _system(doctor.system), width),
        group("io_uring", _ring(doctor), width),
        *(group(_heading(place), _place(place), width) for place in doctor.places),
        group("what arsync will use", _use(doctor), width),
    ]
    return "\n".join(groups)


# --------------------------------------------------------------------------------- the system


def _system(system: System) -> list[Line]:
    user = "root" if system.root else "an ordinary user"
    cores = "1 core" if system.cores == 1 else f"{system.cores} cores"
    lines = [
        Line("kernel", f"Linux {system.kernel} on {system.machine}, {cores}, run by {user}"),
        Line("memory", _memory(system)),
        Line("descriptors", _soft_and_hard(system.descriptors, str)),
        Line("memlock", _memlock(system)),
    ]
    if system.seccomp:
        lines.append(Line("seccomp", "a filter may forbid system calls"))
    if system.container:
        lines.append(Line("container", f"likely: there is {system.container}"))
    return lines


def _memory(system: System) -> str:
    limit = system.cgroup_bytes
    allowed = "no limit by control groups" if limit is None else f"limited to {_size(limit)}"
    return f"{_size(system.memory_bytes)}, {allowed}"


def _memlock(system: System) -> str:
    text = _soft_and_hard(system.memlock_bytes, _size)
    return f"{text}; does not count, CAP_IPC_LOCK is held" if system.ignores_memlock else text


def _soft_and_hard(limits: tuple[int | None, int | None], form: Callable[[int], str]) -> str:
    soft, hard = ("unlimited" if limit is None else form(limit) for limit in limits)
    return soft if soft == hard else f"{soft}, up to {hard} when asked for"


# ----------------------------------------------------------------------------------- the ring


def _ring(doctor: Doctor) -> list[Line]:
    ring, system = doctor.ring, doctor.system
    if not ring.available:
        why = why_refused(ring.error, system.uring_disabled, system.seccomp)
        return [Line("refused", why)]
    return [
        Line("available", f"yes, with {', '.join(ring.flags) or 'none of the newer flags'}"),
        Line("queue depth", f"up to {ring.depth}"),
        Line("buffers", _buffers(ring)),
        Line("operations", _operations(ring)),
        Line("plain calls", f"no operation does {_join(doctor.plain_calls)}"),
    ]


def _buffers(ring: Ring) -> str:
    if not ring.buffer_error:
        return f"{_size(ring.buffer_bytes)} registered, all that was tried"
    return f"{_size(ring.buffer_bytes)} registered; more: {os.strerror(ring.buffer_error)}"


def _operations(ring: Ring) -> str:
    last = operation_name(max(ring.operations))
    missing = [name for name in OPERATIONS[: max(ring.operations)] if not ring.has(name)]
    text = f"{len(ring.operations)}, up to {last}"
    return f"{text}; not {_join(missing)}" if missing else text


# -------------------------------------------------------------------------------------- paths


def _heading(place: Place) -> str:
    return escaped(place.path)


def _place(place: Place) -> list[Line]:
    lines = [Line("examined", f"{escaped(place.examined)}, {place.note}")] if place.note else []
    lines += [
        Line("filesystem", _filesystem(place.filesystem)),
        Line("free", _free(place.filesystem)),
    ]
    if place.untried:
        return [*lines, Line("abilities", place.untried), *_known_without_trying(place)]
    return [*lines, *_abilities(place), *_ring_trials(place.trials)]


def _filesystem(filesystem: Filesystem) -> str:
    telling = [option for option in filesystem.options if option in _TELLING_OPTIONS]
    text = filesystem.kind
    if filesystem.device:
        text += f", {_printable(filesystem.device)} on {_printable(filesystem.mount_point)}"
    return f"{text} ({', '.join(telling)})" if telling else text


def _free(filesystem: Filesystem) -> str:
    space = f"{_size(filesystem.free_bytes)} of {_size(filesystem.total_bytes)}"
    if filesystem.total_inodes:
        space += f", {filesystem.free_inodes} inodes"
    return f"{space}; names up to {filesystem.name_max} bytes"


def _abilities(place: Place) -> list[Line]:
    answers = {text: _answer(place.abilities, name) for name, text in _ABILITIES.items()}
    lines = [Line("has", _join(text for text, answer in answers.items() if answer.works))]
    lacking = [
        f"{text} ({answer.why})" if answer.why else text
        for text, answer in answers.items()
        if answer.works is False
    ]
    unknown = [f"{text} ({answer.why})" for text, answer in answers.items() if answer.works is None]
    if lacking:
        lines.append(Line("lacks", _join(lacking)))
    if unknown:
        lines.append(Line("not known", _join(unknown)))
    return [*lines, Line("times", _times(place)), Line("O_DIRECT", _direct(place.abilities))]


def _answer(abilities: Abilities, name: str) -> Answer:
    answer = getattr(abilities, name)
    if not isinstance(answer, Answer):
        raise TypeError(f"{name} is {answer!r}, not an Answer")
    return answer


def _known_without_trying(place: Place) -> list[Line]:
    filesystem = place.filesystem
    lines = [Line("times", _birth(filesystem))]
    if filesystem.direct_known:
        alignment = max(filesystem.direct_memory_bytes, filesystem.direct_offset_bytes)
        lines.append(Line("O_DIRECT", f"in units of {alignment} bytes" if alignment else "no"))
    return lines


def _times(place: Place) -> str:
    granule = place.abilities.granule_ns
    unit = _GRANULES.get(granule, f"units of {granule} ns" if granule else "of unknown precision")
    multigrain = "; every change moves ctime (multigrain)" if place.multigrain else ""
    return f"{unit}, {_birth(place.filesystem)}{multigrain}"


def _birth(filesystem: Filesystem) -> str:
    return "with birth times" if filesystem.has_birth_time else "no birth times"


def _direct(abilities: Abilities) -> str:
    if abilities.direct.works:
        return f"in units of {abilities.direct_bytes} bytes"
    return f"no ({abilities.direct.why})"


def _ring_trials(ring_trials: tuple[Trial, ...]) -> list[Line]:
    lines = []
    for way, label in _WAYS.items():
        names = [_trial(trial) for trial in ring_trials if trial.way == way]
        if names:
            lines.append(Line(label, _join(names)))
    return lines


def _trial(trial: Trial) -> str:
    if trial.way != "failed":
        return trial.name
    if trial.name == "read (cold)" and trial.error == errno.EBUSY:
        return "read (cold): files stay in the cache"
    if trial.name == "read (cold)" and trial.error == errno.EOPNOTSUPP:
        return "read (cold): the kernel does not tell what is cached"
    return f"{trial.name} ({os.strerror(trial.error)})"


# -------------------------------------------------------------------------------- conclusions


def _use(doctor: Doctor) -> list[Line]:
    lines = [Line("engine", f"{doctor.engine.name}: {doctor.engine.why}")]
    if doctor.choice is None:
        return [*lines, Line("copying", "name SRC and DST to see how content would go")]
    return [*lines, *_copying(doctor.choice)]


def _copying(choice: Choice) -> list[Line]:
    big = _size(BIG_BYTES)
    return [
        Line("reading", f"{choice.reading.method}: {choice.reading.why}"),
        Line("reflinks", f"{'tried first' if choice.reflink else 'no'}: {choice.reflink_why}"),
        Line(f"below {big}", f"{method_name(choice.small.method)}: {choice.small.why}"),
        Line("above", f"{method_name(choice.big.method)}: {choice.big.why}"),
        *_with_holes(choice.big.method),
    ]


def _with_holes(big: Method) -> list[Line]:
    """Tell what a file with holes gets where others of its size go past the page cache."""
    if big is not Method.DIRECT:
        return []
    return [Line("with holes", "read_write: each stretch of data goes to its place")]


# -------------------------------------------------------------------------------------- words


def _size(count: int) -> str:
    size, units = float(count), ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
    while size >= 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{size:.4g} {units[0]}"


def _printable(text: str) -> str:
    return escaped(os.fsencode(text))


def _join(words: Iterable[str]) -> str:
    return ", ".join(words)
